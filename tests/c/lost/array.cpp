// An array of objects with destructors has its length before the first: the pointer is to its middle.
// baseline: nothing.cpp
// truth: definitely 1 88, possibly 1 168
#include "lost.h"

struct Object {
    long numbers[2] = {0, 0};
    ~Object() {
        numbers[0] = 1;
    }
};

static Object *kept;

static NOINLINE void work() {
    new Object[5];
    kept = new Object[10];
}

int main() {
    work();
    forget();
    return 0;
}
