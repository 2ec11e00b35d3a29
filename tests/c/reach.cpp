/* Blocks that can be reached in every way that there is, and some that cannot. After a line of input they are made, each kind by
 * a function that is named after it; then "done" is said, and nothing changes until the input ends. */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <csignal>
#include <pthread.h>
#include <string>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#define OWN extern "C" __attribute__((noinline))

enum { LISTED = 1000, NODES = 100000, CYCLES = 100, APART = 20000, ENTRIES = 500 };

struct Node {
    Node *next, *previous;
    char payload[32];
};

/* What was on the stack must not keep anything. */
OWN void wipe() {
    volatile char stack[16384];
    memset(const_cast<char *>(stack), 0, sizeof stack);
}

/* A doubly linked list, of which every pointer is forgotten. */
OWN void lose_list() {
    Node *head = nullptr;
    for (int at = 0; at < LISTED; at++) {
        Node *node = static_cast<Node *>(calloc(1, sizeof *node));
        node->next = head;
        if (head != nullptr)
            head->previous = node;
        head = node;
    }
}

/* A tree, built level by level, so that all of its nodes have one stack. */
OWN void lose_tree() {
    static Node *nodes[NODES];
    for (int at = 0; at < NODES; at++) {
        nodes[at] = static_cast<Node *>(calloc(1, sizeof(Node)));
        Node *parent = nodes[(at - 1) / 2];
        if (at > 0)
            (at % 2 ? parent->next : parent->previous) = nodes[at];
    }
    memset(nodes, 0, sizeof nodes);
}

/* Blocks that have nothing to do with each other. */
OWN void lose_blocks() {
    for (int at = 0; at < APART; at++)
        malloc(64);
}

OWN void lose_cycles() {
    for (int at = 0; at < CYCLES; at++) {
        Node *first = static_cast<Node *>(calloc(1, sizeof *first));
        Node *second = static_cast<Node *>(calloc(1, sizeof *second));
        first->next = second;
        second->next = first;
    }
}

/* A map in a global, one in a singleton, a chain behind a unique_ptr, a vector in an object. */
std::map<int, std::string> g_registry;

OWN void fill_registry() {
    for (int at = 0; at < ENTRIES; at++)
        g_registry[at] = std::string(100, 'r');
}

struct Singleton {
    std::map<int, std::string> entries;
    static Singleton &instance() {
        static Singleton one;
        return one;
    }
};

OWN void fill_singleton() {
    for (int at = 0; at < ENTRIES; at++)
        Singleton::instance().entries[at] = std::string(100, 's');
}

struct Link {
    std::unique_ptr<Link> next;
    char payload[40];
};
static std::unique_ptr<Link> g_chain;

OWN void fill_chain() {
    for (int at = 0; at < ENTRIES; at++) {
        auto link = std::make_unique<Link>();
        link->next = std::move(g_chain);
        g_chain = std::move(link);
    }
}

struct Server {
    std::map<int, std::string> sessions;
};

OWN void fill_server(Server &server) {
    for (int at = 0; at < ENTRIES; at++)
        server.sessions[at] = std::string(100, 'm');
}

OWN void fill_thread(std::map<int, std::string> &entries) {
    for (int at = 0; at < ENTRIES; at++)
        entries[at] = std::string(100, 't');
}

/* What is only written must be written all the same: so these are not static. */
thread_local void *t_block;

OWN void *make_thread_local() { return malloc(1111); }

static pthread_barrier_t filled;

static void *work(void *) {
    std::map<int, std::string> entries;
    fill_thread(entries);
    t_block = make_thread_local();
    pthread_barrier_wait(&filled);
    for (;;)
        pause();
    return entries.size() ? nullptr : &entries;
}

/* What only the kernel knows. */
OWN void give_to_epoll(int epoll) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.ptr = malloc(2222);
    epoll_ctl(epoll, EPOLL_CTL_ADD, eventfd(0, 0), &event);
}

OWN void give_to_timer() {
    sigevent event = {};
    timer_t timer;
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    event.sigev_value.sival_ptr = malloc(2223);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
}

/* In the low bits and the upper ones there is a tag. */
uintptr_t g_low, g_high;
OWN void tag_low() { g_low = reinterpret_cast<uintptr_t>(malloc(3331)) | 5; }
OWN void tag_high() { g_high = reinterpret_cast<uintptr_t>(malloc(3332)) | uintptr_t{0xabcd} << 48; }

/* Nothing that looks at memory can know this. */
uintptr_t g_mangled;
OWN void mangle() { g_mangled = ~reinterpret_cast<uintptr_t>(malloc(4444)); }

char *g_middle;
OWN void point_to_middle() { g_middle = static_cast<char *>(malloc(5555)) + 64; }

static void **g_shared, **g_memfd;
OWN void point_from_shared() { *g_shared = malloc(6661); }
OWN void point_from_memfd() { *g_memfd = malloc(6662); }

alignas(16) char g_packed[16];
OWN void pack() {
    void *block = malloc(7776);
    memcpy(g_packed + 3, &block, sizeof block);
}

int main() {
    int epoll = epoll_create1(0);
    g_shared = static_cast<void **>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int memfd = memfd_create("pointers", 0);
    if (ftruncate(memfd, 4096) != 0)
        return 1;
    g_memfd = static_cast<void **>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0));
    pthread_barrier_init(&filled, nullptr, 2);
    char line[16];
    if (write(1, "ready\n", 6) != 6 || read(0, line, sizeof line) <= 0)
        return 1;
    Server server;
    lose_list();
    lose_tree();
    lose_cycles();
    lose_blocks();
    fill_registry();
    fill_singleton();
    fill_chain();
    fill_server(server);
    pthread_t thread;
    pthread_create(&thread, nullptr, work, nullptr);
    pthread_barrier_wait(&filled);
    give_to_epoll(epoll);
    give_to_timer();
    tag_low();
    tag_high();
    mangle();
    point_to_middle();
    point_from_shared();
    point_from_memfd();
    pack();
    wipe();
    if (write(1, "done\n", 5) != 5)
        return 1;
    while (read(0, line, sizeof line) > 0)
        ;
    return server.sessions.empty();
}
