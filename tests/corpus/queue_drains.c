// A queue that backs up for some seconds and drains again, over and over.
// no leak
#include "corpus.h"

struct job { struct job *next; char body[150]; };
static struct job *first, **last = &first;

KEEP static void push(void) {
    struct job *job = calloc(1, sizeof *job);
    *last = job, last = &job->next;
}

KEEP static void pop(void) {
    struct job *job = first;
    if (!job) return;
    first = job->next;
    if (!first) last = &first;
    free(job);
}

int main(void) {
    for (unsigned n = 0;; n++) {
        push();
        unsigned phase = n % 6000;
        if (phase < 3500) { if (n % 3 == 0) pop(); } else { pop(), pop(); }
        rest(1000);
    }
}
