// A pool that grows to the largest demand and is never given back.
// no leak
#include "corpus.h"

struct item { struct item *next; char data[500]; };
static struct item *spare;

KEEP static struct item *take(void) {
    struct item *item = spare;
    if (item) { spare = item->next; return item; }
    return malloc(sizeof *item);
}

int main(void) {
    struct item *used[400];
    for (;;) {
        unsigned count = chance() % 400;
        for (unsigned i = 0; i < count; i++) used[i] = take();
        rest(20000);
        for (unsigned i = 0; i < count; i++) { used[i]->next = spare; spare = used[i]; }
        free(strdup("turn"));
    }
}
