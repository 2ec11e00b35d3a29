// The same, mended.
// no leak
#define FORGETS 0
#include "busy_service.cpp"
