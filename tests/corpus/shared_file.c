// A file in memory that grows: no block is at fault.
// no leak
#define _GNU_SOURCE
#include "corpus.h"
#include <sys/mman.h>
#include <unistd.h>

int main(void) {
    int file = memfd_create("spool", 0);
    char line[4096] = {1};
    for (;;) {
        char *copy = malloc(sizeof line);
        memcpy(copy, line, sizeof line);
        if (write(file, copy, sizeof line) < 0) return 1;
        free(copy);
        rest(5000);
    }
}
