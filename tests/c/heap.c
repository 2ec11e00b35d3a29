// Knows all its blocks. Threads take and give back blocks of all kinds; lines on standard input say what to do:
//   rest FILE   all threads pause; FILE gets every block there is, and what malloc says of itself
//   go          they go on
//   begin       a census begins
//   end FILE    it has ended: all threads pause; FILE gets the blocks that were there all the time (L), and those that
//               were there some of the time (M)
//   fork FILE   while at rest: a child that takes more blocks, and writes FILE as for `rest`
// Each is answered by a line. Nothing here allocates but what is counted.
// Arguments: threads, slots of each, and any of
//   churn    threads end and others take their place
//   scatter  `brk` fails soon: the main arena maps memory instead
//   share    the program itself takes memory by `sbrk`, between the allocator's
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <fcntl.h>
#include <unistd.h>

#ifdef ANY_GLIBC
// To be run by any glibc, with `-nostartfiles -Wl,--no-as-needed -l:libpthread.so.0`: the oldest versions of what has newer ones.
__asm__(".symver pthread_create,pthread_create@GLIBC_2.2.5\n"
        ".symver pthread_join,pthread_join@GLIBC_2.2.5\n"
        ".symver __libc_start_main,__libc_start_main@GLIBC_2.2.5\n"
        ".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "mov %rdx, %r9\n"
        "pop %rsi\n"
        "mov %rsp, %rdx\n"
        "and $-16, %rsp\n"
        "push %rax\n"
        "push %rsp\n"
        "lea main(%rip), %rdi\n"
        "xor %ecx, %ecx\n"
        "xor %r8d, %r8d\n"
        "call *__libc_start_main@GOTPCREL(%rip)\n"
        "hlt\n");
#endif

enum { MOST_THREADS = 64, BOXES = 64, LOG = 1 << 22, CHURN = 3000 };
struct slot { void *block; long epoch; };
struct freed { uintptr_t block; size_t size; };

static int threads, slots_each, churn, share;
static struct slot *slots[MOST_THREADS];
static struct freed *logs[MOST_THREADS];
static _Atomic size_t logged[MOST_THREADS];
static _Atomic(void *) boxes[BOXES];
static atomic_int pausing, paused;
static atomic_long epoch;
static uint64_t seeds[MOST_THREADS];

static uint64_t next(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static size_t size_of_next(uint64_t *seed) {
    uint64_t kind = next(seed) % 1000, more = next(seed) >> 10;
    if (kind < 600) return more % 128;
    if (kind < 900) return 128 + more % 896;
    if (kind < 995) return 1024 + more % 15000;
    if (kind < 999) return 16384 + more % 100000;
    return 140000 + more % 400000;
}

static void *take(uint64_t *seed) {
    size_t size = size_of_next(seed);
    void *block;
    switch (next(seed) % 8) {
    case 0: block = calloc(1, size); break;
    case 1: if (posix_memalign(&block, (size_t) 32 << next(seed) % 10, size)) abort(); break;
    default: block = malloc(size);
    }
    // Some blocks keep what was in them.
    if (next(seed) % 4) memset(block, (int) next(seed), size < 256 ? size : 256);
    else if (size >= 8) *(void **) block = block;
    return block;
}

static void note_free(int thread, uintptr_t block, size_t size) {
    if (atomic_load(&epoch) != 1) return;
    size_t place = atomic_fetch_add(&logged[thread], 1);
    if (place < LOG) logs[thread][place] = (struct freed) {block, size};
}

static void step(int thread, uint64_t *seed) {
    // The last ones are rarely chosen.
    uint64_t chosen = next(seed) % (uint64_t) slots_each * (next(seed) % 1024) / 1024;
    struct slot *slot = &slots[thread][chosen];
    uint64_t what = next(seed) % 16;
    if (slot->block && what == 0) {
        // To another thread, which frees it. What a box had is not known to be as old.
        slot->block = atomic_exchange(&boxes[next(seed) % BOXES], slot->block);
        slot->epoch = atomic_load(&epoch) ? 1 : 0;
    } else if (slot->block && what == 1) {
        void *old = slot->block;
        uintptr_t address = (uintptr_t) old;
        size_t size = malloc_usable_size(old);
        slot->block = realloc(old, size_of_next(seed) + 1);
        note_free(thread, address, size);
        slot->epoch = atomic_load(&epoch);
    } else if (slot->block) {
        void *old = slot->block;
        uintptr_t address = (uintptr_t) old;
        size_t size = malloc_usable_size(old);
        slot->block = NULL;
        free(old);
        note_free(thread, address, size);
    } else {
        slot->block = take(seed);
        slot->epoch = atomic_load(&epoch);
    }
}

static void *work(void *argument) {
    int thread = (int) (intptr_t) argument;
    uint64_t seed = seeds[thread];
    for (long steps = 0; !churn || steps < CHURN; steps++) {
        if (share && thread == 0 && steps < 5000 && steps % 1000 == 0) memset(sbrk(40000), 0x41, 40000);
        if (atomic_load_explicit(&pausing, memory_order_relaxed)) {
            atomic_fetch_add(&paused, 1);
            while (atomic_load(&pausing)) usleep(1000);
            atomic_fetch_sub(&paused, 1);
        }
        step(thread, &seed);
    }
    seeds[thread] = seed;
    return NULL;
}

static void *work_on(void *argument) {
    for (;;) {
        pthread_t worker;
        if (pthread_create(&worker, NULL, work, argument)) abort();
        pthread_join(worker, NULL);
    }
    return NULL;
}

static void rest(void) {
    atomic_store(&pausing, 1);
    while (atomic_load(&paused) < threads) usleep(1000);
}

static void go(void) {
    atomic_store(&pausing, 0);
    while (atomic_load(&paused) > 0) usleep(1000);
}

static char text[1 << 16];
static size_t length;
static int output;

static void flush(void) {
    if (write(output, text, length) != (ssize_t) length) abort();
    length = 0;
}

static void put(const char *format, ...) {
    va_list values;
    va_start(values, format);
    length += (size_t) vsnprintf(text + length, sizeof text - length, format, values);
    va_end(values);
    if (length > sizeof text - 200) flush();
}

static void put_blocks(char kind, int at_all_times) {
    for (int thread = 0; thread < threads; thread++)
        for (int i = 0; i < slots_each; i++) {
            struct slot *slot = &slots[thread][i];
            if (slot->block && (!at_all_times || slot->epoch == 0))
                put("%c %lx %zu\n", kind, (unsigned long) slot->block, malloc_usable_size(slot->block));
        }
    for (int i = 0; i < BOXES && !at_all_times; i++) {
        void *block = atomic_load(&boxes[i]);
        if (block) put("%c %lx %zu\n", kind, (unsigned long) block, malloc_usable_size(block));
    }
}

#ifndef ANY_GLIBC
// What jemalloc says of itself, if it is preloaded: bytes in use, with those in caches; bytes in caches; pages of free extents.
static void put_jemalloc(void) {
    typedef int control(const char *, void *, size_t *, void *, size_t);
    control *mallctl = getenv("LD_PRELOAD") ? (control *) dlsym(RTLD_DEFAULT, "mallctl") : NULL;
    if (!mallctl) return;
    static const char *names[] = {"stats.allocated", "stats.arenas.4096.tcache_bytes", "stats.arenas.4096.pdirty",
                                  "stats.arenas.4096.pmuzzy"};
    size_t values[4] = {0}, size = sizeof(size_t);
    uint64_t now = 1;
    if (mallctl("epoch", NULL, NULL, &now, sizeof now)) abort();
    for (int i = 0; i < 4; i++)
        if (mallctl(names[i], &values[i], &size, NULL, 0)) abort();
    put("J %zu %zu %zu %zu\n", values[0], values[1], values[2], values[3]);
}
#endif

static void put_totals(void) {
#ifndef ANY_GLIBC
    put_jemalloc();
    struct mallinfo2 totals = mallinfo2();
    put("T %zu %zu %zu\n", totals.fordblks, totals.hblks, totals.hblkhd);
#else
    // From 2.33 there is a better one.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo totals = mallinfo();
    put("T %u %u %u\n", (unsigned) totals.fordblks, (unsigned) totals.hblks, (unsigned) totals.hblkhd);
#endif
}

static void open_file(const char *name) {
    output = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (output < 0) abort();
}

static void close_file(void) {
    flush();
    close(output);
}

static void say(const char *line) {
    if (write(1, line, strlen(line)) < 0) _exit(2);
}

static void *map(size_t bytes) {
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) abort();
    return memory;
}

static void scatter(void) {
    uintptr_t end = ((uintptr_t) sbrk(0) + 4095) & ~(uintptr_t) 4095;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    if (mmap((void *) (end + (1 << 20)), 4096, PROT_NONE, flags, -1, 0) == MAP_FAILED) abort();
}

static void fork_and_write(const char *name) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        atomic_store(&pausing, 0);
        // Slots are shared memory: a child needs its own.
        for (int thread = 0; thread < threads; thread++) {
            size_t bytes = sizeof(struct slot) * (size_t) slots_each;
            int flags = MAP_PRIVATE | MAP_ANONYMOUS;
            struct slot *own = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
            memcpy(own, slots[thread], bytes);
            slots[thread] = own;
        }
        uint64_t seed = 12345;
        for (int i = 0; i < 20000; i++) step(i % threads, &seed);
        open_file(name);
        put_blocks('R', 0);
        put_totals();
        close_file();
        char line[40];
        snprintf(line, sizeof line, "forked %d\n", (int) getpid());
        say(line);
        for (;;) pause();
    }
}

int main(int count, char **arguments) {
    threads = atoi(arguments[1]);
    slots_each = atoi(arguments[2]);
    if (threads > MOST_THREADS) return 2;
    for (int i = 3; i < count; i++) {
        churn |= !strcmp(arguments[i], "churn");
        share |= !strcmp(arguments[i], "share");
        if (!strcmp(arguments[i], "scatter")) scatter();
    }
    for (int i = 0; i < threads; i++) {
        slots[i] = map(sizeof(struct slot) * (size_t) slots_each);
        logs[i] = map(sizeof(struct freed) * LOG);
        seeds[i] = 88172645463325252ull + (uint64_t) i * 7919;
        pthread_t thread;
        if (pthread_create(&thread, NULL, churn ? work_on : work, (void *) (intptr_t) i)) abort();
    }
    say("ready\n");
    char line[500];
    size_t used = 0;
    while (read(0, line + used, 1) == 1) {
        if (line[used] != '\n') {
            used = (used + 1) % (sizeof line - 1);
            continue;
        }
        line[used] = 0;
        used = 0;
        char *name = strchr(line, ' ');
        if (name) *name++ = 0;
        if (!strcmp(line, "rest")) {
            rest();
            open_file(name);
            put_blocks('R', 0);
            put_totals();
            close_file();
            say("resting\n");
        } else if (!strcmp(line, "go")) {
            go();
            say("going\n");
        } else if (!strcmp(line, "begin")) {
            for (int i = 0; i < threads; i++) atomic_store(&logged[i], 0);
            atomic_store(&epoch, 1);
            say("begun\n");
        } else if (!strcmp(line, "end")) {
            atomic_store(&epoch, 2);
            rest();
            open_file(name);
            put_blocks('L', 1);
            put_blocks('M', 0);
            size_t events = 0;
            for (int thread = 0; thread < threads; thread++) {
                size_t most = atomic_load(&logged[thread]);
                events += most;
                for (size_t i = 0; i < (most < LOG ? most : LOG); i++)
                    put("M %lx %zu\n", (unsigned long) logs[thread][i].block, logs[thread][i].size);
            }
            put("E %zu\n", events);
            close_file();
            // Blocks are as old as the next census.
            for (int thread = 0; thread < threads; thread++)
                for (int i = 0; i < slots_each; i++) slots[thread][i].epoch = 0;
            atomic_store(&epoch, 0);
            say("ended\n");
        } else if (!strcmp(line, "fork")) {
            fork_and_write(name);
        }
    }
    return 0;
}
