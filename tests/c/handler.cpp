// A `malloc` that catches an exception and still returns a block.
#include <cstddef>
#include <cstring>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static char arena[64 << 20];
static size_t used;
static volatile int fails;
static void *volatile sink;
struct Failed {};

NOINLINE static void *hand_out(size_t size) {
    char *block = arena + used;
    used += (size + 15) & ~size_t(15);
    return block;
}
NOINLINE static void *primary(size_t size) {
    if (fails) {
        fails = 0;
        throw Failed();
    }
    return hand_out(size);
}

// A declaration of the C library's would say that it does not throw.
extern "C" void *own_malloc(size_t) __asm__("malloc");
extern "C" void *own_calloc(size_t, size_t) __asm__("calloc");
extern "C" void *own_realloc(void *, size_t) __asm__("realloc");
extern "C" void own_free(void *) __asm__("free");

extern "C" NOINLINE void *own_malloc(size_t size) {
    try {
        void *block = primary(size);
        if (!block) sink = nullptr;
        return block;
    } catch (Failed &) {
        return hand_out(size);
    }
}
extern "C" NOINLINE void *own_calloc(size_t count, size_t size) { return hand_out(count * size); }
extern "C" NOINLINE void *own_realloc(void *old, size_t size) {
    void *block = hand_out(size);
    if (old) memcpy(block, old, size);
    return block;
}
extern "C" NOINLINE void own_free(void *block) { sink = block; }

NOINLINE static void keep() { fails = 1; sink = own_malloc(1000); }

int main() {
    char byte = 0;
    try { throw Failed(); } catch (Failed &) {}
    if (write(1, "ready\n", 6) < 0 || read(0, &byte, 1) < 0) return 1;
    for (int i = 0; i < 50; i++) keep();
    if (write(1, "done\n", 5) < 0) return 1;
    while (read(0, &byte, 1) == 1 && byte != 'e') {}
    return 0;
}
