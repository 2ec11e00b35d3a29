// A queue whose consumer sets failed messages aside and never looks at them again.
// leak: publish
#include "corpus.h"

struct message { struct message *next; char body[180]; };
static struct message *dead;

KEEP static struct message *publish(void) { return calloc(1, sizeof(struct message)); }

int main(void) {
    struct message *waiting[64] = {0};
    for (unsigned n = 0;; n++) {
        struct message *old = waiting[n % 64];
        if (old && chance() % 50 == 0) { old->next = dead; dead = old; } else free(old);
        waiting[n % 64] = publish();
        rest(1500);
    }
}
