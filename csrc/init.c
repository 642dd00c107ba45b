/* init.c: the program of our own: where it begins, and what it is to be. */
#include "init.h"

/* stack: as the kernel leaves it at exec: argc, the arguments, NULL, the environment, NULL; elf(5). Who is
 * called otherwise has nothing to do here (a trial of the probe). */
static void __attribute__((noreturn, used)) begin(long *stack)
{
    const char *name = stack[0] > 0 ? (const char *)stack[1] : "";
    if (nsb_same(name, "nsbox-keeper")) nsb_keeper();
    if (nsb_same(name, "nsbox-init")) nsb_pid1((char **)stack + 1, (char **)stack + stack[0] + 2);
    if (nsb_same(name, "nsbox-exec")) nsb_exec((char **)stack + 1, (char **)stack + stack[0] + 2);
    for (;;) nsb_sys1(SYS_exit_group, 0);
}

/* The kernel enters with the stack pointer at argc, a multiple of 16. A function of C expects its return
 * address there on x86, and a frame that begins below it: so the way into C is a call. */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x30, xzr\n\tmov x0, sp\n\tbl begin\n\tbrk #0");
#endif
