// A cache that is filled by random keys for most of the time.
// no leak
#include "corpus.h"
#include <map>
#include <string>

static std::map<unsigned, std::string> cache;

KEEP static const std::string &look_up(unsigned key) {
    auto found = cache.find(key);
    if (found != cache.end()) return found->second;
    return cache[key] = std::string(120, 'v');
}

int main() {
    for (unsigned n = 0;; n++) {
        look_up(chance() % 6000);
        free(strdup("request"));
        rest(900);
    }
}
