// Large blocks, which the allocator maps one by one: lost through each other, held, and held by the middle.
// truth: definitely 1 300000, indirectly 1 5000000, possibly 1 400000, reachable 1 70000000
#include "lost.h"

static char *kept, *middle;

static NOINLINE void work(void) {
    void **block = malloc(300000);
    memset(block, 0, 300000);
    block[20000] = (char *)malloc(5000000) + 4096 * 1000;
    middle = (char *)malloc(400000) + 399992;
    kept = malloc(70000000);
}

int main(void) {
    work();
    forget();
    return 0;
}
