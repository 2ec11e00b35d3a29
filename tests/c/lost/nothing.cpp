// Nothing but the C++ runtime.
// truth:
#include "lost.h"
#include <string>

int main() {
    forget();
    return std::string("short").empty();
}
