// Memory without access holds the only pointer: only a debugger reads it there, and valgrind calls the block lost.
// truth: reachable 1 48
#include "lost.h"
#include <sys/mman.h>

static NOINLINE void work(void) {
    void **page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[7] = malloc(48);
    mprotect(page, 4096, PROT_NONE);
}

int main(void) {
    work();
    forget();
    return 0;
}
