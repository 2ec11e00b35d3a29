// Every form of `operator new`, with blocks that stay and blocks that go, and requests that fail.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>
#include <unistd.h>

static const int ROUNDS = 200;
static void *volatile sink;
static int failed;

#define CALLER __attribute__((noinline, noclone))

struct alignas(64) Wide { char body[640]; };

CALLER static void keep_new() { sink = operator new(800); }
CALLER static void keep_array() { sink = operator new[](1500); }
CALLER static void keep_aligned() { sink = new Wide; }
CALLER static void keep_nothrow() { sink = operator new(700, std::nothrow); }
CALLER static void keep_malloc() { sink = malloc(400); }
CALLER static void keep_calloc() { sink = calloc(10, 30); }
CALLER static void keep_large() { sink = operator new(300000); }
CALLER static void keep_grown() { sink = realloc(malloc(50), 900); }
CALLER static void come_and_go() {
    for (size_t size : {8, 100, 1000, 10000, 100000}) {
        void *block = operator new(size);
        sink = block;
        operator delete(block);
        char *array = new char[size];
        sink = array;
        delete[] array;
        sink = malloc(size);
        free(sink);
    }
}

CALLER static void try_new() { try { sink = operator new(size_t(1) << 61); } catch (std::bad_alloc &) { failed++; } }
CALLER static void try_array() { try { sink = new char[size_t(1) << 60]; } catch (std::bad_alloc &) { failed++; } }
CALLER static void try_nothrow() { if (!operator new(size_t(1) << 61, std::nothrow)) failed++; }
CALLER static void try_malloc() { void *volatile block = malloc(size_t(1) << 62); if (!block) failed++; }
CALLER static void try_realloc() {
    void *block = malloc(64);
    void *volatile grown = realloc(block, size_t(1) << 62);
    if (!grown) { failed++; free(block); }
}
CALLER static void try_aligned() {
    void *volatile block = nullptr;
    if (posix_memalign(const_cast<void **>(&block), 24, 100) != 0) failed++;
}

static void say(const char *line) { if (write(1, line, strlen(line)) < 0) _exit(2); }
static void wait_for_line() { char byte = 0; while (read(0, &byte, 1) == 1 && byte != '\n') {} }

int main(int argc, char **) {
    // The first exception may allocate for good.
    try { throw 1; } catch (int) {}
    say("ready\n");
    wait_for_line();
    for (int i = 0; i < ROUNDS; i++) {
        keep_new(); keep_array(); keep_aligned(); keep_nothrow(); keep_malloc(); keep_calloc(); keep_grown();
        if (i % 20 == 0) keep_large();
        come_and_go();
        if (argc > 1) continue;
        try_new(); try_array(); try_nothrow(); try_malloc(); try_realloc(); try_aligned();
    }
    char line[60];
    snprintf(line, sizeof line, "done %d\n", failed);
    say(line);
    wait_for_line();
    return 4;
}
