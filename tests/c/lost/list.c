// The head of a list is forgotten: the rest is lost through it.
// truth: definitely 1 32, indirectly 999 31968
#include "lost.h"

struct node {
    struct node *next;
    char data[24];
};

static NOINLINE void work(void) {
    struct node *head = NULL;
    for (int i = 0; i < 1000; i++) {
        struct node *node = malloc(sizeof *node);
        node->next = head;
        head = node;
    }
}

int main(void) {
    work();
    forget();
    return 0;
}
