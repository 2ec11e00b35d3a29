// Requests of which one in 1,000 is not freed, though a list still leads to it.
// leak: make_request
#include "corpus.h"

struct request { struct request *next; char body[120]; };
static struct request *audit;

KEEP static struct request *make_request(void) {
    struct request *request = malloc(sizeof *request);
    memset(request, 1, sizeof *request);
    return request;
}

int main(void) {
    for (unsigned n = 1;; n++) {
        struct request *request = make_request();
        if (n % 1000 == 0) { request->next = audit; audit = request; } else free(request);
        if (n % 8 == 0) rest(1000);
    }
}
