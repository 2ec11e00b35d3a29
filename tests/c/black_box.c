/* Uses memory until it is killed: after "ready PID" and a line on standard input, as its first argument says.

   leak [MIB]  forgets blocks of 4,000 bytes, 3 MiB/s, divided by MEMTRACE_TEST_DIVIDE in the environment; after so many MiB, says "done" and waits for another line
   shared      writes to a file in a tmpfs, 3 MiB/s
   crash       forgets 2,000 blocks, says "done", and after another line writes to address 0
   keep MIB    keeps so much, says "done", and waits for another line */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MB (1024ul * 1024)
#define RATE (3 * MB)

static char page[64 * 1024];
static char *volatile kept;

static void wait_for_line(void)
{
    char byte = 0;
    while (byte != '\n')
        if (read(0, &byte, 1) != 1)
            exit(0);
}

static void say(const char *word)
{
    printf("%s %d\n", word, getpid());
    fflush(stdout);
}

/* Does not leave a copy of the address in a register or on the stack. */
static __attribute__((noinline)) void forget_request(void)
{
    char *volatile request = malloc(4000);
    memset(request, 1, 4000);
    request = NULL;
}

/* Bytes that are due since the first call. */
static unsigned long due(double rate)
{
    static struct timespec first;
    struct timespec now;
    usleep(1000);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (first.tv_sec == 0)
        first = now;
    return (unsigned long)((now.tv_sec - first.tv_sec + (now.tv_nsec - first.tv_nsec) / 1e9) * rate);
}

static void leak(unsigned long most)
{
    const char *divisor = getenv("MEMTRACE_TEST_DIVIDE");
    double rate = divisor && atof(divisor) >= 1 ? RATE / atof(divisor) : RATE;
    for (unsigned long bytes = 0; bytes < most;)
        for (unsigned long until = due(rate); bytes < until && bytes < most; bytes += 4000)
            forget_request();
}

static void share(void)
{
    int file = memfd_create("black_box", 0);
    for (unsigned long bytes = 0;;)
        for (unsigned long until = due(RATE); bytes < until; bytes += sizeof page)
            if (write(file, page, sizeof page) < 0)
                exit(1);
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    unsigned long number = count > 2 ? strtoul(arguments[2], NULL, 10) : 0;
    say("ready");
    wait_for_line();
    if (strcmp(what, "leak") == 0) {
        leak(number > 0 ? number * MB : 1ul << 40);
    } else if (strcmp(what, "shared") == 0) {
        share();
    } else if (strcmp(what, "crash") == 0) {
        leak(2000 * 4000);
    } else if (strcmp(what, "keep") == 0) {
        kept = malloc(number * MB);
        memset(kept, 1, number * MB);
    }
    say("done");
    wait_for_line();
    if (strcmp(what, "crash") == 0)
        *(volatile int *)0 = 1;
    return 0;
}
