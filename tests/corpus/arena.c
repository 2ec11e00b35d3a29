// An arena for each request, given back as a whole.
// no leak
#include "corpus.h"

struct chunk { struct chunk *next; size_t used; char data[8000]; };

KEEP static void *allocate(struct chunk **arena, size_t size) {
    if (!*arena || (*arena)->used + size > sizeof (*arena)->data) {
        struct chunk *chunk = malloc(sizeof *chunk);
        chunk->next = *arena, chunk->used = 0;
        *arena = chunk;
    }
    void *place = (*arena)->data + (*arena)->used;
    (*arena)->used += size;
    return place;
}

int main(void) {
    for (;;) {
        struct chunk *arena = NULL;
        for (unsigned i = chance() % 500; i > 0; i--) *(char *)allocate(&arena, 8 + chance() % 200) = 1;
        rest(5000);
        while (arena) { struct chunk *next = arena->next; free(arena); arena = next; }
    }
}
