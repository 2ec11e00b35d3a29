// Blocks of all sizes come and go at random: the heap has holes, but their number stays the same.
// no leak
#include "corpus.h"

static char *slots[3000];

KEEP static char *make(void) { return malloc(16 + chance() % 4000); }

int main(void) {
    for (;;) {
        for (unsigned i = 0; i < 4; i++) {
            unsigned slot = chance() % 3000;
            free(slots[slot]);
            slots[slot] = make();
        }
        rest(1000);
    }
}
