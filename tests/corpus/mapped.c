// Memory mapped by the program itself, and never unmapped: no block is at fault.
// no leak
#include "corpus.h"
#include <sys/mman.h>

KEEP static void map(void) {
    char *place = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place != MAP_FAILED) memset(place, 1, 65536);
}

int main(void) {
    for (;;) {
        map();
        for (unsigned i = 0; i < 20; i++) { free(strdup("request")); rest(5000); }
    }
}
