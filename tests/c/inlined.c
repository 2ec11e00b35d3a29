/* Allocates through an inlined function, and in calls that are followed by other lines. The test knows the lines by
 * the words in their comments. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *volatile sink;

static inline __attribute__((always_inline)) void *make(size_t size) {
    void *block = malloc(size); /* line of the inlined call */
    memset(block, 1, 8);
    return block;
}

__attribute__((noinline)) static void keep_through_inlined(void) {
    sink = make(4321); /* line of the outer call */
    ((char *)sink)[0] = 2;
}

__attribute__((noinline)) static void keep_directly(void) {
    sink = malloc(1234); /* line of the direct call */
    ((char *)sink)[0] = 3;
}

/* A line, or the end of the input. */
static void wait_for_line(void) {
    char byte = 0;
    while (byte != '\n')
        if (read(0, &byte, 1) != 1)
            return;
}

int main(void) {
    if (write(1, "ready\n", 6) < 0)
        return 1;
    wait_for_line();
    keep_through_inlined();
    keep_directly();
    if (write(1, "done\n", 5) < 0)
        return 1;
    wait_for_line();
    return 0;
}
