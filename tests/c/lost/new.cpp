// new without delete, in its forms; and with it.
// baseline: nothing.cpp
// truth: definitely 4 4652, reachable 1 24
#include "lost.h"
#include <new>

struct alignas(64) Line {
    char bytes[64];
};

struct Plain {
    long numbers[3];
};

static Plain *kept;

static NOINLINE void work() {
    new Plain;
    new char[500];
    new (std::nothrow) char[4000];
    new Line[2];
    kept = new Plain;
    delete new Plain;
    delete[] new char[77];
    delete new Line;
}

int main() {
    work();
    forget();
    return 0;
}
