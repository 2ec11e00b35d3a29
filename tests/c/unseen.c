/* An arena that maps memory by system calls of its own, and never gives any back: 64 KiB every 10 ms, in 40 blocks. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *next_block, *end;
static void *volatile sink;

__attribute__((noinline)) void *arena_alloc(size_t size) {
    if (end - next_block < (long)size) {
        next_block = (char *)syscall(SYS_mmap, NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = next_block + (1 << 20);
    }
    void *block = next_block;
    next_block += size;
    return block;
}

__attribute__((noinline)) void arena_free(void *block) { sink = block; }

int main(void) {
    if (write(1, "ready\n", 6) < 0)
        return 1;
    for (int i = 0; i < 6000; i++) {
        for (int j = 0; j < 40; j++) {
            void *block = arena_alloc(1600);
            memset(block, 1, 1600);
            sink = block;
        }
        arena_free(NULL);
        usleep(10000);
    }
    return 0;
}
