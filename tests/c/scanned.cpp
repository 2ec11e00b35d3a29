// Loses blocks, keeps others, and knows how many. Lines on standard input say what to do; each is answered by a line:
//   lose N    loses N more sessions
//   keep N    N blocks of 100 bytes, which a block leads to that is there from the beginning
//   hold      takes 2,048 blocks of 64 KiB, and a smaller one behind them
//   release   frees these, except the smaller one
//   trim      malloc_trim(0)
//   hide      makes blocks of many sizes that only an encoded pointer leads to
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <map>
#include <pthread.h>
#include <unistd.h>

namespace app {
struct Object {
    virtual ~Object() {}
    virtual int id() const = 0;
};
// 56 bytes.
struct Session : Object {
    char name[24];
    char *request;
    long rest[2];
    int id() const override { return 1; }
};
// 56 bytes as well, and so has a node of the map.
struct Entry : Object {
    long rest[6];
    int id() const override { return 2; }
};
}

extern "C" {
long g_table[64];
}
struct Handle {
    long *table;
    void *other;
    char rest[984 - 16];
};

static std::map<int, app::Entry *> g_cache;
static __thread void *local_block;
static pthread_barrier_t started;
static char *held[2048];
static void *volatile last_block;
static uintptr_t hidden;
static void **g_old;

// The compiler is to believe that somebody reads what a block holds.
static void read_by_others(void *block) {
    __asm__ volatile("" ::"r"(block) : "memory");
}

__attribute__((noinline)) static void lose_sessions(int count) {
    for (int i = 0; i < count; i++) {
        app::Session *volatile session = new app::Session;
        strcpy(session->name, "a lost session");
        session->request = static_cast<char *>(malloc(200));
        strcpy(session->request, "GET /index.html HTTP/1.1");
        read_by_others(session);
        session = nullptr;
    }
}

// Pairs that point to each other, with a pointer to a variable.
__attribute__((noinline)) static void lose_handles(int pairs) {
    for (int i = 0; i < pairs; i++) {
        Handle *volatile one = static_cast<Handle *>(calloc(1, sizeof(Handle)));
        Handle *volatile two = static_cast<Handle *>(calloc(1, sizeof(Handle)));
        one->table = two->table = g_table;
        one->other = two;
        two->other = one;
        read_by_others(one);
        read_by_others(two);
        one = two = nullptr;
    }
}

__attribute__((noinline)) static void keep_blocks(int count) {
    for (int i = 0; i < count; i++) {
        void **block = static_cast<void **>(malloc(100));
        *block = g_old[1];
        g_old[1] = block;
    }
}

// What callees left on the stack, and in registers that nobody else changes.
__attribute__((noinline)) static void overwrite() {
    volatile char stack[64 << 10];
    for (size_t i = 0; i < sizeof stack; i++) stack[i] = 0;
    __asm__ volatile("xor %%ebx, %%ebx\nxor %%r12d, %%r12d\nxor %%r13d, %%r13d\nxor %%r14d, %%r14d\nxor %%r15d, %%r15d"
                     ::: "rbx", "r12", "r13", "r14", "r15");
}

static void *work(void *) {
    local_block = malloc(5000);
    void *volatile on_stack = malloc(5000);
    lose_handles(150);
    overwrite();
    // So that what was freed last hides nothing.
    for (int i = 0; i < 100; i++) free(malloc(static_cast<size_t>(i) * 10));
    pthread_barrier_wait(&started);
    for (;;) pause();
    return on_stack;
}

__attribute__((noinline)) static void hide() {
    uintptr_t *last = nullptr;
    for (int size = 2000; size < 4000; size += 16)
        for (int i = 0; i < 1000; i++) {
            uintptr_t *block = static_cast<uintptr_t *>(calloc(1, static_cast<size_t>(size)));
            *block = reinterpret_cast<uintptr_t>(last);
            read_by_others(block);
            last = block;
        }
    hidden = ~reinterpret_cast<uintptr_t>(last);
}

__attribute__((noinline)) static void run(char *line) {
    if (!strncmp(line, "lose ", 5)) lose_sessions(atoi(line + 5));
    if (!strncmp(line, "keep ", 5)) keep_blocks(atoi(line + 5));
    if (!strncmp(line, "hold", 4)) {
        for (char *&block : held) {
            block = static_cast<char *>(malloc(64 << 10));
            memset(block, 1, 64 << 10);
        }
        // Larger than anything that was freed before.
        last_block = malloc(2000);
        read_by_others(last_block);
    }
    if (!strncmp(line, "release", 7))
        for (char *&block : held) {
            free(block);
            block = nullptr;
        }
    if (!strncmp(line, "trim", 4)) malloc_trim(0);
    if (!strncmp(line, "hide", 4)) hide();
}

int main() {
    setvbuf(stdout, nullptr, _IONBF, 0);
    for (int i = 0; i < 20000; i++) g_cache[i] = new app::Entry;
    g_old = static_cast<void **>(calloc(5, sizeof(void *)));
    pthread_barrier_init(&started, nullptr, 3);
    pthread_t thread;
    for (int i = 0; i < 2; i++) pthread_create(&thread, nullptr, work, nullptr);
    pthread_barrier_wait(&started);
    static char first[] = "lose 405";
    run(first);
    overwrite();
    puts("ready");
    char line[100];
    size_t used = 0;
    while (read(0, line + used, 1) == 1) {
        if (line[used] != '\n') {
            used = (used + 1) % (sizeof line - 1);
            continue;
        }
        line[used] = 0;
        used = 0;
        run(line);
        overwrite();
        puts("done");
    }
}
