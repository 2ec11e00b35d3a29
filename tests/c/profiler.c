/* A library that looks like jemalloc, told by the program itself to profile. */
const char *malloc_conf = "background_thread:true,prof:true";
