// Listeners that are registered for each request and never removed.
// leak: register_listener
#include "corpus.h"

struct listener { void (*call)(void); char state[90]; };
static struct listener **listeners;
static size_t count;

KEEP static void register_listener(void) {
    if (count % 16 == 0) listeners = realloc(listeners, (count + 16) * sizeof *listeners);
    listeners[count++] = calloc(1, sizeof(struct listener));
}

int main(void) {
    for (unsigned n = 0;; n++) {
        char *request = malloc(700);
        request[0] = 1;
        if (n % 10 == 0) register_listener();
        rest(4000);
        free(request);
    }
}
