// Keeps the addresses of blocks in one register each, and nowhere else.
//
// usage: registers HOW COUNT   HOW: rest, spin, vector, leader, churn, wait, vfork
//
// Prints the address that each of COUNT threads keeps, then "ready". Ends with its standard input.
//   rest    in rbx, in a system call
//   spin    in rbx, in user mode all the time
//   vector  in xmm15, in a system call
//   leader  as rest, while the main thread has ended
//   churn   as rest, while other threads begin and end
//   wait    as rest, while the main thread waits for events: it prints "interrupted" if a wait fails
//   vfork   as rest, while another thread waits for a child of vfork, which it cannot be interrupted in
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static atomic_int holding;
static const char *how;

// The address comes inverted, so that no other register has it.
static void *hold(void *inverted)
{
    atomic_fetch_add(&holding, 1);
    if (!strcmp(how, "spin"))
        __asm__ volatile("not %%rbx\n1: pause\n jmp 1b" : : "b"(inverted));
    else if (!strcmp(how, "vector"))
        __asm__ volatile("not %%rbx\n movq %%rbx, %%xmm15\n xor %%ebx, %%ebx\n1: mov $34, %%eax\n syscall\n jmp 1b"
                         : : "b"(inverted));
    else
        __asm__ volatile("not %%rbx\n1: mov $34, %%eax\n syscall\n jmp 1b" : : "b"(inverted));
    return NULL;
}

static void *nothing(void *unused) { return unused; }

static void *churn(void *unused)
{
    for (;;) {
        pthread_t thread;
        if (!pthread_create(&thread, NULL, nothing, NULL))
            pthread_join(thread, NULL);
    }
    return unused;
}

static void *child(void *unused)
{
    if (vfork() == 0) {
        char byte;
        // Until the program ends.
        while (read(0, &byte, 1) > 0)
            ;
        _exit(0);
    }
    _exit(0);
    return unused;
}

static void *until_end(void *unused)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
    return unused;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    how = argv[1];
    int count = atoi(argv[2]);
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (int i = 0; i < count; i++) {
        char *block = malloc(5000);
        printf("%lx\n", (unsigned long)block);
        if (pthread_create(&thread, &small, hold, (void *)~(unsigned long)block))
            return 1;
    }
    while (atomic_load(&holding) < count)
        usleep(1000);
    if (!strcmp(how, "churn"))
        pthread_create(&thread, NULL, churn, NULL);
    if (!strcmp(how, "vfork"))
        pthread_create(&thread, NULL, child, NULL);
    else
        pthread_create(&thread, NULL, until_end, NULL);
    printf("ready\n");
    fflush(stdout);
    if (!strcmp(how, "leader"))
        pthread_exit(NULL);
    int events = epoll_create1(0);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(events, &event, 1, -1) < 0 && !strcmp(how, "wait")) {
            printf("interrupted\n");
            fflush(stdout);
        }
    }
}
