/* Unpacks two libraries to files that it deletes as soon as they are loaded, again and again, as bundles do. Each round: both are
 * loaded, called a tenth of a second later, and unloaded (or kept, with a third argument). */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void copy(const char *from, const char *to) {
    static char bytes[65536];
    int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    ssize_t length;
    while ((length = read(in, bytes, sizeof bytes)) > 0)
        if (write(out, bytes, length) != length)
            _exit(3);
    close(in);
    close(out);
}

static void next(const char *word) {
    char byte = 0;
    if (write(1, word, strlen(word)) < 0)
        _exit(1);
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

int main(int count, char **arguments) {
    void *kept[2] = {0};
    next("ready\n");
    for (int round = 0; round < 10; round++) {
        for (int which = 0; which < 2; which++) {
            void *library = kept[which];
            if (!library) {
                char path[512];
                snprintf(path, sizeof path, "%s.%d", arguments[1 + which], round);
                copy(arguments[1 + which], path);
                library = dlopen(path, RTLD_NOW);
                unlink(path);
                if (!library) {
                    fprintf(stderr, "%s\n", dlerror());
                    return 1;
                }
            }
            void (*entry)(void) = (void (*)(void))dlsym(library, "entry");
            usleep(100000);
            entry();
            if (count > 3)
                kept[which] = library;
            else
                dlclose(library);
        }
    }
    next("done\n");
    return 4;
}
