// Threads that end and are never joined: glibc keeps their stacks, and a block for each.
// either: start_worker
#include "corpus.h"

static void *worker(void *unused) { return unused; }

KEEP static void start_worker(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, worker, NULL);
}

int main(void) {
    for (;;) { start_worker(); free(strdup("turn")); rest(150000); }
}
