// A history of commands without an end.
// leak: remember
#include "corpus.h"

struct entry { struct entry *before; char *text; };
static struct entry *history;

KEEP static void remember(const char *text) {
    struct entry *entry = malloc(sizeof *entry);
    entry->before = history, entry->text = strdup(text);
    history = entry;
}

int main(void) {
    char line[100];
    for (unsigned n = 0;; n++) {
        snprintf(line, sizeof line, "command %u with arguments", n);
        remember(line);
        rest(30000);
    }
}
