/* Fills 24 MiB in the place that its first argument names: after "ready" and a line on standard input. Then it says "done PID
   NUMBER", the process that holds it and what else the test has to know, and waits for the end of its input. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define KB 1024ul
#define MB (1024 * KB)
#define SIZE (24 * MB)

static char page[64 * KB];

static void check(int is_fine, const char *what)
{
    if (!is_fine) {
        perror(what);
        exit(1);
    }
}

/* A line, or the end of the input. */
static void wait_for_line(void)
{
    char byte = 0;
    while (byte != '\n')
        if (read(0, &byte, 1) != 1)
            return;
}

static void wait_for_end(void)
{
    char byte;
    while (read(0, &byte, 1) == 1)
        ;
}

static char *map(size_t size, int flags)
{
    char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    return memory;
}

static void write_all(int file)
{
    for (size_t done = 0; done < SIZE; done += sizeof page)
        check(write(file, page, sizeof page) == sizeof page, "write");
}

static void anonymous(void)
{
    memset(map(SIZE, MAP_PRIVATE), 1, SIZE);
}

/* A thread that ends with nothing of its stack in memory. */
static void *ends(void *nothing)
{
    return nothing;
}

static void threads(void)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 8 * MB);
    for (int number = 0; number < 40; number++) {
        pthread_t thread;
        check(pthread_create(&thread, &attributes, ends, 0) == 0, "pthread_create");
    }
    /* They have ended when the kernel shows this one only. */
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", getpid());
    do {
        usleep(1000);
        int file = open(path, O_RDONLY);
        ssize_t length = read(file, text, sizeof text - 1);
        close(file);
        text[length > 0 ? length : 0] = 0;
    } while (!strstr(text, "Threads:\t1\n"));
}

static long segment(void)
{
    int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
    check(id >= 0, "shmget");
    char *memory = shmat(id, 0, 0);
    memset(memory, 1, SIZE);
    shmdt(memory);
    return id;
}

/* A page table for each 2 MiB, and the page of zeros in it. */
static void page_tables(void)
{
    size_t size = SIZE / 4096 * 2 * MB;
    volatile char *memory = map(size, MAP_PRIVATE | MAP_NORESERVE);
    madvise((void *)memory, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += 2 * MB)
        (void)memory[at];
}

static void pipes(void)
{
    for (size_t done = 0; done < SIZE; done += sizeof page) {
        int ends[2];
        check(pipe(ends) == 0, "pipe");
        check(write(ends[1], page, sizeof page) == sizeof page, "write");
    }
}

/* Returns the bytes that were sent. */
static long sockets(void)
{
    long sent = 0;
    while (sent < (long)SIZE) {
        int ends[2];
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
        ssize_t length;
        while ((length = send(ends[0], page, 32 * KB, MSG_DONTWAIT)) > 0)
            sent += length;
    }
    return sent;
}

/* Names that are not there, which begin so; 192 bytes are kept for each. */
static void dentries(const char *names)
{
    char path[4096];
    struct stat stat_of;
    for (size_t number = 0; number < SIZE / 192; number++) {
        snprintf(path, sizeof path, "%s%zu", names, number);
        stat(path, &stat_of);
    }
}

static int bpf_map(void)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = 4;
    attributes.value_size = 4096;
    attributes.max_entries = SIZE / 4096;
    int map = syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
    check(map >= 0, "bpf");
    return map;
}

/* A map that no process has open: its descriptor is on its way through a socket. */
static void vmalloc(void)
{
    int ends[2], map = bpf_map();
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof map)];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof map), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &map, sizeof map);
    struct iovec text = {.iov_base = page, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    check(sendmsg(ends[0], &message, 0) == 1, "sendmsg");
    close(map);
}

/* A file for each watch. Returns how many. */
static long watches(const char *directory)
{
    long number = 0;
    char path[4096];
    int group = inotify_init1(IN_CLOEXEC);
    check(group >= 0, "inotify_init1");
    for (; number < 16000; number++) {
        snprintf(path, sizeof path, "%s/%ld", directory, number);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        check(inotify_add_watch(group, path, IN_MODIFY) >= 0, "inotify_add_watch");
    }
    return number;
}

static void huge_pages(void)
{
    memset(map(SIZE, MAP_PRIVATE | MAP_HUGETLB), 1, SIZE);
}

/* Where nothing is written to twice, nothing comes back. */
static void swapped(void)
{
    char *memory = map(SIZE, MAP_PRIVATE);
    madvise(memory, SIZE, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < SIZE; at += 4096)
        memset(memory + at, (int)(at >> 12) | 1, 4096);
    for (int time = 0; time < 5; time++)
        check(madvise(memory, SIZE, MADV_PAGEOUT) == 0, "madvise");
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "", *where = count > 2 ? arguments[2] : "";
    long number = 0;
    int child = 0;
    memset(page, 1, sizeof page);
    if (!strcmp(what, "named"))
        prctl(PR_SET_NAME, "a)\n\x1b[2J\xff");
    puts("ready");
    fflush(stdout);
    wait_for_line();
    if (!strcmp(what, "child")) {
        child = fork();
        if (child == 0)
            anonymous();
        usleep(child ? 300000 : 0);
        if (child == 0) {
            wait_for_end();
            _exit(0);
        }
    } else if (!strcmp(what, "anonymous") || !strcmp(what, "named")) {
        anonymous();
    } else if (!strcmp(what, "slow")) {
        char *memory = map(SIZE, MAP_PRIVATE);
        for (size_t done = 0; done < SIZE; done += 64 * KB) {
            memset(memory + done, 1, 64 * KB);
            usleep(20000);
        }
    } else if (!strcmp(what, "threads")) {
        threads();
    } else if (!strcmp(what, "shared")) {
        memset(map(SIZE, MAP_SHARED), 1, SIZE);
    } else if (!strcmp(what, "file")) {
        write_all(open(where, O_CREAT | O_RDWR, 0600));
    } else if (!strcmp(what, "deleted")) {
        int file = open(where, O_CREAT | O_RDWR, 0600);
        unlink(where);
        write_all(file);
    } else if (!strcmp(what, "segment")) {
        number = segment();
    } else if (!strcmp(what, "memfd")) {
        write_all(memfd_create("a memfd", 0));
    } else if (!strcmp(what, "page_tables")) {
        page_tables();
    } else if (!strcmp(what, "pipes")) {
        pipes();
    } else if (!strcmp(what, "sockets")) {
        number = sockets();
    } else if (!strcmp(what, "dentries")) {
        dentries(where);
    } else if (!strcmp(what, "watches")) {
        number = watches(where);
    } else if (!strcmp(what, "huge_pages")) {
        huge_pages();
    } else if (!strcmp(what, "swapped")) {
        swapped();
    } else if (!strcmp(what, "command")) {
        check(system(where) == 0, "command");
    } else if (!strcmp(what, "bpf_map")) {
        bpf_map();
    } else if (!strcmp(what, "vmalloc")) {
        vmalloc();
    }
    printf("done %d %ld\n", child ? child : getpid(), number);
    fflush(stdout);
    wait_for_end();
    return 0;
}
