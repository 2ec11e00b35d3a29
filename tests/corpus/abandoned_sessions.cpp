// Sessions that end when the client says so, which some clients never do.
// leak: log_in
#include "corpus.h"
#include <string>
#include <unordered_map>

struct Session { std::string user; };
static std::unordered_map<unsigned, Session *> sessions;

KEEP static void log_in(unsigned n) { sessions[n] = new Session{"a user with a long name, number " + std::to_string(n)}; }

KEEP static void log_out(unsigned n) {
    auto found = sessions.find(n);
    if (found == sessions.end()) return;
    delete found->second;
    sessions.erase(found);
}

int main() {
    for (unsigned n = 300;; n++) {
        log_in(n);
        if ((n - 300) % 25 != 0) log_out(n - 300);
        rest(2500);
    }
}
