/* A library that loses memory: -DNAME=function -DSIZE=bytes. */
#include <stdlib.h>
#include <string.h>

static void *volatile sink;

__attribute__((noinline)) void NAME(void) {
    sink = malloc(SIZE);
    memset(sink, 1, 8);
}

void entry(void) {
    NAME();
    __asm__ volatile("");
}
