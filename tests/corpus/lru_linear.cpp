// A cache of bounded size that fills for two thirds of the first 20 seconds, and turns over from then on.
// no leak
#include "corpus.h"
#include <deque>
#include <string>

static std::deque<std::string> cache;

KEEP static void put() {
    cache.emplace_back(150, 'v');
    if (cache.size() > 2600) cache.pop_front();
}

int main() {
    for (;;) { put(); rest(4700); }
}
