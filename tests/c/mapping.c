/* Maps and unmaps memory in every way. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MB (1ul << 20)
#define PROTECTION (PROT_READ | PROT_WRITE)
#define FLAGS (MAP_PRIVATE | MAP_ANONYMOUS)

__attribute__((noinline)) static char *map_memory(size_t length)
{
    char *memory = mmap(0, length, PROTECTION, FLAGS, -1, 0);
    __asm__ volatile("" : : "r"(memory) : "memory");
    return memory;
}

__attribute__((noinline)) static char *remap_memory(char *memory, size_t old, size_t new)
{
    char *moved = mremap(memory, old, new, MREMAP_MAYMOVE);
    __asm__ volatile("" : : "r"(moved) : "memory");
    return moved;
}

/* A line, or the end of the input. */
static void wait_for_line(void)
{
    char byte = 0;
    while (byte != '\n')
        if (read(0, &byte, 1) != 1)
            return;
}

int main(void)
{
    if (write(1, "ready\n", 6) < 0)
        return 1;
    wait_for_line();
    /* 10 MB with a hole of 1 and without the first: 8 MB in two ranges. */
    char *memory = map_memory(10 * MB);
    munmap(memory + 4 * MB, MB);
    munmap(memory, MB);
    /* 2 MB that grow to 3. */
    char *grown = map_memory(2 * MB);
    remap_memory(grown, 2 * MB, 3 * MB);
    /* Nothing: unmapped whole, refused, or the allocator's own. */
    munmap(map_memory(5 * MB), 5 * MB);
    mmap(0, 0, PROTECTION, FLAGS, -1, 0);
    munmap((void *)1, MB);
    void *block = malloc(4 * MB);
    __asm__ volatile("" : : "r"(block) : "memory");
    free(malloc(6 * MB));
    if (write(1, "done\n", 5) < 0)
        return 1;
    wait_for_line();
    return 0;
}
