/* A program that puts its own allocator functions before the C library's, and leaves them by other ways than the return:
 * `interposer plain | jump | jump-realloc | free-after-jump | cancel`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define ROUNDS 60

/* What the next call is to do before it does its work: it is made where nothing of the C library's is held. */
enum leave { STAY, JUMP, CANCEL };
static _Thread_local volatile enum leave leave;
static sigjmp_buf target;

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

static char early[1 << 16];
static size_t early_used;

static void resolve(void) {
    static int resolving;
    if (resolving++)
        return;
    next_calloc = dlsym(RTLD_NEXT, "calloc");
    next_realloc = dlsym(RTLD_NEXT, "realloc");
    next_free = dlsym(RTLD_NEXT, "free");
    next_malloc = dlsym(RTLD_NEXT, "malloc");
}

static void *early_block(size_t size) {
    void *block = early + early_used;
    early_used += (size + 15) & ~(size_t)15;
    return block;
}

static void maybe_leave(void) {
    enum leave how = leave;
    leave = STAY;
    if (how == JUMP)
        raise(SIGUSR1);
    if (how == CANCEL) {
        pthread_cancel(pthread_self());
        pthread_testcancel();
    }
}

NOINLINE void *malloc(size_t size) {
    if (!next_malloc)
        resolve();
    if (!next_malloc)
        return early_block(size);
    if (leave != STAY)
        maybe_leave();
    return next_malloc(size);
}

NOINLINE void *calloc(size_t count, size_t size) {
    if (!next_calloc)
        resolve();
    if (!next_calloc)
        return early_block(count * size);
    return next_calloc(count, size);
}

NOINLINE void *realloc(void *old, size_t size) {
    if (!next_realloc)
        resolve();
    if (leave != STAY)
        maybe_leave();
    return next_realloc(old, size);
}

NOINLINE void free(void *block) {
    if (!next_free)
        resolve();
    if ((char *)block >= early && (char *)block < early + sizeof early)
        return;
    next_free(block);
}

static void *volatile sink;

NOINLINE static void keep_plain(void) { sink = malloc(100); }
NOINLINE static void keep_cleared(void) { sink = calloc(10, 20); }
NOINLINE static void *grow_from(void) { return sink = malloc(300); }
NOINLINE static void keep_grown(void) { sink = realloc(grow_from(), 40000); }
NOINLINE static void keep_nothing(void) {
    sink = malloc(500);
    free(sink);
}

NOINLINE static void keep_shallow(void) { sink = malloc(600); }
NOINLINE static void keep_deep(void) { sink = malloc(700); }
NOINLINE static void keep_same(void) { sink = malloc(800); }
NOINLINE static void lose(void) { sink = malloc(900); }
NOINLINE static void *keep_old(void) { return sink = malloc(1000); }
NOINLINE static void *free_old(void) { return sink = malloc(950); }

static void *volatile old;
NOINLINE static void lose_realloc(void) { sink = realloc(old, 50000); }

NOINLINE static void at_depth(int depth, void (*what)(void)) {
    volatile char room[200];
    room[depth] = 0;
    if (depth == 0)
        what();
    else
        at_depth(depth - 1, what);
    room[depth] = 1;
}

static void jump_back(int signal) {
    (void)signal;
    siglongjmp(target, 1);
}

static void lose_by_jump(void (*what)(void)) {
    if (sigsetjmp(target, 1) == 0) {
        leave = JUMP;
        at_depth(10, what);
    }
}

static void plain(void) {
    for (int i = 0; i < ROUNDS; i++) {
        keep_plain();
        keep_cleared();
        keep_grown();
        keep_nothing();
    }
}

static void jump(void) {
    for (int i = 0; i < ROUNDS; i++) {
        lose_by_jump(lose);
        if (i % 3 == 0)
            at_depth(20, keep_deep);
        if (i % 3 == 1)
            at_depth(10, keep_same);
        at_depth(i % 2 ? 10 : 9, keep_same);
        at_depth(20, keep_deep);
        keep_shallow();
    }
}

static void jump_realloc(void) {
    for (int i = 0; i < ROUNDS; i++) {
        old = keep_old();
        lose_by_jump(lose_realloc);
        keep_shallow();
        old = free_old();
        lose_by_jump(lose_realloc);
        keep_shallow();
        free(old);
    }
}

static void free_after_jump(void) {
    for (int i = 0; i < ROUNDS; i++) {
        old = free_old();
        lose_by_jump(lose_realloc);
        free(old);
        keep_shallow();
    }
}

static volatile pid_t thread_id;

static void *cancelled(void *argument) {
    thread_id = gettid();
    leave = CANCEL;
    at_depth(10, argument ? lose_realloc : lose);
    return NULL;
}

/* Joins a thread and waits until the kernel has done with it. Before Linux 6.16 its end is announced to tracers only
 * after the one that joins it has been woken. */
static void join(pthread_t thread) {
    char path[64];
    pthread_join(thread, NULL);
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)thread_id);
    while (access(path, F_OK) == 0)
        usleep(100);
}

static void cancel(void) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread;
        old = keep_old();
        pthread_create(&thread, NULL, cancelled, i % 2 ? old : NULL);
        join(thread);
        old = free_old();
        pthread_create(&thread, NULL, cancelled, old);
        join(thread);
        free(old);
        keep_shallow();
    }
}

static void say(const char *line) {
    if (write(1, line, strlen(line)) < 0)
        _exit(1);
}

static void wait_for_line(void) {
    char byte = 0;
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    signal(SIGUSR1, jump_back);
    say("ready\n");
    wait_for_line();
    if (!strcmp(what, "plain"))
        plain();
    else if (!strcmp(what, "jump"))
        jump();
    else if (!strcmp(what, "jump-realloc"))
        jump_realloc();
    else if (!strcmp(what, "free-after-jump"))
        free_after_jump();
    else if (!strcmp(what, "cancel"))
        cancel();
    say("done\n");
    wait_for_line();
    return 0;
}
