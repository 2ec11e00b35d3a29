// Packed structures have pointers at odd addresses, in data and in a lost block: only --unaligned sees them.
// truth: definitely 3 112, reachable 2 32
// unaligned: definitely 1 32, indirectly 1 48, reachable 3 64
#include "lost.h"

struct __attribute__((packed)) record {
    char tag;
    void *pointer;
};

static struct {
    unsigned long align;
    struct record record;
} kept;

static void **later;

static NOINLINE void work(void) {
    struct record *lost = calloc(1, 32);
    kept.record.pointer = malloc(32);
    lost->pointer = malloc(48);
    // What a later block points to is not the lost one's.
    later = calloc(1, 16);
    later[0] = malloc(16);
}

int main(void) {
    work();
    forget();
    return 0;
}
