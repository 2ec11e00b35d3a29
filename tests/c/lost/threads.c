// Nothing but two threads: what the runtime allocates for them.
// truth:
#include "lost.h"
#include <pthread.h>

static void *rest(void *nothing) {
    for (;;)
        pause();
    return nothing;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, rest, NULL);
    pthread_create(&thread, NULL, rest, NULL);
    forget();
    return 0;
}
