/* A program whose main thread leaves while others go on. It obeys letters on its standard input, a line each:
 *   k  keeps a hundred blocks of 222 bytes                       kept
 *   l  the main thread leaves                                    left
 *   n  another thread takes over, this one ends                  taken
 *   s  spins until the input has another line                    -
 *   x  executes itself, the main thread leaves before it waits   ready
 * and answers when that is done. With "gone" as argument the main thread has left before it is ready. */
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int pipe_to_main[2];
static pthread_t before;
static void *volatile kept;

static void say(const char *word) {
    write(1, word, strlen(word));
    write(1, "\n", 1);
}

__attribute__((noinline)) void keep_block(void) { kept = malloc(222); }

/* Waits until the main thread is a zombie. */
static void wait_for_main(void) {
    char path[64], stat[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
    for (;;) {
        int fd = open(path, O_RDONLY);
        ssize_t length = read(fd, stat, sizeof stat - 1);
        close(fd);
        if (length > 0) {
            stat[length] = 0;
            char *name = strrchr(stat, ')');
            if (name && name[2] == 'Z') return;
        }
        usleep(1000);
    }
}

static void dismiss_main(void) {
    write(pipe_to_main[1], "l", 1);
    wait_for_main();
}

static void *obey(void *first) {
    if (!first) {
        pthread_join(before, 0);
        say("taken");
    }
    char command;
    while (read(0, &command, 1) == 1) {
        switch (command) {
        case 'k':
            for (int i = 0; i < 100; i++) keep_block();
            say("kept");
            break;
        case 'l':
            dismiss_main();
            say("left");
            break;
        case 'n': {
            pthread_t next;
            before = pthread_self();
            pthread_create(&next, 0, obey, 0);
            return 0;
        }
        case 's': {
            struct pollfd input = {.fd = 0, .events = POLLIN};
            char end;
            read(0, &end, 1);
            while (poll(&input, 1, 0) == 0) {}
            break;
        }
        case 'x':
            execl("/proc/thread-self/exe", "executed", "gone", (char *)0);
        }
    }
    exit(0);
}

static void *begin(void *gone) {
    if (gone) dismiss_main();
    say("ready");
    return obey(gone ? gone : begin);
}

int main(int count, char **arguments) {
    pthread_t thread;
    char byte;
    pipe(pipe_to_main);
    pthread_create(&thread, 0, begin, count > 1 ? arguments[1] : 0);
    while (read(pipe_to_main[0], &byte, 1) != 1) {}
    pthread_exit(0);
}
