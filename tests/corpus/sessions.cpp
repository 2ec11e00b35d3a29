// Sessions that expire after four seconds.
// no leak
#include "corpus.h"
#include <deque>
#include <memory>
#include <string>

struct Session { double began; std::string user; };
static std::deque<std::unique_ptr<Session>> sessions;

KEEP static void log_in(unsigned n) {
    sessions.emplace_back(new Session{now(), "a user with a long name, number " + std::to_string(n)});
}

int main() {
    for (unsigned n = 0;; n++) {
        log_in(n);
        while (!sessions.empty() && sessions.front()->began < now() - 4) sessions.pop_front();
        rest(3000);
    }
}
