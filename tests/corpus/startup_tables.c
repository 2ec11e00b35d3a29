// Tables built in the first five seconds, and requests afterwards.
// no leak
// start_up: build
#include "corpus.h"

static char *table[5000];

KEEP static void build(unsigned i) { table[i] = malloc(64 + i % 100); memset(table[i], 1, 64); }
KEEP static char *request(void) { return calloc(1, 256); }

int main(void) {
    for (unsigned i = 0; i < 5000; i++) { build(i); if (i % 10 == 0) rest(10000); }
    for (;;) {
        char *body = request();
        rest(1000);
        free(body);
    }
}
