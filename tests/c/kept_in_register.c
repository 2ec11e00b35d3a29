/* After a line of input: a block that only a register that calls preserve holds, while the program rests in a system call
 * ("rest") or computes ("spin"), one that only the kernel knows, as a signal stack,
 * one that only memory holds that the program itself may not read, and one that nothing holds. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noinline)) void *keep_in_register(void) { return malloc(5000); }
__attribute__((noinline)) void *forget(void) { return malloc(6000); }

__attribute__((noinline)) int keep_as_signal_stack(void)
{
    stack_t stack = {.ss_sp = malloc(70000), .ss_size = 70000};
    return sigaltstack(&stack, 0);
}

__attribute__((noinline)) int keep_in_hidden_memory(void)
{
    void **secret = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (secret == MAP_FAILED)
        return -1;
    *secret = malloc(8000);
    return mprotect(secret, 4096, PROT_NONE);
}

static __attribute__((noinline)) void wipe(void)
{
    volatile char stack[16384];
    memset((char *)stack, 0, sizeof stack);
}

static __attribute__((noinline)) int say(const char *text) { return write(1, text, strlen(text)) > 0; }

int main(int count, char **arguments)
{
    char line[16];
    int spins = count > 1 && strcmp(arguments[1], "spin") == 0;
    if (!say("ready\n") || read(0, line, sizeof line) <= 0)
        return 1;
    forget();
    if (keep_as_signal_stack() != 0 || keep_in_hidden_memory() != 0)
        return 2;
#ifdef __x86_64__
    register void *kept asm("rbx") = keep_in_register();
#else
    register void *kept asm("x19") = keep_in_register();
#endif
    asm volatile("" : "+r"(kept));
    wipe();
    say("done\n");
    while (spins)
        asm volatile("" : "+r"(kept));
    for (;;) {
        pause();
        asm volatile("" : "+r"(kept));
    }
}
