// A ring is forgotten, one is entered from a lost block, and one is held by a global.
// truth: definitely 2 208, indirectly 19 304, reachable 10 160
#include "lost.h"

struct node {
    struct node *next;
    long number;
};

static struct node *kept;

static struct node *ring(int nodes) {
    struct node *first = malloc(sizeof *first), *node = first;
    for (int i = 1; i < nodes; i++)
        node = node->next = malloc(sizeof *node);
    return node->next = first;
}

static NOINLINE void work(void) {
    ring(10);
    // Behind what it points to, and before it: the order of addresses does not matter.
    struct node *inner = ring(5);
    struct node **outside = calloc(1, 192);
    outside[23] = inner;
    inner->next->next->next->next->next = ring(5)->next;
    kept = ring(10);
}

int main(void) {
    work();
    forget();
    return 0;
}
