/* socket.c: in another process, a socket of that process's namespaces. Child-safe: see raw.h. */
#include "socket.h"

#include <linux/prctl.h>
#include <signal.h>
#include <sys/socket.h>

static long send_answer(const struct nsb_socket *s)
{
    long answer[2] = {s->answer, s->entered};
    struct iovec iov = {answer, sizeof answer};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {0};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    if (s->answer >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_LEN(sizeof(int)); /* no padding: it would be sent unset */
        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        *(int *)CMSG_DATA(&control.align) = (int)s->answer;
    }
    return nsb_sys3(SYS_sendmsg, s->channel, &msg, MSG_NOSIGNAL);
}

int nsb_socket_make(void *what)
{
    struct nsb_socket *s = what;
    nsb_sys2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    s->answer = nsb_sys2(SYS_setns, s->pidfd, s->namespaces);
    s->entered = s->answer == 0;
    if (s->entered) s->answer = nsb_sys3(SYS_socket, s->family, s->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->channel < 0) return 0;
    long err = send_answer(s);
    if (err >= 0 || s->answer < 0) return 0;
    s->answer = err; /* ETOOMANYREFS: so many descriptors of the user's are on their way; unix(7) */
    send_answer(s);
    return 0;
}
