// A map from ids of requests that is never cleaned.
// leak: note
#include "corpus.h"
#include <string>
#include <unordered_map>

static std::unordered_map<unsigned, std::string> seen;

KEEP static void note(unsigned id) { seen[id] = "request " + std::to_string(id) + " was answered"; }

int main() {
    for (unsigned n = 0;; n++) {
        std::string body(200, 'b');
        if (n % 8 == 0) note(n);
        rest(2000);
    }
}
