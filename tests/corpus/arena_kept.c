// An arena for the whole process, used as if it were one for each request.
// leak: allocate
#include "corpus.h"

struct chunk { struct chunk *next; size_t used; char data[4000]; };
static struct chunk *arena;

KEEP static void *allocate(size_t size) {
    if (!arena || arena->used + size > sizeof arena->data) {
        struct chunk *chunk = malloc(sizeof *chunk);
        chunk->next = arena, chunk->used = 0;
        arena = chunk;
    }
    void *place = arena->data + arena->used;
    arena->used += size;
    return place;
}

int main(void) {
    for (;;) {
        *(char *)allocate(8 + chance() % 120) = 1;
        free(strdup("request"));
        rest(3000);
    }
}
