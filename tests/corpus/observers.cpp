// Callbacks with a state of their own that are added for each connection.
// leak: subscribe
#include "corpus.h"
#include <array>
#include <functional>
#include <list>

static std::list<std::function<int()>> observers;

KEEP static void subscribe(int n) {
    std::array<int, 30> state{};
    state[0] = n;
    observers.emplace_back([state] { return state[0]; });
}

int main() {
    for (int n = 0;; n++) {
        std::function<int()> task = [n, copy = std::array<int, 20>{}] { return n + copy[0]; };
        if (task() % 15 == 0) subscribe(n);
        rest(3000);
    }
}
