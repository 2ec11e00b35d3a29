/* With LIBRARY: an allocator whose `malloc` begins with a breakpoint instruction, where the kernel accepts no probe. The test
 * makes it a `nop` later. Else: refused LIBRARY, which loads it and then keeps ten blocks of it. */
#ifdef LIBRARY

static char room[1 << 16];
static unsigned long used;

__attribute__((used)) static void *take(unsigned long size)
{
    char *block = room + used;
    used += (size + 15) & ~15ul;
    return block;
}

__asm__(".globl malloc\n"
        ".type malloc, @function\n"
        "malloc:\n"
        "    int3\n"
        "    jmp take\n"
        "    .ascii \"begins with int3\"\n"
        ".size malloc, .-malloc\n");

void free(void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

#else

#include <dlfcn.h>
#include <unistd.h>

static void *volatile kept;

__attribute__((noinline)) static void keep_own(void *(*own)(unsigned long))
{
    for (int i = 0; i < 10; i++)
        kept = own(104);
}

static int says(const char *line, int length)
{
    char byte = 0;
    int written = write(1, line, length) == length;
    while (written && byte != '\n')
        if (read(0, &byte, 1) != 1)
            return 0;
    return written;
}

int main(int argc, char **argv)
{
    if (argc != 2 || !says("ready\n", 6))
        return 1;
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    void *(*own)(unsigned long) = library ? (void *(*)(unsigned long))dlsym(library, "malloc") : 0;
    if (!own || !says("loaded\n", 7))
        return 2;
    keep_own(own);
    says("done\n", 5);
    return 0;
}

#endif
