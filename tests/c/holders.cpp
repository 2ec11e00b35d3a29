/* Says where its variables are, a line each: "at NAME ADDRESS", and "thread NAME TID STACK-POINTER THREAD-POINTER". Then
 * it says "ready" and waits for the end of its input. Its argument is a library to load, built from this file with
 * PLUGIN. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef PLUGIN

extern "C" {
void *plugged = &plugged;
void *plugged_zeros[64];
}

#else

void *g_sessions = &g_sessions;
void *zeroed;
static void *hidden = &hidden;

namespace registry {
void *table[64] = {table};
namespace {
void *secret;
}
} // namespace registry

static thread_local void *first;
thread_local void *own[4] = {&first};

static void at(const char *name, void *place) { printf("at %s %lx\n", name, (unsigned long)place); }

static void **remember() {
    static void *cache = &cache;
    return &cache;
}

static void describe(const char *thread) {
    void *local = nullptr;
    char name[32];
    printf("thread %s %ld %lx %lx\n", thread, syscall(SYS_gettid), (unsigned long)__builtin_frame_address(0) & ~4095ul,
           (unsigned long)__builtin_thread_pointer());
    snprintf(name, sizeof name, "local_of_%s", thread);
    at(name, &local);
    snprintf(name, sizeof name, "own_of_%s", thread);
    at(name, &own[1]);
    snprintf(name, sizeof name, "first_of_%s", thread);
    at(name, &first);
    snprintf(name, sizeof name, "descriptor_of_%s", thread);
    at(name, (char *)pthread_self() + 0x310);
    fflush(stdout);
}

static pthread_barrier_t barrier;

static void *work(void *) {
    describe("worker");
    pthread_barrier_wait(&barrier);
    for (;;) pause();
}

int main(int, char **arguments) {
    pthread_t worker;
    at("g_sessions", &g_sessions);
    at("zeroed", &zeroed);
    at("hidden", &hidden);
    at("table_7", &registry::table[7]);
    at("secret", &registry::secret);
    at("cache", remember());
    at("stdout", &stdout);
    at("heap", malloc(100));
    if (arguments[1]) {
        void *plugin = dlopen(arguments[1], RTLD_NOW);
        at("plugged", dlsym(plugin, "plugged"));
        at("plugged_zeros", (char *)dlsym(plugin, "plugged_zeros") + 16);
    }
    int file = memfd_create("shared", 0);
    ftruncate(file, 4096);
    at("memfd", mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    pthread_barrier_init(&barrier, nullptr, 2);
    pthread_create(&worker, nullptr, work, nullptr);
    pthread_setname_np(worker, "worker-3");
    describe("main");
    pthread_barrier_wait(&barrier);
    puts("ready");
    fflush(stdout);
    getchar();
}

#endif
