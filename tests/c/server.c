/* A server that keeps 512 bytes every 10 ms until its standard input ends, and ways to start it: "daemon" leaves it running, with two
 * forks, and exits with status 3; "start PROGRAM ARGUMENT..." starts a program, waits for it, and exits with its status. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile kept;

__attribute__((noinline)) static void keep(void) {
    kept = malloc(512);
}

static int start(char **command) {
    int status, child = fork();
    if (!child) {
        execv(command[0], command);
        _exit(127);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    struct pollfd input = {0, POLLIN, 0};
    char byte;
    if (argc > 2 && !strcmp(argv[1], "start"))
        return start(argv + 2);
    if (argc > 1 && !strcmp(argv[1], "daemon")) {
        if (fork())
            return 3;
        setsid();
        if (fork())
            _exit(0);
    }
    for (;;) {
        keep();
        if (poll(&input, 1, 10) > 0 && read(0, &byte, 1) <= 0)
            return 0;
    }
}
