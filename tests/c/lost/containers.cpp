// Containers on the heap, lost and held, with what is in them.
// baseline: nothing.cpp
// truth: definitely 5 184, indirectly 562 20804, reachable 567 20988
#include "lost.h"
#include <list>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

struct All {
    std::map<int, int> *map;
    std::unordered_map<int, int> *hash;
    std::list<int> *list;
    std::vector<int> *vector;
    std::string *string;
};

static All kept;

static NOINLINE void fill(All &all) {
    all = {new std::map<int, int>, new std::unordered_map<int, int>, new std::list<int>, new std::vector<int>,
           new std::string(99, 'x')};
    all.hash->reserve(200);
    for (int i = 0; i < 200; i++) {
        (*all.map)[i] = i;
        (*all.hash)[i] = i;
        if (i < 159)
            all.list->push_back(i);
    }
    all.vector->reserve(1000);
}

static NOINLINE void work() {
    All lost;
    fill(lost);
    fill(kept);
}

int main() {
    work();
    forget();
    return 0;
}
