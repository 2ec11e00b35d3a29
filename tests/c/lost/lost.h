// What the programs of this directory have in common. Each says in its first lines how it leaves its blocks, as "state
// blocks bytes" for each state that it has: definitely, indirectly, possibly and reachable, in the words of valgrind, and
// without those of the C and C++ runtimes. They are compiled without optimization.

#pragma once
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, unused))

// Overwrites what earlier calls left on the stack and in registers that calls may use.
static NOINLINE void forget(void) {
    volatile char stack[32768];
    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = 0;
#if defined(__x86_64__)
    __asm__ volatile("xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n xor %%edi, %%edi\n"
                     "xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n xor %%r11d, %%r11d\n"
                     : : : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
#endif
}

// Runs a function in a thread, to its end.
static NOINLINE void in_thread(void *(*work)(void *)) {
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
    pthread_join(thread, NULL);
}
