// Allocates all the time; one request a round fails and throws, and one block in a thousand rounds stays.
#include <cstddef>
#include <new>
#include <unistd.h>

#define CALLER __attribute__((noinline, noclone))

static void *volatile sink;
static volatile size_t enormous = size_t(1) << 60;

CALLER static void fail() {
    try {
        sink = new char[enormous];
    } catch (std::bad_alloc &) {
    }
}
CALLER static void churn() {
    char *block = new char[64];
    sink = block;
    delete[] block;
}
CALLER static void keep() { sink = new char[128]; }

int main() {
    if (write(1, "ready\n", 6) < 0) return 1;
    for (long round = 0;; round++) {
        fail();
        for (int i = 0; i < 20; i++) churn();
        if (round % 1000 == 0) keep();
    }
}
