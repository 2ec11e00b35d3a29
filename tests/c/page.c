/* A service for pages about it: it maps memory now and then, fills a cache and frees what it replaces, appends to a log, and forgets
 * sessions, until its input ends. With -DNAMED only the function that a test renames. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

void keep_named(void);

#ifdef NAMED

static void *volatile named;

void keep_named(void) {
    named = malloc(96);
}

#else

enum { CACHED = 64, REGION = 1 << 18 };

struct Entry {
    struct Entry *next;
    char text[120];
};

static struct Entry *log_head;
static void *cache[CACHED];
static void *volatile session;
static char *region;

NOINLINE static void log_append(void) {
    struct Entry *entry = malloc(sizeof *entry);
    entry->next = log_head;
    log_head = entry;
}

NOINLINE static void forget_session(void) {
    session = malloc(400);
}

NOINLINE static void refill_cache(unsigned round) {
    unsigned place = round % CACHED;
    free(cache[place]);
    cache[place] = malloc(1000 + place);
}

NOINLINE static void handle_request(unsigned round) {
    log_append();
    forget_session();
    refill_cache(round);
    keep_named();
}

NOINLINE static void map_region(void) {
    region = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(region, 1, REGION);
}

int main(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    puts("ready");
    fflush(stdout);
    for (unsigned round = 0; poll(&input, 1, 2) == 0; round++) {
        if (round % 400 == 0)
            map_region();
        handle_request(round);
    }
    return 0;
}

#endif
