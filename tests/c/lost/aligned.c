// Every way to allocate, lost and held.
// truth: definitely 7 5212, reachable 7 5212
#include "lost.h"
#include <malloc.h>

static void *kept[8];

static NOINLINE void work(void **blocks) {
    blocks[0] = malloc(20);
    blocks[1] = calloc(3, 30);
    blocks[2] = realloc(NULL, 50);
    posix_memalign(&blocks[3], 64, 100);
    blocks[4] = aligned_alloc(4096, 4096);
    blocks[5] = memalign(32, 256);
    blocks[6] = valloc(600);
}

int main(void) {
    void *lost[8];
    work(lost);
    memset(lost, 0, sizeof lost);
    work(kept);
    forget();
    return 0;
}
