// Takes blocks until there is no more memory, gives them back, and does it again.
#include <cstdio>
#include <cstring>
#include <new>
#include <sys/resource.h>
#include <unistd.h>

static const int ROUNDS = 10;
struct Block { Block *next; char body[(1 << 20) - 64]; };

// Whether memory ran out.
__attribute__((noinline, noclone)) static bool fill() {
    Block *first = nullptr;
    bool failed = false;
    for (int i = 0; i < 4096 && !failed; i++) {
        try {
            Block *block = new Block;
            block->next = first;
            first = block;
        } catch (std::bad_alloc &) {
            failed = true;
        }
    }
    while (first) {
        Block *next = first->next;
        delete first;
        first = next;
    }
    return failed;
}

static void say(const char *line) { if (write(1, line, strlen(line)) < 0) _exit(2); }
static void wait_for_line() { char byte = 0; while (read(0, &byte, 1) == 1 && byte != '\n') {} }

int main() {
    // The first exception may allocate for good.
    try { throw 1; } catch (int) {}
    struct rlimit limit = {rlim_t(1) << 30, rlim_t(1) << 30};
    setrlimit(RLIMIT_AS, &limit);
    say("ready\n");
    wait_for_line();
    int failed = 0;
    for (int i = 0; i < ROUNDS; i++) failed += fill();
    char line[60];
    snprintf(line, sizeof line, "done %d\n", failed);
    say(line);
    wait_for_line();
    return 5;
}
