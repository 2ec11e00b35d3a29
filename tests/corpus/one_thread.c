// Eight threads, one of which keeps what it allocates.
// leak: record
#include "corpus.h"

struct note { struct note *next; char text[200]; };
static struct note *notes;

KEEP static void record(void) {
    struct note *note = calloc(1, sizeof *note);
    note->next = notes, notes = note;
}

KEEP static void *work(void *argument) {
    intptr_t number = (intptr_t)argument;
    for (unsigned n = 0;; n++) {
        char *scratch = malloc(100 + n % 300);
        scratch[0] = 1;
        if (number == 5 && n % 20 == 0) record();
        rest(4000);
        free(scratch);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[8];
    for (intptr_t i = 0; i < 8; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    pthread_join(threads[0], NULL);
}
