/* The forms of a call site, measured by other code than the project's: written by hand, assembled by gcc, timed in C.
 *
 * Prints one line a form: its name, core cycles for one site. The same idea (n sites, 2n sites, subtract), so that the two
 * answer the same question; nothing else is shared. Ticks become cycles by a chain of dependent additions.
 */
#include <stdint.h>
#include <stdio.h>

#define TURNS 32
#define ROUNDS 3000

#define PROGRAM(name, times, site)                                                                                     \
    asm(".text\n.p2align 12\n.globl " name "\n" name ":\n"                                                             \
        "push %rbx\nmov %rdi,%rbx\nmov %rsi,%rdi\nlea function(%rip),%rax\nmov $1,%edx\n.p2align 6\n1:\n"               \
        ".rept " #times "\n" site "\n.endr\n"                                                                          \
        "dec %rbx\njnz 1b\npop %rbx\nret\n");

#define FORM(name, site)                                                                                               \
    PROGRAM("once_" #name, 32, site)                                                                                   \
    PROGRAM("twice_" #name, 64, site)                                                                                  \
    void once_##name(uint64_t turns, void *scratch);                                                                   \
    void twice_##name(uint64_t turns, void *scratch);

asm(".text\n.p2align 6\nfunction: ret\n"
    ".p2align 6\nreturns_through_thunk: jmp return_thunk\n"
    ".p2align 6\nreturn_thunk: ret\nint3\n"
    ".p2align 6\nretpoline: call 1f\nint3\n1: mov %rax,(%rsp)\nret\n"
    ".p2align 6\nkeeps_4: push %rcx\npush %rdx\npush %rsi\npush %rdi\ncall function\n"
    "pop %rdi\npop %rsi\npop %rdx\npop %rcx\nret\n"
    ".p2align 6\nkeeps_8: push %rcx\npush %rdx\npush %rsi\npush %rdi\npush %r8\npush %r9\npush %r10\npush %r11\n"
    "call function\n"
    "pop %r11\npop %r10\npop %r9\npop %r8\npop %rdi\npop %rsi\npop %rdx\npop %rcx\nret\n"
    ".data\n.p2align 6\npointer: .quad function\n.text\n");

FORM(add, "add %rdx,%rax")
FORM(nop6, ".byte 0x66,0x0f,0x1f,0x44,0,0")
FORM(inline, "pushf\npop %rax\nnopl 0(%rax)")
FORM(inline_unlock, "movb $0,(%rdi)\nnopl 0(%rax)")
FORM(direct_call, "call function\nnop")
FORM(indirect_call, "call *pointer(%rip)")
FORM(retpoline, "call retpoline")
FORM(register_call, "call *%rax\nnopl 0(%rax)")
FORM(lfence_call, "lfence\ncall *%rax")
FORM(return_thunk, "call returns_through_thunk\nnop")
FORM(save_thunk_4, "call keeps_4\nnop")
FORM(save_thunk_8, "call keeps_8\nnop")
FORM(alternative, ".byte 0x0f,0x1f,0x44,0,0")
FORM(jump_over, ".byte 0xeb,19\nnopl 0(%rax)\n.fill 16,1,0xcc")

static uint64_t now(void)
{
    uint32_t low, high;
    asm volatile("lfence\nrdtsc\nlfence" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}

typedef void program(uint64_t turns, void *scratch);

struct form {
    const char *name;
    program *once, *twice;
    uint64_t least[2];
};

#define ROW(name) {#name, once_##name, twice_##name, {UINT64_MAX, UINT64_MAX}}

static struct form forms[] = {
    ROW(add),         ROW(nop6),         ROW(inline),       ROW(inline_unlock), ROW(direct_call),
    ROW(indirect_call), ROW(retpoline),  ROW(register_call), ROW(lfence_call),  ROW(return_thunk),
    ROW(save_thunk_4), ROW(save_thunk_8), ROW(alternative), ROW(jump_over),
};

int main(void)
{
    static char scratch[64];
    const unsigned count = sizeof forms / sizeof *forms;
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < count; i++)
            for (unsigned twice = 0; twice < 2; twice++) {
                program *run = twice ? forms[i].twice : forms[i].once;
                run(TURNS, scratch);
                uint64_t began = now();
                run(TURNS, scratch);
                uint64_t took = now() - began;
                if (took < forms[i].least[twice])
                    forms[i].least[twice] = took;
            }
    double tick = (double)(forms[0].least[1] - forms[0].least[0]);
    for (unsigned i = 1; i < count; i++)
        printf("%s %.4f\n", forms[i].name, (double)(int64_t)(forms[i].least[1] - forms[i].least[0]) / tick);
    return 0;
}
