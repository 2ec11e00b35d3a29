// Calls _exit: no handler runs. A block is lost, and the stack holds one.
// truth: definitely 1 40, reachable 2 104
#include "lost.h"

static void *global;

static void at_exit(void) {
    free(global);
}

static NOINLINE void work(void) {
    malloc(40);
    global = malloc(40);
}

int main(void) {
    atexit(at_exit);
    work();
    void *volatile held = malloc(64);
    forget();
    _exit(held == NULL);
}
