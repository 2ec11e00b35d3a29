/* Grows in one of several ways, ten times a second. Arguments: how, bytes each time, and how many blocks come and go. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *volatile kept;

__attribute__((noinline)) void leak_blocks(long bytes) {
    for (long done = 0; done < bytes; done += 4096) {
        kept = malloc(4096 - 16);
        memset(kept, 1, 4096 - 16);
    }
}

__attribute__((noinline)) void leak_mapping(long bytes) {
    kept = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(kept, 1, bytes);
}

__attribute__((noinline)) void leak_shared(long bytes) {
    kept = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(kept, 1, bytes);
}

/* Memory that no block and no mapping shows. */
__attribute__((noinline)) void leak_unseen(long bytes) {
    static char reserve[1L << 30];
    static long used;
    memset(reserve + used, 1, bytes);
    used += bytes;
}

static void *end(void *argument) { return argument; }

__attribute__((noinline)) void start_worker(long bytes) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    pthread_create(&thread, &attributes, end, 0);
}

/* Much that is freed, below one block that is not. */
static void serve_and_free(long bytes) {
    enum { COUNT = 2048 };
    static char *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(bytes);
        memset(blocks[i], 1, bytes);
    }
    kept = malloc(32);
    sleep(3);
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
}

/* Small blocks, as fast as possible, once. */
static void fill_at_once(long bytes) {
    for (long done = 0; done < bytes; done += 40) {
        kept = malloc(40);
        memset(kept, 1, 40);
    }
}

int main(int count, char **arguments) {
    char line[16];
    const char *how = arguments[1];
    long bytes = atol(arguments[2]);
    setvbuf(stdout, 0, _IONBF, 0);
    printf("ready\n");
    if (count < 3 || !fgets(line, sizeof line, stdin))
        return 1;
    if (!strcmp(how, "kept"))
        serve_and_free(bytes);
    if (!strcmp(how, "burst"))
        fill_at_once(bytes);
    if (!strcmp(how, "prefork"))
        for (int i = 0; i < 2; i++)
            if (fork() == 0) {
                for (;;) {
                    leak_blocks(bytes);
                    usleep(100000);
                }
            }
    for (;;) {
        for (long i = count > 3 ? atol(arguments[3]) : 0; i > 0; i--) {
            kept = malloc(100);
            free(kept);
        }
        if (!strcmp(how, "blocks"))
            leak_blocks(bytes);
        if (!strcmp(how, "mapping"))
            leak_mapping(bytes);
        if (!strcmp(how, "shared"))
            leak_shared(bytes);
        if (!strcmp(how, "unseen"))
            leak_unseen(bytes);
        if (!strcmp(how, "threads"))
            start_worker(bytes);
        usleep(100000);
    }
}
