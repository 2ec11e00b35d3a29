/* Allocators of a program's own, in shapes that are easily misread; -DPOINTER, -DTABLE, -DSTALE, -DADJACENT, -DWRAPPER and
 * -DCOUNTING choose one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define ROUNDS 50

static void *volatile sink;
static char arena[64 << 20];
static size_t used;

NOINLINE static void *hand_out(size_t size) {
    char *block = arena + used;
    used += (size + 15) & ~(size_t)15;
    return block;
}

#if defined(WRAPPER) || defined(COUNTING)

static void *(*next_malloc)(size_t), *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);
static volatile long counts[16];

static void resolve(void) {
    next_realloc = dlsym(RTLD_NEXT, "realloc");
    next_free = dlsym(RTLD_NEXT, "free");
    next_malloc = dlsym(RTLD_NEXT, "malloc");
}

void *malloc(size_t size) {
    if (!next_malloc)
        resolve();
#ifdef COUNTING
    void *block = next_malloc(size);
    switch (size >> 4) {
    case 0: counts[3]++; break;
    case 1: counts[1] = size; break;
    case 2: counts[2] -= size; break;
    case 3: counts[4] *= size; break;
    case 4: counts[5] ^= size; break;
    case 5: counts[6] |= 3; break;
    case 6: counts[7] &= size; break;
    default: counts[0]++;
    }
    counts[9] += (long)block;
    return block;
#else
    return next_malloc(size);
#endif
}

/* Of its own blocks it makes new ones, of others the next allocator does. */
void *realloc(void *old, size_t size) {
    if (!next_realloc)
        resolve();
    if ((char *)old >= arena && (char *)old < arena + sizeof arena) {
        void *block = malloc(size);
        memcpy(block, old, size);
        return block;
    }
    return next_realloc(old, size);
}

void free(void *block) {
    if (!next_free)
        resolve();
    next_free(block);
}

#else

#ifdef POINTER
static void *first(size_t size);
static void *(*volatile chosen)(size_t) = first;
NOINLINE static void *first(size_t size) {
    chosen = hand_out;
    return hand_out(size);
}
void *malloc(size_t size) { return chosen(size); }
#elif defined(TABLE)
NOINLINE static void *large(size_t size) { return hand_out(size); }
NOINLINE static void *huge(size_t size, int kind) { __asm__ volatile("" : : "r"(kind)); return hand_out(size); }
NOINLINE static void *slab(size_t size, void *where) { __asm__ volatile("" : : "r"(where)); return hand_out(size); }
static char slabs[8][64];
void *malloc(size_t size) {
    switch (size >> 4) {
    case 0: return slab(size, slabs[0]);
    case 1: return large(size);
    case 2: return huge(size, 3);
    case 3: return slab(size + 1, slabs[5]);
    case 4: return huge(size * 2, 7);
    case 5: return large(size + 8);
    default: return huge(size, 0);
    }
}
#else
static volatile int hooked;
#ifdef STALE
static jmp_buf place;
NOINLINE static void hook(void) { longjmp(place, 1); }
#else
NOINLINE static void hook(void);
#endif
NOINLINE static void *take(size_t size) {
    if (hooked) {
        hooked = 0;
        hook();
    }
    return hand_out(size);
}
void *malloc(size_t size) {
    void *block = take(size);
    __asm__ volatile("" : : "r"(block));
    return block;
}
#ifndef STALE
NOINLINE static void hook(void) { sink = malloc(64); }
#endif
#endif

void *calloc(size_t count, size_t size) { return hand_out(count * size); }
void *realloc(void *old, size_t size) {
    void *block = hand_out(size);
    if (old)
        memcpy(block, old, size);
    return block;
}
void free(void *block) { sink = block; }

#endif

#ifdef STALE
NOINLINE static void lose_large(void) {
    hooked = 1;
    if (!setjmp(place))
        sink = malloc(5000);
    __asm__ volatile("");
}
NOINLINE static void keep(void) {
    if (!setjmp(place))
        sink = malloc(10);
    __asm__ volatile("");
}
#elif defined(ADJACENT)
NOINLINE static void keep(void) {
    hooked = 1;
    sink = malloc(128);
}
#elif defined(WRAPPER)
NOINLINE static void *before(void) { return malloc(60000); }
NOINLINE static void keep(void) { sink = realloc(before(), 100); }
#else
NOINLINE static void keep(void) { sink = malloc(1000); }
#endif

int main(void) {
    char byte = 0;
    free(malloc(10));
    if (write(1, "ready\n", 6) < 0 || read(0, &byte, 1) < 0)
        return 1;
    for (int i = 0; i < ROUNDS; i++) {
#ifdef STALE
        lose_large();
#endif
        keep();
    }
    free(malloc(10));
    if (write(1, "done\n", 5) < 0)
        return 1;
    while (read(0, &byte, 1) == 1 && byte != 'e') {
    }
    return 0;
}
