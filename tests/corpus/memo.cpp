// Results that are remembered, all of which are dropped when there are too many.
// no leak
#include "corpus.h"
#include <map>
#include <string>

static std::map<unsigned, std::string> memo;

KEEP static const std::string &compute(unsigned key) {
    if (memo.size() >= 2500) memo.clear();
    return memo[key] = std::string(90, 'r');
}

int main() {
    for (unsigned n = 0;; n++) { compute(n); rest(900); }
}
