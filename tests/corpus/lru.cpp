// A cache of bounded size in turnover.
// no leak
// steady: put
#include "corpus.h"
#include <list>
#include <string>
#include <unordered_map>

struct Cache {
    std::list<std::pair<unsigned, std::string>> order;
    std::unordered_map<unsigned, decltype(order)::iterator> index;
    KEEP void put(unsigned key) {
        auto found = index.find(key);
        if (found != index.end()) { order.splice(order.begin(), order, found->second); return; }
        order.emplace_front(key, std::string(100 + key % 100, 'v'));
        index[key] = order.begin();
        if (order.size() > 1500) { index.erase(order.back().first); order.pop_back(); }
    }
};

int main() {
    Cache cache;
    for (;;) { cache.put(chance() % 20000); rest(700); }
}
