// Strings that are interned, of a vocabulary that is known after a while.
// no leak
#include "corpus.h"
#include <string>
#include <unordered_set>

static std::unordered_set<std::string> strings;

KEEP static const std::string &intern(const std::string &text) { return *strings.insert(text).first; }

int main() {
    for (;;) {
        intern("a word of the vocabulary: " + std::to_string(chance() % 3000));
        rest(1000);
    }
}
