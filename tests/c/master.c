/* A master that starts a worker for each line on its standard input: "fork", whose blocks have 700 bytes, or "exec", which is
 * executed anew and whose blocks have 512. With an argument, it is such a worker itself. */
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

int main(int argc, char **argv) {
    char line[16];
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
            work(700);
        }
        printf("worker %d\n", worker);
        fflush(stdout);
    }
    return 0;
}
