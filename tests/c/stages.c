/* Allocates in one function after another, each of a compilation unit of its own, one for each line on its standard
 * input. Compiled with a STAGE it is such a unit. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef STAGE

void *volatile STAGE_SINK;

__attribute__((noinline)) void STAGE(size_t size) {
    STAGE_SINK = malloc(size);
    memset(STAGE_SINK, 1, 8);
}

#else

void stage_one(size_t);
void stage_two(size_t);
void stage_three(size_t);

static void next(const char *word) {
    char byte = 0;
    if (write(1, word, strlen(word)) < 0)
        _exit(1);
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

int main(void) {
    next("ready\n");
    stage_one(1111);
    next("done\n");
    stage_two(2222);
    next("done\n");
    stage_three(3333);
    next("done\n");
    return 0;
}

#endif
