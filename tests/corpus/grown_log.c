// A log in one buffer, which is enlarged for each entry and never written out.
// leak: append
#include "corpus.h"

static char *text;
static size_t length;

KEEP static void append(size_t size) {
    text = realloc(text, length + size);
    memset(text + length, 'x', size);
    length += size;
}

int main(void) {
    for (;;) { append(500 + chance() % 1000); rest(20000); }
}
