// Two functions lose blocks, one of them through the other, for suppressions.
// truth: definitely 5 200, indirectly 5 80
#include "lost.h"

static NOINLINE void *inner(void) {
    return malloc(16);
}

static NOINLINE void outer(void) {
    void **block = malloc(40);
    *block = inner();
}

int main(void) {
    for (int i = 0; i < 5; i++)
        outer();
    forget();
    return 0;
}
