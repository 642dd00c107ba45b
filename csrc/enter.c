/* enter.c: a process that enters namespaces, makes a socket there and ends; see socket.h. */
#include "socket.h"
#include "spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { STACK = 8192, APART_MS = 2000 };

static void reap(int pidfd)
{
    siginfo_t info;
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR) {}
    close(pidfd);
}

/* On the caller's memory and descriptors, as vfork: no page is copied, and the kernel holds this thread, and
 * with it the stack below, until the process has ended. That one lives in the caller's pid namespace: a box
 * that has another can neither see, stop nor trace it. */
static int make_here(struct nsb_socket *s)
{
    char stack[STACK] __attribute__((aligned(16)));
    int pidfd = -1;
    struct clone_args args = {0};
    args.flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD;
    args.pidfd = (uint64_t)(uintptr_t)&pidfd;
    args.stack = (uint64_t)(uintptr_t)stack;
    args.stack_size = sizeof stack;
    long pid = nsb_clone3(&args, nsb_socket_make, s);
    if (pid < 0) return (int)pid;
    reap(pidfd);
    return (int)s->answer;
}

/* What the other process sent: the socket or a negative errno. EINTR when it was killed. */
static int receive(struct nsb_socket *s, int channel)
{
    long answer[2] = {-EINTR, 0};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {answer, sizeof answer};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
    struct pollfd ready = {channel, POLLIN, 0};
    int n = poll(&ready, 1, APART_MS); /* signals are blocked: no EINTR */
    if (n <= 0) return n < 0 ? -errno : -ETIMEDOUT;
    ssize_t got = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got != sizeof answer) return -EINTR;
    s->entered = answer[1];
    if (answer[0] < 0) return (int)answer[0];
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (!c || c->cmsg_type != SCM_RIGHTS) return -EMFILE;
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static int make_apart(struct nsb_socket *s)
{
    int pair[2], pidfd = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    s->channel = pair[1];
    long pid = nsb_clone_copy(0, &pidfd);
    if (pid == 0) {
        nsb_socket_make(s);
        for (;;) nsb_sys1(SYS_exit_group, 0);
    }
    close(pair[1]);
    int fd = pid < 0 ? (int)pid : receive(s, pair[0]);
    close(pair[0]);
    if (pid > 0) {
        nsb_sys4(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
        reap(pidfd);
    }
    return fd;
}

/* No handler of the host's may run in the other process: its signals are blocked from birth to death. */
int nsb_socket_in(struct nsb_socket *s, int apart)
{
    sigset_t all, old;
    s->channel = -1;
    s->answer = -EINTR;
    s->entered = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    nsb_take_off(apart);
    int fd = apart ? make_apart(s) : make_here(s);
    nsb_land();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (fd < 0) return fd;
    return nsb_lift(fd);
}
