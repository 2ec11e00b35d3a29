// As stale.c, in a thread: its blocks are in an arena of its own.
// baseline: thread.c
// truth: definitely 1 64, indirectly 9 576, reachable 1 48
#include "lost.h"

struct node {
    char data[56];
    struct node *next;
};

static void *kept;

static void *work(void *nothing) {
    struct node *head = NULL;
    for (int i = 0; i < 11; i++) {
        struct node *node = calloc(1, sizeof *node);
        node->next = head;
        head = node;
    }
    free(head);
    kept = malloc(48);
    return nothing;
}

int main(void) {
    in_thread(work);
    forget();
    return 0;
}
