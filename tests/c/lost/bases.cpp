// A pointer to an object's second base is one to its middle; one to its first is not.
// baseline: nothing.cpp
// truth: definitely 1 48, possibly 1 48, reachable 1 48
#include "lost.h"

struct First {
    virtual ~First() = default;
    long first = 0;
};

struct Second {
    virtual ~Second() = default;
    long second = 0;
};

struct Both : First, Second {
    long numbers[2] = {0, 0};
};

static First *first;
static Second *second;

static NOINLINE void work() {
    first = new Both;
    second = new Both;
    new Both;
}

int main() {
    work();
    forget();
    return 0;
}
