// A slow leak beside a busy cache.
// leak: open_handle
#include "corpus.h"
#include <string>
#include <vector>

static std::vector<std::string> cache(3000);
struct Handle { Handle *next; char state[64]; };
static Handle *handles;

KEEP static void put(unsigned slot) { cache[slot] = std::string(64 + chance() % 512, 'v'); }
KEEP static void open_handle() { handles = new Handle{handles, {}}; }

int main() {
    for (unsigned n = 0;; n++) {
        for (unsigned i = 0; i < 3; i++) put(chance() % 3000);
        if (n % 250 == 0) open_handle();
        rest(1000);
    }
}
