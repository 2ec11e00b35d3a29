// A worker ends the process while the main thread waits for it: the stacks of both hold a block.
// baseline: thread.c
// truth: definitely 1 40, reachable 2 192
#include "lost.h"
#include <pthread.h>

static NOINLINE void leak(void) {
    malloc(40);
}

static void *end(void *nothing) {
    leak();
    void *volatile held = malloc(80);
    forget();
    _exit(held == NULL);
    return nothing;
}

int main(void) {
    void *volatile held = malloc(112);
    pthread_t thread;
    pthread_create(&thread, NULL, end, NULL);
    pthread_join(thread, NULL);
    return held == NULL;
}
