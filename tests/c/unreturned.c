/* Jumps out of its own `malloc` again and again, and goes on allocating from deeper in the stack: what was to happen at
 * that call's return never does. */
#include <setjmp.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);

enum { LEFT = 7777 };

static jmp_buf out;

__attribute__((noinline)) void *malloc(size_t size)
{
    void *block = __libc_malloc(size);
    if (size == LEFT)
        longjmp(out, 1);
    return block;
}

__attribute__((noinline)) void free(void *block)
{
    __libc_free(block);
}

static void *(*volatile own_malloc)(size_t) = malloc;

/* Most of it is kept, so that the heap grows. */
__attribute__((noinline)) static void deeper(int depth)
{
    volatile char frame[256];
    frame[0] = (char)depth;
    if (depth > 0)
        deeper(depth - 1);
    else
        for (int at = 0; at < 40; at++)
            *(volatile char *)own_malloc(3000 + (size_t)frame[0]) = 1;
}

int main(void)
{
    char byte;
    if (write(1, "ready\n", 6) != 6 || read(0, &byte, 1) != 1)
        return 1;
    for (;;) {
        if (setjmp(out) == 0)
            own_malloc(LEFT);
        deeper(3);
        usleep(5000);
    }
}
