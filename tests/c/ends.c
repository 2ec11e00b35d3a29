// Ends in the way that its first argument names. Writes where a word is in its memory, and what it has to say, to the
// file of its second argument.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK 0x6d656d7472616365UL

static int out;
static int started;
static const char *file = "-";

static void say(const char *text, unsigned long number) {
    char line[128];
    int length = snprintf(line, sizeof line, "%s %lu\n", text, number);
    if (write(out, line, length) != length)
        abort();
}

// Waits in a system call forever, with a word in a register that calls keep.
static void *keep(void *word) {
    unsigned long value = MARK ^ (unsigned long)word;
#if defined(__x86_64__)
    __asm__ volatile("mov %0, %%r12\n lock incl %2\n1: mov %1, %%eax\n syscall\n jmp 1b"
                     : : "r"(value), "i"(SYS_pause), "m"(started) : "r12", "rax", "rcx", "r11", "memory");
#else
    __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause();
#endif
    return (void *)value;
}

static void start(int threads) {
    for (long word = 1; word <= threads; word++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, keep, (void *)word))
            abort();
    }
    while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) < threads)
        usleep(1000);
}

static void *end_all(void *status) {
    _exit((int)(long)status);
}

static void *execute(void *path) {
    execl(path, path, "return", file, NULL);
    abort();
}

static void *last(void *nothing) {
    usleep(100000);
    say("last", 0);
    return nothing;
}

static void *nothing(void *argument) {
    return argument;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    say(info->si_code == SI_QUEUE ? "queued" : "signal", number * 1000UL + info->si_value.sival_int);
}

// Runs until a signal ends it.
static void wait_forever(void) {
    say("waiting", getpid());
    for (;;)
        pause();
}

int main(int count, char **arguments) {
    const char *way = count > 1 ? arguments[1] : "return";
    file = count > 2 ? arguments[2] : file;
    out = strcmp(file, "-") ? open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : 1;
    unsigned long *mark = malloc(4096);
    mark[1] = MARK;
    say("mark", (unsigned long)&mark[1]);
    pthread_t thread;

    if (!strcmp(way, "return"))
        return 7;
    if (!strcmp(way, "worker")) {
        start(3);
        pthread_create(&thread, NULL, end_all, (void *)9L);
        for (;;)
            pause();
    }
    if (!strcmp(way, "many")) {
        start(49);
        return 3;
    }
    if (!strcmp(way, "segv")) {
        start(2);
        *(volatile int *)8 = 1;
    }
    if (!strcmp(way, "abort"))
        abort();
    if (!strcmp(way, "wait")) {
        start(2);
        wait_forever();
    }
    if (!strcmp(way, "main_first")) {
        pthread_create(&thread, NULL, last, NULL);
        pthread_exit(NULL);
    }
    if (!strcmp(way, "exec")) {
        start(3);
        pthread_create(&thread, NULL, execute, arguments[0]);
        for (;;)
            pause();
    }
    if (!strcmp(way, "churn")) {
        for (int round = 0; round < 300; round++) {
            pthread_t some[4];
            for (int i = 0; i < 4; i++)
                pthread_create(&some[i], NULL, nothing, NULL);
            for (int i = 0; i < 4; i++)
                pthread_join(some[i], NULL);
        }
        return 4;
    }
    if (!strcmp(way, "children")) {
        int status = 0;
        for (int child = 0; child < 20; child++)
            if (!fork())
                _exit(child);
        unsigned long sum = 0;
        while (wait(&status) > 0)
            sum += WEXITSTATUS(status);
        say("sum", sum);
        say("system", WEXITSTATUS(system("grep -q TracerPid:.[1-9] /proc/self/status && exit 4; exit 5")));
        if (!fork()) {
            // Outlives its parent.
            usleep(300000);
            say("outlived", 1);
            _exit(0);
        }
        return 6;
    }
    if (!strcmp(way, "signals")) {
        struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
        int signals[] = {SIGUSR1, SIGRTMIN + 3, SIGCONT, SIGTERM};
        for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
            sigaction(signals[i], &action, NULL);
        say("waiting", getpid());
        for (;;)
            pause();
    }
    if (!strcmp(way, "interrupted")) {
        // By a signal that is ignored, then by one that is handled.
        struct epoll_event event;
        int poll = epoll_create1(0);
        if (!fork())
            _exit(usleep(100000));
        say("ignored", epoll_wait(poll, &event, 1, 400) < 0 ? errno : 0);
        struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        ualarm(100000, 0);
        say("handled", epoll_wait(poll, &event, 1, 400) < 0 ? errno : 0);
        return 0;
    }
    return 1;
}
