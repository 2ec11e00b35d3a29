/* plugins FIRST SECOND ROUNDS MICROSECONDS: loads and unloads two libraries in turn, which the loader puts at the same
 * place, and lets each keep five blocks; the time passes between each two steps. */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int round_of(const char *library, int pause)
{
    void *handle = dlopen(library, RTLD_NOW);
    void (*plug_in)(void) = handle ? (void (*)(void))dlsym(handle, "plug_in") : NULL;
    if (!plug_in)
        return 1;
    usleep(pause);
    for (int i = 0; i < 5; i++)
        plug_in();
    usleep(pause);
    dlclose(handle);
    return 0;
}

/* A line, or the end of the input. */
static void wait_for_line(void)
{
    char byte = 0;
    while (byte != '\n')
        if (read(0, &byte, 1) != 1)
            return;
}

int main(int argc, char **argv)
{
    if (argc != 5 || write(1, "ready\n", 6) < 0)
        return 1;
    wait_for_line();
    for (int i = 0; i < atoi(argv[3]); i++)
        if (round_of(argv[1 + i % 2], atoi(argv[4])))
            return 2;
    if (write(1, "done\n", 5) < 0)
        return 1;
    wait_for_line();
    return 0;
}
