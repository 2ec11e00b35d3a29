// The head of a list is freed and the rest forgotten: what a freed block still contains holds nothing.
// truth: definitely 1 64, indirectly 9 576
#include "lost.h"

struct node {
    char data[56];
    struct node *next;
};

static NOINLINE void work(void) {
    struct node *head = NULL;
    for (int i = 0; i < 11; i++) {
        struct node *node = calloc(1, sizeof *node);
        node->next = head;
        head = node;
    }
    free(head);
}

int main(void) {
    work();
    forget();
    return 0;
}
