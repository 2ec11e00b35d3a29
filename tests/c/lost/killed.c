// Ends by a signal. A block is lost, and the stack holds one.
// truth: definitely 1 40, reachable 1 64
#include "lost.h"
#include <signal.h>

static NOINLINE void work(void) {
    malloc(40);
}

int main(void) {
    work();
    void *volatile held = malloc(64);
    forget();
    kill(getpid(), SIGTERM);
    return held == NULL;
}
