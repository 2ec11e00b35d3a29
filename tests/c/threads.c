/* A program whose main thread leaves while others go on. It obeys letters on its standard input, a line each:
 *   k  keeps a hundred blocks of 222 bytes                       kept
 *   l  the main thread leaves                                    left
 *   n  another thread takes over, this one ends                  taken
 *   s  spins until the input has another line                    -
 *   h  allocates and frees till then, one block in 1000 is kept  -
 *   d  has the C library's code read from its file again         dropped
 *   c  runs from a copy of the C library's code                  copied
 *   x  executes itself, the main thread leaves before it waits   ready
 * and answers when that is done. With "gone" as argument the main thread has left before it is ready. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int pipe_to_main[2];
static pthread_t before;
static void *volatile kept;

static void say(const char *word) {
    write(1, word, strlen(word));
    write(1, "\n", 1);
}

__attribute__((noinline)) void keep_block(void) { kept = malloc(222); }

__attribute__((noinline)) void churn(void) { free(kept = malloc(100)); }

/* The C library's code in memory. */
static char *code;
static size_t length, offset;
static const char *library;

static int find_code(struct dl_phdr_info *info, size_t size, void *function) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        size_t page = segment->p_vaddr & 4095;
        char *start = (char *)info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && (char *)function >= start && (char *)function < start + segment->p_memsz) {
            code = start - page;
            offset = segment->p_offset - page;
            length = (segment->p_memsz + page + 4095) & ~4095ul;
            library = info->dlpi_name;
            return 1;
        }
    }
    return 0;
}

/* Breakpoints are private pages: they go. */
static void drop_code(void) {
    dl_iterate_phdr(find_code, dlsym(RTLD_DEFAULT, "malloc"));
    madvise(code, length, MADV_DONTNEED);
}

static void copy_code(void) {
    dl_iterate_phdr(find_code, dlsym(RTLD_DEFAULT, "malloc"));
    char *copy = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int file = open(library, O_RDONLY);
    pread(file, copy, length, offset);
    close(file);
    mprotect(copy, length, PROT_READ | PROT_EXEC);
    mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, code);
}

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
        case 's':
        case 'h': {
            struct pollfd input = {.fd = 0, .events = POLLIN};
            char end;
            read(0, &end, 1);
            while (poll(&input, 1, 0) == 0) {
                if (command == 's') continue;
                keep_block();
                for (int i = 1; i < 1000; i++) churn();
            }
            break;
        }
        case 'd':
            drop_code();
            say("dropped");
            break;
        case 'c':
            copy_code();
            say("copied");
            break;
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
