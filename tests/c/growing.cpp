/* Two lists that grow at their heads all the time, so that the newest entries are younger than any look at the heap: one in a
 * global, one in an object of the heap. It says "ready" and goes on until its input ends. */
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unistd.h>

#define OWN extern "C" __attribute__((noinline))

struct Entry {
    Entry *next;
    char payload[56];
};
Entry *g_log;

struct Server {
    long id;
    Entry *sessions;
};
Server *g_server;

static std::atomic<bool> over;

OWN void add_to_log() {
    Entry *entry = static_cast<Entry *>(malloc(sizeof *entry));
    entry->next = g_log;
    g_log = entry;
}

OWN void add_session(Server *server) {
    Entry *entry = static_cast<Entry *>(malloc(sizeof *entry + 16));
    entry->next = server->sessions;
    server->sessions = entry;
}

/* Without something that is lost, one scan tells all. */
OWN void forget() { malloc(sizeof(Entry) + 32); }

static void grow() {
    while (!over) {
        for (int at = 0; at < 20; at++) {
            add_to_log();
            add_session(g_server);
        }
        forget();
        usleep(1000);
    }
}

int main() {
    g_server = static_cast<Server *>(calloc(1, sizeof *g_server));
    std::thread worker(grow);
    puts("ready");
    fflush(stdout);
    getchar();
    over = true;
    worker.join();
}
