/* A master that starts a worker for each line on its standard input: "fork", whose blocks have 700 bytes; "exec", which is
 * executed anew and whose blocks have 512; "daemon", whose parent exits at once, for a minute; or "few", which waits for SIGUSR1, allocates ten blocks of 1000 bytes, frees three of
 * them, waits again, and exits. With an argument, it is a worker of the second kind itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

static void *volatile kept;

__attribute__((noinline)) static void handle(size_t size) {
    kept = malloc(size);
}

static void work(size_t size) {
    for (;;) {
        handle(size);
        usleep(10000);
    }
}

static void work_a_little(void) {
    void *blocks[10];
    sigset_t signals;
    int signal;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigwait(&signals, &signal);
    for (int i = 0; i < 10; i++) {
        handle(1000);
        blocks[i] = kept;
    }
    for (int i = 0; i < 3; i++)
        free(blocks[i]);
    sigwait(&signals, &signal);
    _exit(0);
}

int main(int argc, char **argv) {
    char line[16];
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    /* Workers that end leave nothing behind, not even a number. */
    signal(SIGCHLD, SIG_IGN);
    setbuf(stdin, NULL);
    puts("ready");
    fflush(stdout);
    if (argc > 1)
        work(512);
    while (fgets(line, sizeof line, stdin)) {
        int worker = fork();
        if (!worker) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (!strcmp(line, "exec\n"))
                execl("/proc/self/exe", argv[0], "worker", NULL);
            if (!strcmp(line, "daemon\n")) {
                if (fork())
                    _exit(0);
                prctl(PR_SET_PDEATHSIG, 0);
                alarm(60);
                printf("worker %d\n", getpid());
                fflush(stdout);
            }
            if (!strcmp(line, "few\n"))
                work_a_little();
            work(700);
        }
        if (strcmp(line, "daemon\n") != 0)
            printf("worker %d\n", worker);
        fflush(stdout);
    }
    return 0;
}
