/* generated [DIRECTORY]: generates code that allocates, and writes its map as runtimes do, or a dump there. Lines on standard input: "run" allocates in each function,
 * 10 blocks of 300 and 20 of 77 bytes; "again" puts another function in the place of the second; "end" ends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *volatile sink;

__attribute__((noinline)) static void allocate(size_t size) { sink = malloc(size); }

/* push %rbp; mov %rsp,%rbp; mov $SIZE,%edi; movabs $FUNCTION,%rax; call *%rax; pop %rbp; ret */
static void emit(unsigned char *at, uint32_t size) {
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xbf, 0, 0, 0, 0, 0x48, 0xb8,
                                         0,    0,    0,    0,    0,    0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};
    uint64_t function = (uint64_t)allocate;
    memcpy(at, code, sizeof code);
    memcpy(at + 5, &size, sizeof size);
    memcpy(at + 11, &function, sizeof function);
}

static void put(FILE *file, uint64_t value, size_t size) { fwrite(&value, size, 1, file); }

/* Linux, tools/perf/Documentation/jitdump-specification.txt. */
static void load(FILE *file, const unsigned char *code, const char *name) {
    put(file, 0, 4), put(file, 16 + 40 + strlen(name) + 1 + 64, 4), put(file, 0, 8);
    put(file, getpid(), 4), put(file, getpid(), 4), put(file, 0, 8);
    put(file, (uint64_t)code, 8), put(file, 64, 8), put(file, 1, 8);
    fwrite(name, strlen(name) + 1, 1, file), fwrite(code, 64, 1, file);
}

static FILE *dump(const char *path, const unsigned char *code) {
    static const char source[] = "/srv/Cart.kt";
    FILE *file = fopen(path, "w+");
    if (!file)
        exit(1);
    put(file, 0x4A695444, 4), put(file, 1, 4), put(file, 40, 4), put(file, 62, 4);
    put(file, 0, 4), put(file, getpid(), 4), put(file, 0, 8), put(file, 0, 8);
    load(file, code, "JS:*keepEntry /srv/app.js:12:31");
    put(file, 2, 4), put(file, 16 + 16 + 16 + sizeof source + 16 + 2, 4), put(file, 0, 8);
    put(file, (uint64_t)code + 64, 8), put(file, 2, 8);
    put(file, (uint64_t)code + 64, 8), put(file, 30, 4), put(file, 0, 4), fwrite(source, sizeof source, 1, file);
    put(file, (uint64_t)code + 84, 8), put(file, 31, 4), put(file, 0, 4), fwrite("\xff", 2, 1, file);
    load(file, code + 64, "shop.Cart::keep");
    fflush(file);
    if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0) == MAP_FAILED)
        exit(1);
    return file;
}

int main(int argc, char **argv) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char path[256], line[64];
    FILE *map;
    if (code == MAP_FAILED)
        return 1;
    emit(code, 300);
    emit(code + 64, 77);
    if (argc > 1) {
        snprintf(path, sizeof path, "%s/jit-%d.dump", argv[1], getpid());
        map = dump(path, code);
    } else {
        snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
        map = fopen(path, "w");
        if (!map)
            return 1;
        fprintf(map, "%lx 40 JS:*keepEntry /srv/app.js:12:31\n%lx 40 shop.Cart::keep\n", (long)code, (long)code + 64);
        fflush(map);
    }
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) && strcmp(line, "end\n") != 0) {
        if (strcmp(line, "again\n") == 0) {
            emit(code + 128, 55);
            fprintf(map, "%lx 40 \033[31mcome\033]0;x\007\n", (long)code + 128);
            fflush(map);
            for (int i = 0; i < 5; i++)
                ((void (*)(void))(code + 128))();
        } else {
            for (int i = 0; i < 10; i++)
                ((void (*)(void))code)();
            for (int i = 0; i < 20; i++)
                ((void (*)(void))(code + 64))();
        }
        printf("done\n");
        fflush(stdout);
    }
    fclose(map);
    unlink(path);
    return 0;
}
