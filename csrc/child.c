/* child.c: performs a plan, between clone and exec. Child-safe: see raw.h.
 *
 * It decides nothing. A step is skipped when an input slot is empty, made, and checked; the first
 * failure is written to the report and ends the process. All text was prepared by the caller. */
#include "call.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

static void leave(int status) __attribute__((noreturn));
static void leave(int status)
{
    for (;;) nsb_sys1(SYS_exit_group, status);
}

static void fail(struct nsb_start *s, const struct nsb_step *step, long err) __attribute__((noreturn));
static void fail(struct nsb_start *s, const struct nsb_step *step, long err)
{
    s->report.step = step->index;
    s->report.err = (int32_t)-err;
    s->report.state = NSB_FAILED;
    leave(1);
}

/* One message on the channel, with descriptors from or to slots. */
struct pass {
    struct msghdr msg;
    struct iovec iov;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(NSB_MAXPASS * sizeof(int))];
    } control;
    struct nsb_note note;
};

static void prepare(struct pass *p, int kind, int step)
{
    p->note = (struct nsb_note){kind, step};
    p->iov = (struct iovec){&p->note, sizeof p->note};
    p->msg = (struct msghdr){0};
    p->msg.msg_iov = &p->iov;
    p->msg.msg_iovlen = 1;
    p->msg.msg_control = &p->control;
}

static long send_up(const struct nsb_start *s, int kind, int step, const int *fds, int n)
{
    struct pass p;
    prepare(&p, kind, step);
    p.msg.msg_controllen = n ? CMSG_LEN((size_t)n * sizeof(int)) : 0; /* no padding: it would be sent unset */
    if (n) {
        p.control.align.cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        p.control.align.cmsg_level = SOL_SOCKET;
        p.control.align.cmsg_type = SCM_RIGHTS;
        for (int i = 0; i < n; i++) ((int *)CMSG_DATA(&p.control.align))[i] = fds[i];
    }
    return nsb_sys3(SYS_sendmsg, s->channel, &p.msg, MSG_NOSIGNAL);
}

/* The caller's answer. Its end of the channel closed means that it is gone, or has given up. */
static void take_answer(struct nsb_start *s, const struct nsb_step *step)
{
    struct pass p;
    prepare(&p, 0, 0);
    p.msg.msg_controllen = sizeof p.control;
    long n = nsb_sys3(SYS_recvmsg, s->channel, &p.msg, MSG_CMSG_CLOEXEC);
    if (n < 0) fail(s, step, n);
    if (n == 0 || p.note.kind != NSB_MSG_GO) leave(1);
    int got = p.msg.msg_controllen < sizeof(struct cmsghdr)
                  ? 0
                  : (int)((p.control.align.cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < NSB_MAXPASS && step->take[i] >= 0; i++) {
        if (i >= got) fail(s, step, -EPROTO);
        s->slot[step->take[i]] = ((int *)CMSG_DATA(&p.control.align))[i];
    }
}

static void announce(struct nsb_start *s, const struct nsb_step *step)
{
    int fds[NSB_MAXPASS], n = 0;
    while (n < NSB_MAXPASS && step->give[n] >= 0) {
        fds[n] = s->slot[step->give[n]];
        n++;
    }
    long err = send_up(s, NSB_MSG_BARRIER, step->index, fds, n);
    if (err < 0) fail(s, step, err);
}

/* A copy has no common descriptor table: its pidfd goes up by message, from the copy itself, so that it comes
 * before all that the copy says, and from its maker, since the copy may be killed before it has said a word:
 * nobody would reap it. The caller takes the first. */
static void say_hello(struct nsb_start *s, const struct nsb_step *step, int hop, long pidfd)
{
    if (pidfd < 0) fail(s, step, pidfd);
    int up = (int)pidfd;
    long err = send_up(s, NSB_MSG_HELLO, hop, &up, 1);
    nsb_sys1(SYS_close, pidfd);
    if (err < 0) fail(s, step, err);
}

static long move_into(int cgroup)
{
    long fd = nsb_sys4(SYS_openat, cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return fd;
    long n = nsb_sys3(SYS_write, fd, "0", 1);
    nsb_sys1(SYS_close, fd);
    return n < 0 ? n : 0;
}

/* Answers the copy's pid, or in the copy 0. Without clone3, which valgrind lacks, the copy goes into its
 * cgroup by itself; only there does it make a cgroup namespace, whose root is where its maker is. */
static long hop_copied(struct nsb_start *s, const struct nsb_step *step, int hop, int cgroup)
{
    int up = -1;
    long flags = step->a[NSB_HOP_FLAGS], others = CLONE_VM | CLONE_VFORK | CLONE_FILES;
    if (cgroup >= 0) others |= CLONE_NEWCGROUP;
    long pid = nsb_clone_copy((unsigned long)(flags & ~others), &up);
    if (pid == 0) {
        say_hello(s, step, hop, nsb_sys2(SYS_pidfd_open, nsb_sys0(SYS_getpid), 0));
        long err = cgroup < 0 ? 0 : move_into(cgroup);
        if (err == 0 && flags & others & CLONE_NEWCGROUP) err = nsb_sys1(SYS_unshare, CLONE_NEWCGROUP);
        if (err < 0) fail(s, step, err);
    }
    if (pid > 0) send_up(s, NSB_MSG_HELLO, hop, &up, 1);
    return pid;
}

static long hop_shared(struct nsb_start *s, unsigned long flags, int hop, int cgroup)
{
    struct clone_args args = {0};
    args.flags = flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = (uint64_t)(uintptr_t)&s->report.pidfd[hop];
    args.stack = (uint64_t)(uintptr_t)s->stack[hop + 1] - NSB_STACK;
    args.stack_size = NSB_STACK;
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    return nsb_clone3(&args, nsb_child, s);
}

/* Where the new process is to begin, or -1: where this one is. */
static int cgroup_of(struct nsb_start *s, const struct nsb_step *step)
{
    if (!(step->slots >> NSB_HOP_INTO & 1)) return -1;
    int fd = s->slot[step->a[NSB_HOP_INTO]];
    if (fd < 0) fail(s, step, -EBADF);
    return fd;
}

/* The new process goes on with the plan. This one waits, in the kernel, until that has exec'ed or
 * ended (CLONE_VFORK), and ends too. Copied processes do not wait. */
static void hop(struct nsb_start *s, const struct nsb_step *step)
{
    int n = s->report.nhops, cgroup = cgroup_of(s, step);
    if (n >= NSB_MAXHOPS) fail(s, step, -E2BIG);
    s->report.nhops = n + 1;
    long pid;
    if (s->copy) {
        pid = hop_copied(s, step, n, cgroup);
        if (pid == 0) return;
    } else {
        pid = hop_shared(s, (unsigned long)step->a[NSB_HOP_FLAGS], n, cgroup);
    }
    if (pid < 0) {
        s->report.pidfd[n] = -1; /* the kernel may have written one before it gave up */
        fail(s, step, pid);
    }
    leave(0);
}

/* Fills in slots and parameters; 0 when a slot is empty and the step is to be skipped. */
static int load(const struct nsb_start *s, const struct nsb_step *step, long *a)
{
    for (int i = 0; i < NSB_MAXARGS; i++) {
        a[i] = step->a[i];
        if (step->params >> i & 1) a[i] = s->param[a[i]];
        if (!(step->slots >> i & 1)) continue;
        a[i] = s->slot[step->a[i]];
        if (a[i] < 0) return 0;
    }
    return 1;
}

/* Default actions for all signals, then none blocked: what a program expects at its start. */
static void reset_signals(void)
{
    struct nsb_sigaction dfl = {0};
    uint64_t none = 0;
    for (int sig = 1; sig < 65; sig++) nsb_sys4(SYS_rt_sigaction, sig, &dfl, 0, sizeof dfl.mask);
    nsb_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none);
}

/* As execvp: the next path after ENOENT, ENOTDIR, EACCES; EACCES wins over "not found". */
static long exec_first(const long *a)
{
    char *const *path = (char *const *)a[NSB_EXEC_PATHS];
    long result = -ENOENT;
    for (; *path; path++) {
        long err = nsb_sys3(SYS_execve, *path, a[NSB_EXEC_ARGV], a[NSB_EXEC_ENVP]);
        if (err == -EACCES || (path == (char *const *)a[NSB_EXEC_PATHS] && !path[1])) result = err;
        if (err != -ENOENT && err != -ENOTDIR && err != -EACCES) return err;
    }
    return result;
}

static void exec(struct nsb_start *s, const struct nsb_step *step)
{
    long a[NSB_MAXARGS], err;
    if (!load(s, step, a)) fail(s, step, -EBADF);
    s->report.state = NSB_EXECING;
    reset_signals();
    if (a[NSB_EXEC_PATHS])
        err = exec_first(a);
    else
        err = nsb_sys5(SYS_execveat, a[NSB_EXEC_FD], "", a[NSB_EXEC_ARGV], a[NSB_EXEC_ENVP], AT_EMPTY_PATH);
    if (step->give[0] >= 0) send_up(s, NSB_MSG_ROOT, step->index, &s->slot[step->give[0]], 1);
    fail(s, step, err);
}

/* Closes all but the standard descriptors and these three. */
static long keep_three(struct nsb_keep *keep, int a, int b, int c)
{
    int low = a < b ? a : b, high = a < b ? b : a;
    int first = c < low ? c : low, last = c > high ? c : high;
    *keep = (struct nsb_keep){6, {0, 1, 2, first, a + b + c - first - last, last}};
    long arg = (long)(intptr_t)keep;
    return nsb_close_fds(&arg);
}

/* The copy of the caller's program is to go on here. It has objects that own descriptors by their numbers:
 * each number stays taken, by a descriptor of no use, or what is opened next would be closed by them. The
 * channel's end comes last: with it the start is over, and its memory the caller's. */
static int come_back(struct nsb_start *s, const struct nsb_step *step)
{
    long a[NSB_MAXARGS], err;
    if (!s->copy || !load(s, step, a)) fail(s, step, -EINVAL);
    int result = (int)a[0], none = (int)a[1], channel = s->channel;
    s->report.state = NSB_EXECING;
    reset_signals();
    err = keep_three(&s->keep, result, none, channel);
    if (err < 0) fail(s, step, err);
    for (int i = 0; i < s->nheld; i++) {
        int fd = s->held[i];
        if (fd > 2 && fd != result && fd != none && fd != channel)
            nsb_sys3(SYS_dup3, none, fd, O_CLOEXEC); /* fails beyond the limit, where nothing is opened */
    }
    long own = nsb_sys3(SYS_fcntl, result, F_DUPFD_CLOEXEC, 3); /* a number that nobody knows */
    if (own < 0) fail(s, step, own);
    nsb_sys3(SYS_dup3, none, result, O_CLOEXEC);
    nsb_sys3(SYS_dup3, none, channel, O_CLOEXEC);
    return (int)own;
}

static int tolerated(const struct nsb_step *step, long err)
{
    for (int i = 0; i < NSB_MAXOK && step->ok[i]; i++)
        if (step->ok[i] == -err) return 1;
    return 0;
}

static void call(struct nsb_start *s, const struct nsb_step *step)
{
    long a[NSB_MAXARGS];
    if (!load(s, step, a)) return;
    long ret = nsb_perform(&nsb_calls[step->call], a);
    if (ret < 0) {
        if (tolerated(step, ret)) return;
        fail(s, step, ret);
    }
    if (step->has_expect) {
        long want = step->expect_slot ? s->slot[step->expect] : step->expect;
        if (ret != want) fail(s, step, -EPROTO);
    }
    if (step->out >= 0) s->slot[step->out] = (int)ret;
}

/* A descriptor of the plan's leaves the number; all that stand for it follow. */
static void leave_number(struct nsb_start *s, const struct nsb_step *step, int *holder, long *to)
{
    if (*holder != step->a[0]) return;
    if (*to < 0) *to = nsb_sys3(SYS_fcntl, *holder, F_DUPFD_CLOEXEC, 3);
    if (*to < 0) fail(s, step, *to == -EINVAL ? -EMFILE : *to); /* EINVAL: the limit is below 3 */
    *holder = (int)*to;
}

/* Before a dup3 to a number: no slot, nor the channel, is lost by it. The old one ends with that dup3. A
 * number that the program got already is taken, and thus not chosen. */
static void vacate(struct nsb_start *s, const struct nsb_step *step)
{
    long to = -1;
    leave_number(s, step, &s->channel, &to);
    for (int i = NSB_SLOT_OWNER + 1; i < s->program->nslots; i++) leave_number(s, step, &s->slot[i], &to);
}

int nsb_child(void *start)
{
    struct nsb_start *s = start;
    while (s->next < s->program->nsteps) {
        const struct nsb_step *step = &s->program->step[s->next++];
        s->report.step = step->index;
        switch (step->kind) {
        case NSB_CALL: call(s, step); break;
        case NSB_HOP: hop(s, step); break;
        case NSB_VACATE: vacate(s, step); break;
        case NSB_BARRIER:
            announce(s, step);
            take_answer(s, step);
            break;
        case NSB_EXEC: exec(s, step); break;
        case NSB_RETURN: return come_back(s, step);
        default: fail(s, step, -EINVAL);
        }
    }
    leave(1);
}
