// Work in batches: much is allocated for some seconds, and all of it freed at the end.
// no leak
#include "corpus.h"

static char *lines[4000];

KEEP static char *load(unsigned i) { char *line = malloc(80 + i % 64); line[0] = 1; return line; }

int main(void) {
    for (;;) {
        for (unsigned i = 0; i < 4000; i++) { lines[i] = load(i); if (i % 2) rest(1000); }
        for (unsigned i = 0; i < 4000; i++) free(lines[i]);
        rest(2000000);
    }
}
