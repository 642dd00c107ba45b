/* fd.c: descriptors of our own. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* EINVAL is the kernel's word for a limit that ends below the number asked for; fcntl(2). */
int nsb_dup(int fd)
{
    int up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (up >= 0) return up;
    return errno == EINVAL ? -EMFILE : -errno;
}

int nsb_lift(int fd)
{
    if (fd < 0) return -errno;
    if (fd > 2) return fd;
    int up = nsb_dup(fd);
    close(fd);
    return up;
}
