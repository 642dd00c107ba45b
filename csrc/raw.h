/* raw.h: system calls without errno, and constants and structs that libc lacks.
 *
 * Shared with every child-safe file. A child made with CLONE_VM shares the
 * caller's thread-local errno and libc state, so it may use nothing but these. */
#ifndef NSB_RAW_H
#define NSB_RAW_H

#include <linux/sched.h> /* struct clone_args, CLONE_* */
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#define NSB_HIDDEN __attribute__((visibility("hidden")))

/* Every call answers as the kernel does: a result >= 0, or a negative errno. */
#if defined(__x86_64__)

static inline long nsb_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

/* clone3 onto the stack in `args`; the child calls fn(arg) there and never returns. */
static inline long nsb_clone3(struct clone_args *args, int (*fn)(void *), void *arg)
{
    long ret;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[arg], %%rdi\n\t"
                     "call *%[fn]\n\t"
                     "mov %%eax, %%edi\n\t"
                     "mov %[exit], %%eax\n\t"
                     "syscall\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(ret)
                     : "0"((long)SYS_clone3), "D"(args),
                       "S"(sizeof *args), [fn] "r"(fn), [arg] "r"(arg), [exit] "i"(SYS_exit_group)
                     : "rcx", "r11", "memory");
    return ret;
}
#define NSB_SHARED_MEMORY 1

#elif defined(__aarch64__)

static inline long nsb_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

static inline long nsb_clone3(struct clone_args *args, int (*fn)(void *), void *arg)
{
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, %[arg]\n\t"
                     "blr %[fn]\n\t"
                     "mov x8, %[exit]\n\t"
                     "svc #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), [fn] "r"(fn), [arg] "r"(arg), [exit] "i"(SYS_exit_group)
                     : "memory", "x30");
    return x0;
}
#define NSB_SHARED_MEMORY 1

#else /* an architecture without our own calls: copy mode only, where errno is the child's own */

#include <errno.h>
#include <unistd.h>
static inline long nsb_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret = syscall(nr, a, b, c, d, e, f);
    return ret < 0 ? -errno : ret;
}
static inline long nsb_clone3(struct clone_args *args, int (*fn)(void *), void *arg)
{
    (void)args, (void)fn, (void)arg;
    return -ENOSYS;
}
#define NSB_SHARED_MEMORY 0

#endif

#define nsb_sys0(nr) nsb_sys6(nr, 0, 0, 0, 0, 0, 0)
#define nsb_sys1(nr, a) nsb_sys6(nr, (long)(a), 0, 0, 0, 0, 0)
#define nsb_sys2(nr, a, b) nsb_sys6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define nsb_sys3(nr, a, b, c) nsb_sys6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define nsb_sys4(nr, a, b, c, d) nsb_sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define nsb_sys5(nr, a, b, c, d, e) nsb_sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* A clone that copies, on the caller's own stack, as fork does: answers twice. The maker gets a pidfd. */
static inline long nsb_clone_copy(unsigned long flags, int *pidfd)
{
    return nsb_sys5(SYS_clone, flags | CLONE_PIDFD, 0, pidfd, 0, 0);
}

static inline size_t nsb_strlen(const char *s)
{
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

/* The kernel's view of a signal's action: not libc's struct sigaction. */
struct nsb_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

struct nsb_mount_attr {
    uint64_t attr_set, attr_clr, propagation, userns_fd;
};

struct nsb_open_how {
    uint64_t flags, mode, resolve;
};

#endif
