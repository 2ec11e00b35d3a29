// Owners that point to each other keep each other, and a released owner gives up its object.
// baseline: nothing.cpp
// truth: definitely 3 88, indirectly 5 144
#include "lost.h"
#include <memory>
#include <vector>

struct Peer {
    std::shared_ptr<Peer> peer;
    long number = 0;
};

static NOINLINE void work() {
    auto one = std::make_shared<Peer>(), other = std::make_shared<Peer>();
    one->peer = other;
    other->peer = one;
    std::unique_ptr<Peer>(new Peer).release();
    auto *owners = new std::vector<std::unique_ptr<Peer>>;
    owners->reserve(4);
    for (int i = 0; i < 3; i++)
        owners->push_back(std::make_unique<Peer>());
}

int main() {
    work();
    forget();
    return 0;
}
