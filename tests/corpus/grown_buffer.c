// A buffer for each connection that grows to the largest message so far and is kept.
// no leak
#include "corpus.h"

static struct { char *data; size_t size; } buffers[200];

KEEP static void receive(unsigned connection, size_t size) {
    if (buffers[connection].size < size) {
        buffers[connection].data = realloc(buffers[connection].data, size);
        buffers[connection].size = size;
    }
    memset(buffers[connection].data, 1, size);
}

int main(void) {
    for (;;) { receive(chance() % 200, 64 << chance() % 6); rest(1000); }
}
