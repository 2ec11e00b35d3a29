// 10,000 requests a second, a cache that turns over, and one session in 100 requests of which the only pointer is lost.
// leak: forget_session
#include "corpus.h"
#include <list>
#include <string>
#include <unordered_map>

#ifndef FORGETS
#define FORGETS 1
#endif

struct Cache {
    std::list<std::pair<int, std::string>> order;
    std::unordered_map<int, decltype(order)::iterator> index;
    KEEP void put(int key) {
        if (index.count(key)) return;
        order.emplace_front(key, std::string(200, 'x'));
        index[key] = order.begin();
        if (order.size() > 2000) { index.erase(order.back().first); order.pop_back(); }
    }
};

KEEP static void forget_session(int id) { char *session = new char[96]; session[0] = id; if (!FORGETS) delete[] session; }

int main() {
    Cache cache;
    for (unsigned n = 0;; n++) {
        std::string body(60 + n % 50, 'b');
        if (n % 4 == 0) cache.put(chance() % 1000000);
        if (n % 100 == 0) forget_session(n);
        if (n % 20 == 0) rest(2000);
    }
}
