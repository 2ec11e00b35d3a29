// Another thread runs, and one waits, when the main thread returns: their stacks hold a block each.
// baseline: threads.c
// truth: definitely 1 40, reachable 2 192
#include "lost.h"
#include <pthread.h>

static int started;

static NOINLINE void leak(void) {
    malloc(40);
}

static void *run(void *nothing) {
    leak();
    void *volatile held = malloc(80);
    forget();
    __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
    for (volatile unsigned long count = 0; held; count++) {
    }
    return nothing;
}

static void *rest(void *nothing) {
    void *volatile held = malloc(112);
    forget();
    __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
    while (held)
        pause();
    return nothing;
}

int main(void) {
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, run, NULL);
    pthread_create(&threads[1], NULL, rest, NULL);
    while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) < 2)
        usleep(1000);
    forget();
    return 0;
}
