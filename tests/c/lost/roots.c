// One block for each place that holds a pointer: data, bss, a thread-local variable, a stack, and mapped memory.
// truth: reachable 6 336
#include "lost.h"
#include <sys/mman.h>

static void *data[2] = {data, NULL};
static void *bss;
static __thread void *local;
static __thread void *initialized = data;
static void **mapped;

static NOINLINE void work(void) {
    data[1] = malloc(16);
    bss = malloc(32);
    local = malloc(48);
    initialized = malloc(64);
    mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mapped[100] = malloc(80);
}

int main(void) {
    work();
    void *volatile stack = malloc(96);
    forget();
    _exit(stack == NULL);
}
