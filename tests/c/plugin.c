/* A library that keeps a block of SIZE bytes, in a function called KEEP. */
#include <stdlib.h>

static void *volatile kept;

__attribute__((noinline)) static void KEEP(void)
{
    char room[SIZE];
    room[0] = 1;
    __asm__ volatile("" : : "r"(room) : "memory");
    kept = malloc(SIZE);
}

__attribute__((noinline)) void plug_in(void)
{
    KEEP();
    __asm__ volatile("" : : : "memory");
}
