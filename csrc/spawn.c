/* spawn.c: prepare, clone, next, abort. Never calls back into Lua: no error crosses a half-made box. */
#include "spawn.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { ABORT_MS = 2000 }; /* how long abort waits for a killed process that hangs in the kernel */

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void nsb_launch_init(struct nsb_launch *l)
{
    memset(l, 0, sizeof *l);
    l->channel = l->theirs = l->first = l->root = l->within = l->self = l->result = -1;
    for (int i = 0; i < NSB_MAXHOPS; i++) l->hop[i] = -1;
}

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* What the box's process keeps: input slots and the channel, in order for close_fds. */
static void list_kept(struct nsb_start *s)
{
    struct nsb_keep *k = &s->keep;
    k->n = 0;
    k->at[k->n++] = s->channel;
    for (int i = NSB_SLOT_OWNER + 1; i < s->program->nslots; i++) {
        int seen = s->slot[i] < 0;
        for (int j = 0; j < k->n && !seen; j++) seen = k->at[j] == s->slot[i];
        if (!seen) k->at[k->n++] = s->slot[i];
    }
    qsort(k->at, (size_t)k->n, sizeof k->at[0], by_number);
}

static int open_channel(struct nsb_launch *l)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    int one = nsb_lift(pair[0]), two = nsb_lift(pair[1]);
    l->channel = one < 0 ? -1 : one;
    l->theirs = two < 0 ? -1 : two;
    l->start->channel = l->theirs;
    return one < 0 ? one : two < 0 ? two : 0;
}

/* A copy's pidfd comes by message, and must not fail to: its place is kept until then. */
static int reserve(struct nsb_launch *l)
{
    int n = 0;
    const struct nsb_program *p = l->start->program;
    for (int i = 0; l->start->copy && i < p->nsteps; i++) {
        if (p->step[i].kind != NSB_HOP || n == NSB_MAXHOPS) continue;
        int place = nsb_dup(l->channel);
        if (place < 0) return place;
        l->hop[n++] = place;
    }
    return 0;
}

static long clone_first(struct nsb_launch *l, unsigned long flags)
{
    struct nsb_start *s = l->start;
    long pid;
    if (s->copy) {
        flags &= ~(unsigned long)(CLONE_VM | CLONE_VFORK | CLONE_FILES);
        pid = nsb_clone_copy(flags, &l->first);
        if (pid == 0) { /* its plan ended in `return` */
            l->result = nsb_child(s);
            return 0;
        }
    } else {
        struct clone_args args = {.flags = flags | CLONE_PIDFD,
                                  .pidfd = (uint64_t)(uintptr_t)&l->first,
                                  .stack = (uint64_t)(uintptr_t)s->stack[0] - NSB_STACK,
                                  .stack_size = NSB_STACK};
        pid = nsb_clone3(&args, nsb_child, s);
    }
    l->first = pid > 0 ? nsb_lift(l->first) : -1; /* one may have been written before the kernel gave up */
    return pid;
}

/* setns(CLONE_NEWPID) moves only where this thread's next children are made: there and back costs a tenth of
 * a hop. The way back is tried first: without the right to it (root of a user namespace) the thread would
 * stay there. */
static long clone_within(struct nsb_launch *l, unsigned long flags)
{
    if (l->within < 0) return clone_first(l, flags);
    if (setns(l->self, CLONE_NEWPID) < 0 || setns(l->within, CLONE_NEWPID) < 0) return -errno;
    long pid = clone_first(l, flags);
    if (pid == 0) return 0;
    return setns(l->self, CLONE_NEWPID) < 0 ? -errno : pid;
}

/* The signals stay blocked in the child until it resets them: none may run the host's handlers there. */
static long clone_blocked(struct nsb_launch *l, unsigned long flags)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    long pid = clone_within(l, flags);
    if (pid == 0) return 0; /* the copy has none blocked */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pid;
}

static int returns(const struct nsb_program *p)
{
    return p->nsteps > 0 && p->step[p->nsteps - 1].kind == NSB_RETURN;
}

int nsb_spawn(struct nsb_launch *l, unsigned long flags)
{
    int err = open_channel(l);
    if (err == 0) err = reserve(l);
    if (err < 0) return err;
    if (returns(l->start->program)) err = nsb_list_held(l);
    if (err < 0) return err;
    list_kept(l->start);
    nsb_take_off(l->hidden);
    l->running = 1;
    l->owner = nsb_self();
    pid_t *tid = nsb_tid_address();
    long pid = clone_blocked(l, flags);
    if (pid < 0) return (int)pid;
    if (pid == 0) return nsb_arrive(l, tid, l->result), 0;
    if (l->start->copy) close_fd(&l->theirs); /* the child has its own: its end means EOF */
    return l->first < 0 ? l->first : 0;
}

/* Reaps a process that has ended or is about to. */
static void reap(int *pidfd)
{
    siginfo_t info;
    if (*pidfd < 0) return;
    while (waitid((idtype_t)P_PIDFD, (id_t)*pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR) {}
    close_fd(pidfd);
}

/* Whether a copy's pidfd has not come yet: it comes twice, see child.c. */
static int is_new(const struct nsb_launch *l, int hop) { return hop >= l->nhops && hop < NSB_MAXHOPS; }

static void take_hop(struct nsb_launch *l, int hop, int pidfd)
{
    int *place = is_new(l, hop) ? &l->hop[hop] : &pidfd;
    close_fd(place); /* one too many, or what is still kept there */
    if (place == &pidfd) return;
    *place = pidfd;
    l->nhops = hop + 1;
}

/* In shared memory the pidfds lie in the report; once the first process is gone they are final. A clone that
 * was killed late has written a number that may be anybody's by now, but hardly that of a pidfd. */
static void collect_hops(struct nsb_launch *l)
{
    if (l->start->copy) return;
    while (l->nhops < NSB_MAXHOPS && l->start->report.pidfd[l->nhops] >= 0) {
        int fd = l->start->report.pidfd[l->nhops];
        int is_pidfd = nsb_sys4(SYS_pidfd_send_signal, fd, 0, 0, 0) != -EBADF;
        l->hop[l->nhops++] = is_pidfd ? nsb_lift(fd) : -1;
    }
}

/* The start is over, one way or the other: what belongs to it alone goes. */
static void finish(struct nsb_launch *l)
{
    if (!l->running) return;
    l->running = 0;
    close_fd(&l->theirs);
    close_fd(&l->channel);
    nsb_land();
    nsb_arena_close(l);
}

static void ended(struct nsb_launch *l, struct nsb_event *ev)
{
    struct nsb_report *r = &l->start->report;
    reap(&l->first);
    collect_hops(l);
    for (int i = 0; i + 1 < l->nhops; i++) reap(&l->hop[i]);
    int *last = l->nhops ? &l->hop[l->nhops - 1] : NULL;
    ev->step = r->step;
    if (r->state == NSB_EXECING && last) {
        ev->kind = NSB_EV_STARTED;
        ev->fds[ev->nfds++] = *last;
        *last = -1;
    } else {
        ev->kind = NSB_EV_FAILED;
        ev->err = r->state == NSB_FAILED ? r->err : 0;
        if (l->root >= 0) ev->fds[ev->nfds++] = l->root;
        l->root = -1;
        if (last) syscall(SYS_pidfd_send_signal, *last, SIGKILL, NULL, 0);
        if (last) reap(last);
    }
    finish(l);
}

struct message {
    struct nsb_note note;
    int nfds;
    int fds[NSB_MAXPASS];
};

static void make_room(struct nsb_launch *l)
{
    struct nsb_note note = {0, 0};
    long n = recv(l->channel, &note, sizeof note, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0 && note.kind == NSB_MSG_HELLO && is_new(l, note.step)) close_fd(&l->hop[note.step]);
}

/* 0 when there was no room for one of them. */
static int take_fds(struct msghdr *msg, struct message *m)
{
    int room = !(msg->msg_flags & MSG_CTRUNC);
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    if (!c || c->cmsg_type != SCM_RIGHTS) return room;
    m->nfds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < m->nfds; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof fd, sizeof fd);
        m->fds[i] = nsb_lift(fd);
        room &= m->fds[i] >= 0;
    }
    return room;
}

static void drop(const struct message *m)
{
    for (int i = 0; i < m->nfds; i++)
        if (m->fds[i] >= 0) close(m->fds[i]);
}

/* One message of the child, with all that it gave: 1, 0 at its end, or a negative errno. */
static int receive(struct nsb_launch *l, struct message *m)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(NSB_MAXPASS * sizeof(int))];
    } control;
    struct iovec iov = {&m->note, sizeof m->note};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    m->nfds = 0;
    make_room(l);
    ssize_t n = recvmsg(l->channel, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    /* ECONNRESET: the child ended without reading our answer */
    if (n <= 0) return n < 0 && errno != ECONNRESET ? -errno : 0;
    if (take_fds(&msg, m)) return 1;
    drop(m);
    m->nfds = 0;
    return m->note.kind == NSB_MSG_HELLO && !is_new(l, m->note.step) ? 1 : -EMFILE;
}

/* Returns 1 if the event is complete. */
static int handle(struct nsb_launch *l, const struct message *m, struct nsb_event *ev)
{
    if (m->note.kind == NSB_MSG_HELLO) {
        if (m->nfds == 1) take_hop(l, m->note.step, m->fds[0]);
        return 0;
    }
    if (m->note.kind == NSB_MSG_ROOT && m->nfds == 1) {
        close_fd(&l->root);
        l->root = m->fds[0];
        return 0;
    }
    ev->kind = NSB_EV_BARRIER;
    ev->step = m->note.step;
    ev->nfds = m->nfds;
    memcpy(ev->fds, m->fds, sizeof ev->fds);
    return 1;
}

/* Ready when the child speaks, or when it has exec'ed or ended: in shared memory the first process
 * ends then (vfork chain), in copies the channel does. */
int nsb_next(struct nsb_launch *l, int timeout_ms, struct nsb_event *ev)
{
    *ev = (struct nsb_event){.kind = NSB_EV_AGAIN};
    if (!l->running) return -EINVAL;
    for (;;) {
        struct pollfd p[2] = {{l->channel, POLLIN, 0}, {l->start->copy ? -1 : l->first, POLLIN, 0}};
        int n = poll(p, 2, timeout_ms);
        if (n < 0) return errno == EINTR ? 0 : -errno;
        if (n == 0) return 0;
        struct message m;
        int got = p[0].revents ? receive(l, &m) : -EAGAIN;
        if (got == 1) {
            if (handle(l, &m, ev)) return 0;
        } else if (got == 0 || p[1].revents) {
            ended(l, ev);
            return 0;
        } else if (got != -EAGAIN && got != -EINTR) {
            return got;
        }
    }
}

int nsb_go(struct nsb_launch *l, const int *fds, int n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(NSB_MAXPASS * sizeof(int))];
    } control = {0};
    struct nsb_note note = {NSB_MSG_GO, 0};
    struct iovec iov = {&note, sizeof note};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (!l->running || n > NSB_MAXPASS) return -EINVAL;
    if (n) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        control.align.cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.align), fds, (size_t)n * sizeof(int));
    }
    return sendmsg(l->channel, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* 1 when the process is gone, 0 when it hangs in the kernel. */
static int kill_and_reap(int *pidfd)
{
    if (*pidfd < 0) return 1;
    syscall(SYS_pidfd_send_signal, *pidfd, SIGKILL, NULL, 0);
    struct pollfd p = {*pidfd, POLLIN, 0};
    int n;
    do {
        n = poll(&p, 1, ABORT_MS);
    } while (n < 0 && errno == EINTR);
    if (n == 1)
        reap(pidfd);
    else
        close_fd(pidfd);
    return n == 1;
}

/* Copies tell of themselves on the channel: kill each, until the last has closed it. */
static int kill_copies(struct nsb_launch *l)
{
    struct message m;
    struct nsb_event ev;
    int got = 1;
    close_fd(&l->theirs);
    while (got != 0) {
        for (int i = 0; i < l->nhops; i++) kill_and_reap(&l->hop[i]);
        struct pollfd p = {l->channel, POLLIN, 0};
        int n = poll(&p, 1, ABORT_MS);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        got = receive(l, &m);
        if (got < 0 && got != -EAGAIN) return 0;
        if (got == 1 && handle(l, &m, &ev)) drop(&m);
    }
    return 1;
}

/* In order of birth: a dead parent makes no further child, so the list below it is final. */
static int kill_hops(struct nsb_launch *l)
{
    int gone = 1;
    for (int i = 0; i < NSB_MAXHOPS; i++) {
        collect_hops(l);
        if (i < l->nhops) gone &= kill_and_reap(&l->hop[i]);
    }
    return gone;
}

void nsb_abort(struct nsb_launch *l)
{
    if (l->running &&
        l->owner != nsb_self()) { /* we are a fork of the owner: it is not ours to end, nor is its memory */
        l->arena.used = l->arena.size;
        finish(l);
    } else if (l->running) {
        int gone = kill_and_reap(&l->first);
        gone &= l->start->copy ? kill_copies(l) : kill_hops(l);
        if ((l->lost = !gone)) l->arena.base = NULL; /* on purpose */
        finish(l);
    }
    nsb_arena_close(l);
    close_fd(&l->theirs);
    close_fd(&l->channel);
    close_fd(&l->root);
    for (int i = 0; i < NSB_MAXHOPS; i++) close_fd(&l->hop[i]);
    close_fd(&l->first);
}
