// What a handler at the exit frees is not lost, though only an inverted address is kept of it.
// truth: definitely 1 24
#include "lost.h"

static unsigned long inverted;

static void at_exit(void) {
    free((void *)~inverted);
}

static NOINLINE void work(void) {
    inverted = ~(unsigned long)malloc(100);
    malloc(24);
}

int main(void) {
    atexit(at_exit);
    work();
    forget();
    return 0;
}
