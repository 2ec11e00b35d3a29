// Nothing but a thread: what the runtime allocates for one.
// truth:
#include "lost.h"
#include <pthread.h>

static void *end(void *nothing) {
    forget();
    _exit(0);
    return nothing;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, end, NULL);
    pthread_join(thread, NULL);
    return 1;
}
