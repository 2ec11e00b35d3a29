// One table of results that doubles when it is full, filled to a bound: rare and ever larger steps, then none.
// no leak
#include "corpus.h"

static struct { uint64_t *values; size_t used, room; } results;

KEEP static void add(uint64_t value) {
    if (results.used == results.room) {
        results.room = results.room ? 2 * results.room : 64;
        results.values = realloc(results.values, results.room * sizeof value);
    }
    results.values[results.used++] = value;
}

int main(void) {
    for (;;) {
        for (unsigned i = 0; i < 100; i++) add(i);
        if (results.used >= 100000) results.used = 0;
        rest(10000);
    }
}
