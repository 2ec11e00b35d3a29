// Parents and children that hold each other by shared pointers.
// leak: make_tree
#include "corpus.h"
#include <memory>
#include <vector>

struct Node { std::shared_ptr<Node> parent; std::vector<std::shared_ptr<Node>> children; };

KEEP static void make_tree() {
    auto root = std::make_shared<Node>();
    for (int i = 0; i < 3; i++) {
        auto child = std::make_shared<Node>();
        child->parent = root;
        root->children.push_back(child);
    }
}

int main() {
    for (;;) { make_tree(); free(strdup("turn")); rest(40000); }
}
