/* Calls an allocator by its own names: -DP(name)=je_##name. Blocks that stay and blocks that go, a round for each of 200. */
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

void *P(malloc)(size_t);
void *P(calloc)(size_t, size_t);
void *P(realloc)(void *, size_t);
int P(posix_memalign)(void **, size_t, size_t);
void *P(memalign)(size_t, size_t);
void P(free)(void *);

static void *volatile sink;

NOINLINE static void keep_plain(void) { sink = P(malloc)(400); }
NOINLINE static void keep_zeroed(void) { sink = P(calloc)(10, 30); }
NOINLINE static void keep_grown(void) { sink = P(realloc)(P(malloc)(50), 900); }
NOINLINE static void keep_first(void) { sink = P(realloc)(NULL, 77); }
NOINLINE static void keep_aligned(void) {
    void *block = NULL;
    if (P(posix_memalign)(&block, 64, 640) == 0)
        sink = block;
}
NOINLINE static void keep_memalign(void) { sink = P(memalign)(128, 512); }
NOINLINE static void keep_large(void) { sink = P(malloc)(300000); }
NOINLINE static void come_and_go(void) {
    static const size_t sizes[] = {8, 100, 1000, 10000, 100000};
    for (size_t i = 0; i < 5; i++) {
        void *block = P(malloc)(sizes[i]);
        sink = block;
        block = P(realloc)(block, 2 * sizes[i]);
        sink = block;
        P(free)(block);
        sink = P(calloc)(2, sizes[i]);
        P(free)(sink);
    }
}

static void next(const char *word) {
    char byte = 0;
    if (write(1, word, strlen(word)) < 0)
        _exit(1);
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

int main(void) {
    next("ready\n");
    for (int i = 0; i < 200; i++) {
        keep_plain();
        keep_zeroed();
        keep_grown();
        keep_first();
        keep_aligned();
        keep_memalign();
        if (i % 20 == 0)
            keep_large();
        come_and_go();
    }
    next("done\n");
    return 4;
}
