// Only pointers to the middles of blocks: possibly lost, and so is what they point to. A block that a pointer to its
// beginning reaches too is reachable; a lost block is lost through a pointer to its middle as well.
// truth: definitely 1 64, indirectly 1 48, possibly 3 208, reachable 1 80
#include "lost.h"

static char *middle, *both[2];

static NOINLINE void work(void) {
    void **block = calloc(1, 96);
    middle = (char *)block + 16;
    block[5] = calloc(1, 56);
    void **next = block[5];
    next[0] = (char *)calloc(1, 56) + 8;
    both[0] = calloc(1, 80);
    both[1] = both[0] + 40;
    void **lost = calloc(1, 64);
    lost[3] = (char *)calloc(1, 48) + 24;
}

int main(void) {
    work();
    forget();
    return 0;
}
