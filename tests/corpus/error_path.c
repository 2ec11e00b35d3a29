// A parser that forgets its buffer if a message is malformed.
// leak: parse
#include "corpus.h"

KEEP static int parse(unsigned n) {
    char *copy = malloc(300);
    snprintf(copy, 300, "message %u", n);
    if (n % 40 == 0) return -1;
    free(copy);
    return 0;
}

int main(void) {
    volatile int errors = 0;
    for (unsigned n = 1;; n++) {
        if (parse(n) < 0) errors++;
        rest(2000);
    }
}
