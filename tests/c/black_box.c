/* Uses memory until it is killed: after "ready PID" and a line on standard input, as its first argument says.

   leak US [MIB]  forgets a block of 4,000 bytes every US microseconds; after so many MiB, says "done" and waits for another line
   shared US      writes 64 KiB to a file in a tmpfs every US microseconds
   crash US       forgets 2,000 blocks, says "done", and after another line writes to address 0
   keep MIB       keeps so much, says "done", and waits for another line */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MB (1024ul * 1024)

static char page[64 * 1024];
static char *kept;

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

static void leak(useconds_t pause, unsigned long most)
{
    for (unsigned long bytes = 0; bytes < most; bytes += 4000) {
        forget_request();
        usleep(pause);
    }
}

static void share(useconds_t pause)
{
    int file = memfd_create("black_box", 0);
    for (;;) {
        if (write(file, page, sizeof page) < 0)
            exit(1);
        usleep(pause);
    }
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    unsigned long number = count > 2 ? strtoul(arguments[2], NULL, 10) : 0;
    say("ready");
    wait_for_line();
    if (strcmp(what, "leak") == 0) {
        leak(number, count > 3 ? strtoul(arguments[3], NULL, 10) * MB : 1ul << 40);
    } else if (strcmp(what, "shared") == 0) {
        share(number);
    } else if (strcmp(what, "crash") == 0) {
        leak(number, 2000 * 4000);
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
