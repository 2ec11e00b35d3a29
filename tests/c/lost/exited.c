// A thread that has ended held a block, far down its stack: that is lost.
// baseline: thread.c
// truth: definitely 1 80
#include "lost.h"

static NOINLINE void hold(void) {
    void *volatile held = malloc(80);
    (void)held;
}

static NOINLINE void descend(void) {
    volatile char stack[100000];
    stack[0] = 0;
    hold();
}

static void *work(void *nothing) {
    descend();
    return nothing;
}

int main(void) {
    in_thread(work);
    forget();
    return 0;
}
