/* keeper.c: the keeper: one small process per caller, under which all its boxes live.
 *
 * It is pid 1 of an outer pid namespace, so its end is the end of every box below it: the kernel sees
 * to that. It waits for its owner's death, told by a pidfd, or for the end of the socket, and does
 * what the owner can no longer do: kills what is not below it, gives a terminal back its settings.
 * It also makes user and network namespaces, which take the kernel longest, before they are needed.
 * Static, without libc: it starts in a tenth of a millisecond and holds no memory of the owner.
 *
 * Descriptors: 0 the socket to the owner (SEQPACKET), 1 the owner's pidfd. */
#include "keeper.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

enum { SOCKET = 0, OWNER = 1, MAX_DUTIES = 4096, SETTINGS = 64, MAX_TEXT = 8256, STACK = 8192 };

static const uint64_t REMOVAL = 30000000000U; /* nanoseconds for all cgroups */

/* What to do when the owner is gone, and what is no duty. */
enum duty_kind {
    NONE,
    KILL = 'K',   /* SIGKILL to a pidfd: a box whose pid namespace is not below ours */
    TTY = 'T',    /* the settings of a terminal that was made raw */
    TIMER = 'W',  /* a timeout, should the owner be busy: see struct timer */
    CGROUP = 'C', /* a cgroup, locked by its descriptor: all in it is killed, and it is removed */
    CPU = 'U',    /* a cgroup's limit of CPU time, should the owner be busy: see struct nsb_cpu */
    DROP = 'D',   /* forget the duty of this id */
    ASK = 'Q',    /* whether the timer of this id has acted: ETIME, else EAGAIN */
    NEW = 'N',    /* make namespaces, and answer with this id */
};

struct message {
    uint32_t kind, id;
    char text[MAX_TEXT]; /* a duty's data; or clone flags (4 bytes), uid_map, NUL, gid_map */
};

/* At `at` the signal, `grace` later SIGKILL; nanoseconds of CLOCK_MONOTONIC. */
struct timer {
    uint64_t at, grace;
    uint32_t signal, acted;
};

static struct duty {
    uint32_t kind, id;
    union {
        char settings[SETTINGS]; /* or a cgroup's name */
        struct timer timer;
        struct nsb_cpu cpu;
    };
    int fd;
} duties[MAX_DUTIES];

static int top; /* none beyond it is in use */

static void do_duty(struct duty *d)
{
    if (d->kind == KILL) nsb_sys4(SYS_pidfd_send_signal, d->fd, SIGKILL, 0, 0);
    if (d->kind == TTY) nsb_sys3(SYS_ioctl, d->fd, TCSETS, d->settings);
}

static void drop(uint32_t id)
{
    for (int i = 0; i < top; i++) {
        if (duties[i].kind == NONE || duties[i].id != id) continue;
        nsb_sys1(SYS_close, duties[i].fd);
        duties[i].kind = NONE;
    }
    while (top > 0 && duties[top - 1].kind == NONE) top--;
}

static void add(const struct message *m, int fd)
{
    for (int i = 0; i < MAX_DUTIES; i++) {
        if (duties[i].kind != NONE) continue;
        duties[i].fd = fd;
        for (unsigned j = 0; j < SETTINGS; j++) duties[i].settings[j] = m->text[j];
        duties[i].id = m->id;
        duties[i].kind = m->kind;
        if (top <= i) top = i + 1;
        return;
    }
    nsb_sys1(SYS_close, fd);
}

/* ---- timers ---- */

uint64_t nsb_now(void)
{
    struct timespec t = {0, 0};
    nsb_sys2(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* One that has ended by itself would take the signal, too, until it is reaped. */
static int has_ended(int pidfd)
{
    struct pollfd p = {pidfd, POLLIN, 0};
    struct timespec none = {0, 0};
    return nsb_sys5(SYS_ppoll, &p, 1, &none, 0, 8) != 0;
}

static void act(struct duty *d)
{
    struct timer *t = &d->timer;
    if (has_ended(d->fd)) {
        t->at = UINT64_MAX;
        return;
    }
    nsb_sys4(SYS_pidfd_send_signal, d->fd, t->acted || !t->grace ? SIGKILL : t->signal, 0, 0);
    t->at = t->acted || !t->grace ? UINT64_MAX : t->at + t->grace;
    t->acted = 1;
}

/* When the duty is to be looked at. */
static uint64_t due(const struct duty *d)
{
    return d->kind == TIMER ? d->timer.at : d->kind == CPU ? d->cpu.at : UINT64_MAX;
}

/* Does what is due. The time until the next in *wait, or NULL when there is none. */
static struct timespec *run_timers(struct timespec *wait)
{
    uint64_t next = UINT64_MAX, time = nsb_now();
    for (int i = 0; i < top; i++) {
        struct duty *d = &duties[i];
        if (due(d) <= time && d->kind == TIMER) act(d);
        if (due(d) <= time && d->kind == CPU) nsb_cgroup_limit(d->fd, &d->cpu, time);
        if (due(d) < next) next = due(d);
    }
    if (next == UINT64_MAX) return 0;
    uint64_t left = next > time ? next - time : 0;
    *wait = (struct timespec){(time_t)(left / 1000000000U), (long)(left % 1000000000U)};
    return wait;
}

static int has_acted(uint32_t id)
{
    for (int i = 0; i < top; i++) {
        const struct duty *d = &duties[i];
        if (d->id != id) continue;
        if (d->kind == TIMER) return d->timer.acted != 0;
        if (d->kind == CPU) return d->cpu.acted != 0;
    }
    return 0;
}

/* ---- namespaces ---- */

enum { ENDED = 0, WORKING, DONE };

/* A process that enters the new namespaces, opens what names them, and waits to be killed. It shares the
 * keeper's memory and descriptors. */
static struct maker {
    uint32_t flags;
    uint32_t state;      /* a futex; the kernel sets ENDED: somebody may kill it at its work */
    int self, user, net; /* its folder in /proc; the namespaces */
    long err;
} maker;

static char stack[STACK] __attribute__((aligned(16)));

static int open_at(const char *path, int flags)
{
    long fd = nsb_sys4(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
    if (fd < 0 && !maker.err) maker.err = fd;
    return (int)fd;
}

static __attribute__((noreturn)) int made(void *unused)
{
    (void)unused;
    maker.self = open_at("/proc/self", O_PATH | O_DIRECTORY);
    maker.user = open_at("/proc/self/ns/user", O_RDONLY);
    if (maker.flags & CLONE_NEWNET) {
        long lo[NSB_MAXARGS] = {(long)(intptr_t) "lo"};
        maker.net = open_at("/proc/self/ns/net", O_RDONLY);
        if (!maker.err) maker.err = nsb_if_up(lo);
    }
    __atomic_store_n(&maker.state, DONE, __ATOMIC_RELEASE);
    nsb_sys3(SYS_futex, &maker.state, FUTEX_WAKE, 1);
    for (;;) nsb_sys5(SYS_ppoll, 0, 0, 0, 0, 8);
}

static long clone_maker(uint32_t flags)
{
    struct clone_args args = {.flags = CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID | flags,
                              .child_tid = (uint64_t)(uintptr_t)&maker.state,
                              .exit_signal = SIGCHLD,
                              .stack = (uint64_t)(uintptr_t)stack,
                              .stack_size = STACK};
    maker = (struct maker){.flags = flags, .state = WORKING, .self = -1, .user = -1, .net = -1};
    return nsb_clone3(&args, made, 0);
}

static long put(const char *name, const char *text)
{
    long fd = nsb_sys4(SYS_openat, maker.self, name, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return fd;
    long n = nsb_sys3(SYS_write, fd, text, nsb_strlen(text));
    nsb_sys1(SYS_close, fd);
    return n < 0 ? n : 0;
}

static void close_made(void)
{
    int fds[] = {maker.self, maker.user, maker.net};
    for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0) nsb_sys1(SYS_close, fds[i]);
}

/* The id, and 0 with a descriptor for each namespace, user first, or an errno. */
static void answer(uint32_t id, long err)
{
    int fds[2] = {maker.user, maker.net}, n = err ? 0 : maker.flags & CLONE_NEWNET ? 2 : 1;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof fds)];
    } control = {0};
    uint32_t data[2] = {id, (uint32_t)-err};
    struct iovec iov = {data, sizeof data};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = n ? &control : 0};
    msg.msg_controllen = n ? CMSG_LEN((size_t)n * sizeof(int)) : 0;
    control.align.cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    for (int i = 0; i < n; i++) ((int *)CMSG_DATA(&control.align))[i] = fds[i];
    nsb_sys3(SYS_sendmsg, SOCKET, &msg, MSG_NOSIGNAL);
}

/* Not FUTEX_WAIT_PRIVATE: the kernel's own wake-up is none. */
static long wait_made(void)
{
    uint32_t state;
    while ((state = __atomic_load_n(&maker.state, __ATOMIC_ACQUIRE)) == WORKING)
        nsb_sys4(SYS_futex, &maker.state, FUTEX_WAIT, WORKING, 0);
    return maker.err ? maker.err : state == DONE ? 0 : -ESRCH;
}

/* Only from outside may more than one id be mapped; user_namespaces(7). */
static void make(const struct message *m)
{
    const char *uid_map = m->text + sizeof(uint32_t), *gid_map = uid_map + nsb_strlen(uid_map) + 1;
    long pid = clone_maker(*(const uint32_t *)(const void *)m->text), err = pid < 0 ? pid : 0;
    if (pid > 0) {
        err = wait_made();
        if (!err) err = put("uid_map", uid_map);
        if (!err) err = put("gid_map", gid_map);
        /* of one that was killed the kernel refuses the files, too, in one way or another */
        if (err && __atomic_load_n(&maker.state, __ATOMIC_ACQUIRE) == ENDED) err = -ESRCH;
        nsb_sys2(SYS_kill, pid, SIGKILL);
    }
    answer(m->id, err);
    close_made();
    if (pid > 0) nsb_sys4(SYS_wait4, pid, 0, __WALL, 0); /* its stack is free again: SIGCHLD is ignored */
}

/* ---- messages ---- */

/* One message: 1, 0 at the end of the socket, or a negative errno. */
static long receive(int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    static struct message m;
    struct iovec iov = {&m, sizeof m - 2}; /* two NUL bytes stay behind any text */
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    long n = nsb_sys3(SYS_recvmsg, SOCKET, &msg, flags | MSG_CMSG_CLOEXEC);
    if (n <= 0) return n;
    int has_fd = msg.msg_controllen >= sizeof control.align && control.align.cmsg_type == SCM_RIGHTS;
    if (m.kind == DROP)
        drop(m.id);
    else if (m.kind == ASK)
        answer(m.id, has_acted(m.id) ? -ETIME : -EAGAIN);
    else if (m.kind == NEW && msg.msg_flags & MSG_TRUNC)
        answer(m.id, -EMSGSIZE);
    else if (m.kind == NEW)
        make(&m);
    else if (has_fd)
        add(&m, *(int *)CMSG_DATA(&control.align));
    return 1;
}

static int over(long n) { return n <= 0 && n != -EINTR && n != -EAGAIN; }

static void serve(void)
{
    for (;;) {
        struct pollfd p[2] = {{SOCKET, POLLIN, 0}, {OWNER, POLLIN, 0}};
        struct timespec until;
        long n = nsb_sys5(SYS_ppoll, p, 2, run_timers(&until), 0, 8);
        if (n == -EINTR) continue;
        if (n < 0 || p[1].revents) return;
        if (p[0].revents && over(receive(0))) return;
    }
}

/* Last: it may take a while. The lock of each is held until it is gone. What the freezer of v1 holds is in
 * other cgroups, too, which do not become empty before it is let go. */
static void remove_cgroups(void)
{
    uint64_t deadline = nsb_now() + REMOVAL;
    for (int i = 0; i < top; i++)
        if (duties[i].kind == CGROUP) nsb_cgroup_kill(duties[i].fd);
    for (int i = 0; i < top; i++) {
        if (duties[i].kind != CGROUP) continue;
        duties[i].settings[SETTINGS - 1] = 0;
        nsb_cgroup_remove(duties[i].fd, duties[i].settings, deadline);
        nsb_sys1(SYS_close, duties[i].fd);
    }
}

static void start(void)
{
    struct nsb_sigaction ignore = {.handler = SIG_IGN};
    struct rlimit64 files = {0, 0};
    nsb_sys5(SYS_prctl, PR_SET_NAME, "nsbox-keeper", 0, 0, 0);
    /* orphans of a set-up that come down to pid 1 are reaped by the kernel */
    nsb_sys4(SYS_rt_sigaction, SIGCHLD, &ignore, 0, sizeof ignore.mask);
    /* a descriptor for each duty */
    if (nsb_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &files) < 0) return;
    files.rlim_cur = files.rlim_max;
    nsb_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, 0);
}

void nsb_keeper(void)
{
    start();
    serve();
    while (receive(MSG_DONTWAIT) > 0) {}
    for (int i = 0; i < top; i++) do_duty(&duties[i]);
    remove_cgroups();
}
