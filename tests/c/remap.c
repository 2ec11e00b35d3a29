/* Preloaded: copies the program's code to anonymous memory at the same place, as large-page loaders do. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((constructor)) static void copy(void) {
    char exe[512], line[1024], permissions[8], path[512];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    if (length < 0 || !maps)
        _exit(3);
    exe[length] = 0;
    while (fgets(line, sizeof line, maps)) {
        path[0] = 0;
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511s", &start, &end, permissions, path) < 3)
            continue;
        if (permissions[2] == 'x' && strcmp(path, exe) == 0) {
            size_t size = end - start;
            void *anonymous = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memcpy(anonymous, (void *)start, size);
            mprotect(anonymous, size, PROT_READ | PROT_EXEC);
            mremap(anonymous, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start);
        }
    }
    fclose(maps);
}
