// Ways to leave an allocating function: the program defines `malloc` itself, and a hook inside it does what allocators,
// fibers and profilers do. What it prints has to be the same whether it is traced or not.
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <execinfo.h>
#include <new>
#include <pthread.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static const int ROUNDS = 60;

static void (*volatile hook)();
static void *volatile sink;

// Memory is handed out once and never taken back.
alignas(64) static char arena[64 << 20];
static std::atomic<size_t> used;

static char *hand_out(size_t size) {
    return arena + used.fetch_add((size + 15) & ~size_t(15));
}

// A declaration of the C library's would say that it does not throw.
extern "C" void *own_malloc(size_t size) __asm__("malloc");
extern "C" void *own_calloc(size_t count, size_t size) __asm__("calloc");
extern "C" void *own_realloc(void *old, size_t size) __asm__("realloc");
extern "C" void own_free(void *block) __asm__("free");

extern "C" __attribute__((noinline)) void *own_malloc(size_t size) {
    char *block = hand_out(size);
    void (*todo)() = hook;
    if (todo) {
        hook = nullptr;
        todo();
    }
    return block;
}
extern "C" void *own_calloc(size_t count, size_t size) { return hand_out(count * size); }
extern "C" void *own_realloc(void *old, size_t size) {
    char *block = hand_out(size);
    if (old) memcpy(block, old, size);
    return block;
}
extern "C" void own_free(void *block) { sink = block; }

#define CALLER __attribute__((noinline, noclone))

CALLER static void keep() { sink = own_malloc(100); }
CALLER static void keep_deep(int depth) {
    volatile char frame[64];
    frame[0] = 1;
    if (depth) keep_deep(depth - 1); else sink = own_malloc(200);
    frame[1] = 2;
}
CALLER static void lose() { sink = own_malloc(300); }

struct Failed {};
static int count;

static void throws() { throw Failed(); }
static void by_exception() {
    for (int i = 0; i < ROUNDS; i++) {
        hook = throws;
        try { lose(); } catch (Failed &) { count++; }
        keep();
        keep_deep(5);
    }
}

static sigjmp_buf place;
static void jumps() { siglongjmp(place, 1); }
static void by_longjmp() {
    for (int i = 0; i < ROUNDS; i++) {
        if (sigsetjmp(place, 0) == 0) { hook = jumps; lose(); } else { count++; }
        keep();
        keep_deep(5);
    }
}

static ucontext_t here, there;
static volatile int came_back;
static void sets_context() { setcontext(&here); }
static void by_setcontext() {
    for (int i = 0; i < ROUNDS; i++) {
        came_back = 0;
        getcontext(&here);
        if (came_back++ == 0) { hook = sets_context; lose(); } else { count++; }
        keep();
        keep_deep(5);
    }
}

static char fiber_stack[256 << 10];
static void yields_to_fiber() { swapcontext(&here, &there); }
static void yields_back() { swapcontext(&there, &here); }
// Both are inside `malloc` at the same time, and leave it in the order in which they entered it.
static void fiber() {
    for (;;) {
        hook = yields_back;
        keep_deep(3);
        count++;
    }
}
static void by_fiber() {
    getcontext(&there);
    there.uc_stack.ss_sp = fiber_stack;
    there.uc_stack.ss_size = sizeof fiber_stack;
    there.uc_link = nullptr;
    makecontext(&there, fiber, 0);
    for (int i = 0; i < ROUNDS; i++) {
        hook = yields_to_fiber;
        keep();
    }
}

static void is_cancelled() { pthread_cancel(pthread_self()); pthread_testcancel(); }
static void exits_thread() { pthread_exit(nullptr); }
struct Counted { ~Counted() { count++; } };
static void *ended_thread(void *what) {
    Counted counted;
    hook = reinterpret_cast<void (*)()>(what);
    lose();
    return nullptr;
}
static void in_threads(void (*what)()) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread;
        pthread_create(&thread, nullptr, ended_thread, reinterpret_cast<void *>(what));
        pthread_join(thread, nullptr);
        keep();
        keep_deep(5);
    }
}
static void by_cancel() { in_threads(is_cancelled); }
static void by_thread_exit() { in_threads(exits_thread); }

static void forks() {
    pid_t child = vfork();
    if (child == 0) _exit(7);
    int status = 0;
    waitpid(child, &status, 0);
    count += WEXITSTATUS(status) == 7;
}
static void by_vfork() {
    for (int i = 0; i < ROUNDS; i++) {
        hook = forks;
        keep();
        keep_deep(5);
    }
}

static void handler(int) { keep_deep(2); count++; }
static void is_interrupted() { raise(SIGUSR1); }
static char signal_stack[64 << 10];
static void by_signal() {
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, nullptr);
    for (int i = 0; i < ROUNDS; i++) {
        hook = is_interrupted;
        keep();
    }
}

// As a profiler does it: whose block is it?
static uintptr_t seen;
static void looks_at_its_stack() {
    void *frames[64];
    int found = backtrace(frames, 64);
    for (int i = 0; i < found; i++) {
        seen = seen * 31 + (reinterpret_cast<uintptr_t>(frames[i]) & 0xfff);
    }
    count += found;
}
static void by_backtrace() {
    for (int i = 0; i < ROUNDS; i++) {
        hook = looks_at_its_stack;
        keep();
        keep_deep(5);
    }
}

static const struct { const char *name; void (*run)(); } WAYS[] = {
    {"exception", by_exception}, {"longjmp", by_longjmp}, {"setcontext", by_setcontext}, {"fiber", by_fiber},
    {"cancel", by_cancel}, {"thread-exit", by_thread_exit}, {"vfork", by_vfork}, {"signal", by_signal},
    {"backtrace", by_backtrace},
};

static void say(const char *line) { if (write(1, line, strlen(line)) < 0) _exit(2); }
static void wait_for_line() { char byte = 0; while (read(0, &byte, 1) == 1 && byte != '\n') {} }

int main(int argc, char **argv) {
    void *frames[4];
    sink = frames;
    // The unwinder allocates when it is first used.
    backtrace(frames, 4);
    try { throw Failed(); } catch (Failed &) {}
    say("ready\n");
    wait_for_line();
    for (auto &way : WAYS) {
        if (argc > 1 && strcmp(argv[1], way.name) == 0) way.run();
    }
    char line[100];
    int length = snprintf(line, sizeof line, "done %d %lx\n", count, (unsigned long)seen);
    line[length] = 0;
    say(line);
    wait_for_line();
    return 3;
}
