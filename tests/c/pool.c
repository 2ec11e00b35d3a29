/* A pool over mapped memory, an allocator under a prefix, and malloc. 200 rounds. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

struct pool { char *next; void *freed; };
static struct pool pool;
static char arena[1 << 20];
static size_t used;
static void *volatile sink;

NOINLINE void *pool_get(struct pool *from, size_t size) {
    if (from->freed && size <= 512) {
        void *block = from->freed;
        memcpy(&from->freed, block, sizeof(void *));
        return block;
    }
    if (!from->next) {
        from->next = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (from->next == MAP_FAILED)
            _exit(2);
    }
    void *block = from->next;
    from->next += 512;
    return block;
}

NOINLINE void pool_put(void *block) {
    memcpy(block, &pool.freed, sizeof(void *));
    pool.freed = block;
}

NOINLINE void *own_malloc(size_t size) {
    void *block = arena + used;
    used += (size + 15) / 16 * 16;
    return block;
}

NOINLINE void own_free(void *block) { sink = block; }

NOINLINE static void keep_entry(void) { sink = pool_get(&pool, 300); }
NOINLINE static void keep_own(void) { sink = own_malloc(40); }
NOINLINE static void keep_plain(void) { sink = malloc(50); }
NOINLINE static void come_and_go(void) {
    void *block = pool_get(&pool, 200);
    sink = block;
    pool_put(block);
    own_free(NULL);
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
        keep_entry();
        keep_own();
        keep_plain();
        come_and_go();
    }
    next("done\n");
    return 4;
}
