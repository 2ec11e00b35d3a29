// Aborts. A block is lost, and the stack holds one.
// truth: definitely 1 40, reachable 1 64
#include "lost.h"

static NOINLINE void work(void) {
    malloc(40);
}

int main(void) {
    work();
    void *volatile held = malloc(64);
    forget();
    if (held)
        abort();
    return 1;
}
