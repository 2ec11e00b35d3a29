/* Allocates from a hundred stacks, one deeper than the other. Built with frame pointers. */
#include <stdlib.h>
#include <unistd.h>

static void *volatile sink;

__attribute__((noinline)) static void keep_at_depth(int depth) {
    if (depth > 0)
        keep_at_depth(depth - 1);
    else
        sink = malloc(10);
    sink = NULL;
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
    for (int depth = 0; depth < 100; depth++)
        for (int i = 0; i < 5; i++)
            keep_at_depth(depth);
    if (write(1, "done\n", 5) < 0)
        return 1;
    wait_for_line();
    return 0;
}
