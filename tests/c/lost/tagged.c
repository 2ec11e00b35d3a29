// Pointers with something in their lowest three, or highest 16 bits hold their blocks.
// truth: reachable 3 144
#include "lost.h"

static unsigned long low[2], high;

static NOINLINE void work(void) {
    low[0] = (unsigned long)malloc(32) | 1;
    low[1] = (unsigned long)malloc(48) | 7;
    high = (unsigned long)malloc(64) | 0xabcdUL << 48;
}

int main(void) {
    work();
    forget();
    return 0;
}
