/* socket.h: a socket of another network namespace. */
#ifndef NSB_SOCKET_H
#define NSB_SOCKET_H

#include "raw.h"

struct nsb_socket {
    int pidfd;                /* of a process that is in the namespaces */
    unsigned long namespaces; /* CLONE_NEW* to enter */
    int family, type;
    int channel;           /* a process with a descriptor table of its own sends the answer there; else -1 */
    volatile long answer;  /* the socket, or a negative errno */
    volatile long entered; /* the namespaces were entered: errno is the socket's */
};

/* socket.c, child-safe: makes it, in a process whose namespaces nobody else has a use for. `what` is a struct
 * nsb_socket. */
NSB_HIDDEN int nsb_socket_make(void *what);

/* enter.c: the same from the caller, whose own namespaces stay, in all its threads and at every moment: a
 * process of its own enters. A non-blocking socket, or a negative errno. `apart`: that process has neither
 * the caller's memory nor its descriptor table, and cannot make the caller wait: for a box whose processes
 * see those of the caller's pid namespace, and could stop it, or trace what shares the caller's memory. */
NSB_HIDDEN int nsb_socket_in(struct nsb_socket *s, int apart);

#endif
