// A block that grows and moves many times is one block, and one that shrinks; a freed one is none.
// truth: definitely 2 65544, reachable 1 2000
#include "lost.h"

static void *kept;

static NOINLINE void work(void) {
    void *block = NULL, *other = malloc(100000);
    for (size_t size = 16; size <= 65536; size *= 2) {
        block = realloc(block, size);
        // Between the block and what it could grow into.
        free(kept);
        kept = malloc(24);
    }
    free(kept);
    other = realloc(other, 8);
    kept = realloc(malloc(1000000), 2000);
    free(realloc(malloc(10), 300000));
    block = other = NULL;
}

int main(void) {
    work();
    forget();
    return 0;
}
