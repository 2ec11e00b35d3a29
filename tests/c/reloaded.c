/* reloaded LIBRARY...: loads libraries and unloads them, one after the other, and keeps ten blocks of each one's `malloc`: of
 * 1000 bytes of the first, of 2000 of the second and so on. With LIBRARY: one with an allocator; with MORE too, a larger file of the
 * same code. */
#ifdef LIBRARY

static char room[1 << 20];
static unsigned long used;

__attribute__((noinline)) void *malloc(unsigned long size)
{
    char *block = room + used;
    used += (size + 15) & ~15ul;
    return block;
}

void free(void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

#ifdef MORE
__asm__(".section .more, \"\", @progbits\n.zero 4096\n.previous");
#endif

#else

#include <dlfcn.h>
#include <unistd.h>

static void *volatile kept;

__attribute__((noinline)) static void keep_own(void *(*own)(unsigned long), unsigned long size)
{
    for (int i = 0; i < 10; i++)
        kept = own(size);
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
    if (!says("ready\n", 6))
        return 1;
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        void *(*own)(unsigned long) = library ? (void *(*)(unsigned long))dlsym(library, "malloc") : 0;
        if (!own || !says("loaded\n", 7))
            return 2;
        keep_own(own, 1000 * i);
        if (dlclose(library) || !says("unloaded\n", 9))
            return 3;
    }
    return 0;
}

#endif
