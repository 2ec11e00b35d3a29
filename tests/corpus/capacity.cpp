// Vectors that are cleared, and keep their capacity.
// no leak
#include "corpus.h"
#include <string>
#include <vector>

static std::vector<std::vector<std::string>> columns(60);

KEEP static void collect(unsigned column, unsigned count) {
    auto &values = columns[column];
    values.clear();
    for (unsigned i = 0; i < count; i++) values.emplace_back(40, 'v');
}

int main() {
    for (;;) { collect(chance() % 60, 1 << chance() % 8); rest(10000); }
}
