// The same near the beginning of its stack. glibc keeps stacks for later threads, the uppermost 16 KiB as they were: what is
// there cannot be told from a pointer that is still used, so the block counts as reachable. valgrind knows which memory was
// below the stack pointer: for it the block is lost.
// baseline: thread.c
// truth: reachable 1 80
#include "lost.h"

static void *work(void *nothing) {
    void *volatile held[32];
    for (int i = 0; i < 32; i++)
        held[i] = i ? held[0] : malloc(80);
    return nothing;
}

int main(void) {
    in_thread(work);
    forget();
    return 0;
}
