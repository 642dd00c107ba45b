/* pid1.c: pid 1 of a box: starts the command, hands signals on, reaps orphans, tells how the command ended.
 *
 * argv: "nsbox-init", the number of the status channel, then
 *     ["tty"] path… "--" argument…   the command: the first path that can be run; each has a slash
 *     signal                         an idle box: no command; TERM, INT and this one end it
 *
 * It has the command's ids and capabilities, so that nothing is to be gained by it: the kernel shields pid 1
 * from the box's KILL and STOP, and that it is not dumpable from being traced, written to and looked into.
 * So the channel is its own, and what it tells there is true. */
#include "init.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { MASK = sizeof(uint64_t) };

static const uint64_t all_signals = ~(uint64_t)0;

static struct {
    int status;
    int idle, stop; /* no command, and the signal that ends it besides TERM and INT */
    int terminal;
    char **paths, **argv, **envp;
    char *words; /* what they point to, but for envp */
    size_t size;
    /* what the child, which shares this memory until exec, could not do, and why */
    volatile int failed;
    volatile long err;
} box;

static void __attribute__((noreturn)) leave(int code)
{
    for (;;) nsb_sys1(SYS_exit_group, code);
}

/* ---- telling ---- */

/* fd: goes along, if it is one. */
static void tell(int kind, long value, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct nsb_status status = {kind, (int32_t)value};
    struct iovec iov = {&status, sizeof status};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_LEN(sizeof(int));
        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        *(int *)CMSG_DATA(&control.align) = fd;
    }
    nsb_sys3(SYS_sendmsg, box.status, &msg, MSG_NOSIGNAL);
}

/* ---- the command ---- */

static void __attribute__((noreturn)) give_up(int kind, long err)
{
    box.err = -err;
    box.failed = kind;
    leave(127);
}

/* As exec_first in child.c. */
static long exec_first(void)
{
    long result = -ENOENT;
    for (char **path = box.paths; *path; path++) {
        long err = nsb_sys3(SYS_execve, *path, box.argv, box.envp);
        if (err == -EACCES || (path == box.paths && !path[1])) result = err;
        if (err != -ENOENT && err != -ENOTDIR && err != -EACCES) return err;
    }
    return result;
}

/* The signals' actions are the default ones: the plan has left them so, and init has set none. */
static void __attribute__((noreturn, noinline)) become_command(void)
{
    uint64_t none = 0;
    nsb_sys0(SYS_setsid);
    long err = box.terminal ? nsb_sys3(SYS_ioctl, 0, TIOCSCTTY, 0) : 0;
    if (err < 0) give_up(NSB_ST_NO_TERMINAL, err);
    nsb_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, MASK);
    give_up(NSB_ST_NO_PROGRAM, exec_first());
}

/* As vfork: init waits until the child has exec'ed or ended. The child goes on on this very stack, below what
 * is in use, and does not return into it. Not clone3, whose flags no seccomp filter can
 * read, so that most refuse it. */
static long __attribute__((noinline)) clone_command(void)
{
    long pid = nsb_sys5(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) become_command();
    return pid;
}

/* For the caller, to look for the reason: what the command would have had as its root. */
static void __attribute__((noreturn)) explain(int kind, long err)
{
    long root = -1;
    if (kind == NSB_ST_NO_PROGRAM)
        root = nsb_sys4(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    tell(kind, err, (int)root);
    leave(127);
}

static long start_command(void)
{
    long pid = clone_command();
    if (pid < 0) explain(NSB_ST_NO_PROCESS, -pid);
    if (box.failed) explain(box.failed, box.err);
    return pid;
}

/* ---- what init does then ---- */

/* Reaps all that have ended. Leaves when the command is one of them: the kernel ends what is left. */
static void reap(long command)
{
    int status;
    long pid;
    while ((pid = nsb_sys4(SYS_wait4, -1, &status, WNOHANG | __WALL, 0)) > 0 || pid == -EINTR) {
        if (pid != command) continue;
        tell(NSB_ST_ENDED, status, -1);
        leave(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static void end_idle(int sig)
{
    if (sig != SIGTERM && sig != SIGINT && sig != box.stop) return;
    tell(NSB_ST_ENDED, 0, -1);
    leave(0);
}

/* All signals are blocked, so that none is lost and none acts, those that stop a process among them. */
static void __attribute__((noreturn)) serve(long command)
{
    for (;;) {
        siginfo_t info;
        long sig = nsb_sys4(SYS_rt_sigtimedwait, &all_signals, &info, 0, MASK);
        if (sig == SIGCHLD)
            reap(command);
        else if (sig > 0 && info.si_code > 0)
            continue; /* the kernel's, for init itself */
        else if (sig > 0 && box.idle)
            end_idle((int)sig);
        else if (sig > 0)
            nsb_sys2(SYS_kill, command, sig);
    }
}

/* ---- the start ---- */

static int number(const char *s)
{
    int n = 0;
    while (*s >= '0' && *s <= '9') n = n * 10 + (*s++ - '0');
    return n;
}

static void read_arguments(char **argv)
{
    box.status = number(argv[1]);
    argv += 2;
    box.terminal = nsb_same(argv[0], "tty");
    if (box.terminal) argv++;
    box.paths = argv;
    while (*argv && !nsb_same(*argv, "--")) argv++;
    box.idle = !*argv;
    box.argv = argv;
    if (box.idle) {
        box.stop = number(box.paths[0]);
    } else {
        *argv = 0;
        box.argv++;
    }
}

/* A list of processes shows pid 1 by its name: the command's words go elsewhere before anybody is there to
 * look. The kernel has put them one behind the other. */
static void hide_arguments(char **argv)
{
    char **last = argv, *from = argv[1];
    while (last[1]) last++;
    size_t size = (size_t)(*last - from) + nsb_strlen(*last) + 1;
    long at = nsb_sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0) return;
    box.words = (char *)at;
    box.size = size;
    for (size_t i = 0; i < size; i++) {
        box.words[i] = from[i];
        from[i] = 0;
    }
    for (char **arg = argv + 1; *arg; arg++) *arg = box.words + (*arg - from);
}

/* Pipes and terminals end with those who use them, and no folder is kept busy. */
static void let_go(void)
{
    if (box.status > 0) nsb_sys3(SYS_close_range, 0, box.status - 1, 0);
    nsb_sys3(SYS_close_range, box.status + 1, ~0U, 0);
    nsb_sys1(SYS_chdir, "/");
    if (box.words) nsb_sys2(SYS_munmap, box.words, box.size);
}

void nsb_exec(char **argv, char **envp)
{
    nsb_sys5(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (!argv[1] || !argv[2]) leave(127);
    read_arguments(argv);
    if (box.idle) leave(127);
    box.envp = envp;
    nsb_sys3(SYS_fcntl, box.status, F_SETFD, FD_CLOEXEC);
    explain(NSB_ST_NO_PROGRAM, -exec_first());
}

void nsb_pid1(char **argv, char **envp)
{
    long command = -1;
    nsb_sys5(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    nsb_sys5(SYS_prctl, PR_SET_NAME, "nsbox-init", 0, 0, 0);
    nsb_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all_signals, 0, MASK);
    if (!argv[1] || !argv[2]) leave(127);
    hide_arguments(argv);
    read_arguments(argv);
    box.envp = envp;
    nsb_sys3(SYS_fcntl, box.status, F_SETFD, FD_CLOEXEC);
    if (!box.idle) command = start_command();
    let_go();
    tell(NSB_ST_STARTED, 0, -1);
    serve(command);
}
