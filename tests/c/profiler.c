/* A library that looks like jemalloc, which the program itself has configured to profile. */
const char *malloc_conf = "background_thread:true,prof:true";
