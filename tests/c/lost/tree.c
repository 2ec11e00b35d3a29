// A tree of 100,000 nodes is forgotten, and one of 1,000 is not.
// truth: definitely 1 24, indirectly 99999 2399976, reachable 1000 24000
#include "lost.h"

struct node {
    struct node *left, *right;
    long key;
};

static struct node *kept;

static struct node *insert(struct node *root, long key) {
    struct node **place = &root;
    while (*place)
        place = key < (*place)->key ? &(*place)->left : &(*place)->right;
    *place = calloc(1, sizeof **place);
    (*place)->key = key;
    return root;
}

static struct node *grow(long nodes) {
    struct node *root = NULL;
    unsigned long key = 1;
    for (long i = 0; i < nodes; i++) {
        key = key * 6364136223846793005UL + 1442695040888963407UL;
        root = insert(root, (long)(key >> 16));
    }
    return root;
}

static NOINLINE void work(void) {
    grow(100000);
    kept = grow(1000);
}

int main(void) {
    work();
    forget();
    return 0;
}
