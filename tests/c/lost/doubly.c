// A doubly linked list is forgotten: each block has one that points to it, so the first by address is the direct one.
// truth: definitely 1 40, indirectly 499 19960
#include "lost.h"

struct node {
    struct node *next, *previous;
    char data[24];
};

static NOINLINE void work(void) {
    struct node *last = NULL;
    for (int i = 0; i < 500; i++) {
        struct node *node = calloc(1, sizeof *node);
        node->previous = last;
        if (last)
            last->next = node;
        last = node;
    }
}

int main(void) {
    work();
    forget();
    return 0;
}
