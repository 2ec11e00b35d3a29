// The old buffer is lost at each reconnection.
// leak: reconnect
#include "corpus.h"

static char *buffer;

KEEP static void reconnect(void) { buffer = malloc(2000); buffer[0] = 1; }

int main(void) {
    for (unsigned n = 0;; n++) {
        if (n % 100 == 0) reconnect();
        free(strdup("ping"));
        rest(1500);
    }
}
