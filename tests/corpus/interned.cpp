// Strings that are interned although most of them come once only.
// leak: intern
#include "corpus.h"
#include <string>
#include <unordered_set>

static std::unordered_set<std::string> strings;

KEEP static const std::string &intern(const std::string &text) { return *strings.insert(text).first; }

int main() {
    for (unsigned n = 0;; n++) {
        intern("a header that every request has");
        intern("an id that only this request has: " + std::to_string(n));
        rest(8000);
    }
}
