/* Allocates in several functions, a round for each line on its standard input. The second build (-DSECOND) has other code
 * in front, so that addresses and lines differ, and a function that leaks what it used to free. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static void *volatile sink;

#ifdef SECOND

static volatile unsigned long state;

NOINLINE static unsigned long mixed(unsigned long value) {
    for (int i = 0; i < 64; i++) {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
    }
    return value;
}

NOINLINE static void added(void) {
    for (unsigned long i = 0; i < 1000; i++)
        state += mixed(i | 1);
    sink = malloc(40);
}

/* As if more had been inserted. */
#line 1000

#else

NOINLINE static void dropped(void) {
    sink = malloc(50);
}

#endif

/* Much in few blocks. */
NOINLINE static void keep_large(void) {
    for (int i = 0; i < 3; i++)
        sink = malloc(1000);
}

/* Little in many blocks. */
NOINLINE static void keep_small(void) {
    for (int i = 0; i < 50; i++)
        sink = malloc(10);
}

/* The second build needs more. */
NOINLINE static void keep_more(void) {
#ifdef SECOND
    sink = malloc(300);
#endif
    sink = malloc(300);
}

/* The second build forgets to free. */
NOINLINE static void handle_request(void) {
    for (int i = 0; i < 20; i++) {
        void *request = malloc(700);
        sink = request;
        memset(request, 1, 700);
#ifndef SECOND
        free(request);
#endif
    }
}

static void next(const char *word) {
    char byte = 0;
    ssize_t got;
    if (write(1, word, strlen(word)) < 0)
        _exit(1);
    while ((got = read(0, &byte, 1)) == 1 && byte != '\n')
        ;
    if (got != 1)
        _exit(0);
}

NOINLINE static void work(void) {
#ifdef SECOND
    added();
#else
    dropped();
#endif
    keep_large();
    keep_small();
    keep_more();
    handle_request();
}

int main(void) {
    next("ready\n");
    for (;;) {
        work();
        next("done\n");
    }
}
