// A register that calls keep holds the only pointer to a block, and no register that to another.
// truth: definitely 1 40, reachable 1 56
#include "lost.h"
#include <sys/syscall.h>

static NOINLINE void work(void) {
    malloc(40);
}

// The address is kept inverted in memory.
static unsigned long inverted;

static NOINLINE void allocate(void) {
    inverted = ~(unsigned long)malloc(56);
}

int main(void) {
    work();
    allocate();
    forget();
#if defined(__x86_64__)
    __asm__ volatile("mov %0, %%r12\n not %%r12\n xor %%edi, %%edi\n mov %1, %%eax\n syscall"
                     : : "m"(inverted), "i"(SYS_exit_group) : "r12", "rdi", "rax", "memory");
#elif defined(__aarch64__)
    __asm__ volatile("ldr x20, %0\n mvn x20, x20\n mov x0, 0\n mov x8, %1\n svc 0"
                     : : "m"(inverted), "i"(SYS_exit_group) : "x20", "x0", "x8", "memory");
#endif
}
