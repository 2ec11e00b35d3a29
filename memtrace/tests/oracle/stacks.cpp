// Allocates in every kind of frame. Beside each allocation it prints what backtrace() says of the same place:
// "number: address address …", innermost first. Begins with a line from standard input, ends with it.
#include <algorithm>
#include <alloca.h>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <execinfo.h>
#include <functional>
#include <pthread.h>
#include <stdexcept>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { SIZE = 1 << 20 };
static volatile int sink;
static char *volatile escape;

// Both calls are in this function, so the stacks differ in the first frame's address alone.
NOINLINE static void take(int number) {
    void *frames[256];
    int count = backtrace(frames, 256);
    void *volatile block = malloc(SIZE + number);
    free(block);
    flockfile(stdout);
    printf("%d:", number);
    for (int i = 0; i < count; i++) printf(" %lx", (unsigned long)frames[i]);
    printf("\n");
    funlockfile(stdout);
    sink++;
}

NOINLINE static void with_alloca(int bytes) {
    escape = (char *)alloca(bytes);
    memset(escape, 1, bytes);
    take(1);
    sink += escape[0];
}

NOINLINE static void with_vla(int count) {
    long values[count];
    for (int i = 0; i < count; i++) values[i] = i;
    escape = (char *)values;
    take(2);
    sink += (int)values[count / 2];
}

// A stack pointer aligned in the prologue, with arguments on the stack: GCC keeps the old one in another register.
NOINLINE static void aligned(int a, int b, int c, int d, int e, int f, int on_stack, int bytes) {
    alignas(128) char buffer[256] = {};
    escape = (char *)alloca(bytes);
    escape[0] = buffer[on_stack] = (char)(a + b + c + d + e + f);
    take(3);
    sink += on_stack + escape[0] + buffer[3];
}

struct Guard {
    ~Guard() { take(5); }
};

NOINLINE static void thrower(int depth) {
    if (depth == 0) throw std::runtime_error("expected");
    Guard guard;
    thrower(depth - 1);
    sink++;
}

NOINLINE static void exceptions() {
    try {
        thrower(1);
    } catch (const std::exception &) {
        take(4);
    }
    sink++;
}

static void *inner_thread(void *) {
    take(7);
    sink++;
    return nullptr;
}

static void *thread(void *) {
    pthread_t inner;
    take(6);
    pthread_create(&inner, nullptr, inner_thread, nullptr);
    pthread_join(inner, nullptr);
    return nullptr;
}

static int compare(const void *a, const void *b) {
    if (*(const int *)a == 3) {
        take(8);
        *(int *)a = 4;
    }
    return *(const int *)a - *(const int *)b;
}

static void on_signal(int) {
    take(9);
    sink++;
}

static void on_alternate(int) {
    take(10);
    sink++;
}

static volatile sig_atomic_t alarmed;

static void on_alarm(int) {
    if (!alarmed) take(11);
    alarmed = 1;
}

// The timer interrupts this loop anywhere.
NOINLINE static void spin(int bytes) {
    volatile char room[96];
    for (unsigned i = 0; !alarmed; i++) room[i % sizeof room] = (char)(i + bytes);
    sink += room[0];
}

static ucontext_t home, routine;

static void coroutine() {
    take(12);
    swapcontext(&routine, &home);
}

NOINLINE static void vforked() {
    pid_t child = vfork();
    if (child == 0) _exit(0);
    int status;
    waitpid(child, &status, 0);
    take(13);
    sink += status;
}

static jmp_buf back;

// The last instruction is a call: the return address is that of the next function.
NOINLINE __attribute__((noreturn)) static void leaves(int value) {
    take(14);
    longjmp(back, value);
}

__attribute__((noreturn)) static void calls_and_leaves() {
    sink++;
    leaves(1);
}

NOINLINE static int deep(int depth) {
    if (depth == 0) take(15);
    int result = depth == 0 ? sink : deep(depth - 1) + 1;
    sink = result;
    return result;
}

NOINLINE static void large() {
    char room[700 << 10];
    escape = room;
    room[sink & 1023] = 1;
    take(16);
    sink += room[7];
}

int main() {
    void *first[4];
    backtrace(first, 4);
    setvbuf(stdout, nullptr, _IOLBF, 1 << 16);
    if (getchar() == EOF) return 1;

    with_alloca(100 + sink);
    with_vla(50 + sink);
    aligned(1, 2, 3, 4, 5, 6, 7, 200 + sink);
    exceptions();

    pthread_t other;
    pthread_create(&other, nullptr, thread, nullptr);
    pthread_join(other, nullptr);

    int values[] = {3, 9, 1, 7};
    qsort(values, 4, sizeof *values, compare);

    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);

    static char stack[1 << 16];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_handler = on_alternate;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR2, &action, nullptr);
    raise(SIGUSR2);

    signal(SIGALRM, on_alarm);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, nullptr);
    spin(sink);

    static char coroutine_stack[1 << 16];
    getcontext(&routine);
    routine.uc_stack.ss_sp = coroutine_stack;
    routine.uc_stack.ss_size = sizeof coroutine_stack;
    makecontext(&routine, coroutine, 0);
    swapcontext(&home, &routine);

    vforked();
    if (setjmp(back) == 0) calls_and_leaves();
    deep(60);
    large();
    std::function<void(int)> call = [&](int number) {
        take(number);
        sink += values[0];
    };
    call(17);

    puts("done");
    while (getchar() != EOF) {
    }
}
