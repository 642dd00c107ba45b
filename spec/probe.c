/* probe.c: a static program for the inside of boxes: what no busybox applet does.
 *
 *   probe tiocsti    tries by every descriptor to take its terminal, and to type "typed" into it; says for
 *                    each what came of it
 *   probe reach PID  tries to trace that process, to read and write its memory, to get its descriptors; the
 *                    same
 *   probe ids        says its ids (real, effective, saved), its capabilities, and whether it may gain more
 *   probe abort, probe segv   end so */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *outcome(int result) { return result < 0 ? strerror(errno) : "done"; }

static void type_into(const char *name, int fd)
{
    char text[] = "typed\n";
    int result = 0;
    if (fd < 0) {
        printf("%s open: %s\n", name, strerror(errno));
        return;
    }
    printf("%s take: %s\n", name, outcome(ioctl(fd, TIOCSCTTY, 1)));
    for (char *c = text; *c && result == 0; c++) result = ioctl(fd, TIOCSTI, c);
    printf("%s type: %s\n", name, outcome(result));
}

static int tiocsti(void)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    setsid();
    for (int fd = 0; fd < 3; fd++) type_into(names[fd], fd);
    type_into("/dev/tty", open("/dev/tty", O_RDWR | O_CLOEXEC));
    type_into("/dev/console", open("/dev/console", O_RDWR | O_CLOEXEC));
    return fflush(stdout);
}

static int steal(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), got = -1, err = ENOENT;
    for (int fd = 0; got < 0 && fd < 1024; fd++) {
        got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        if (got < 0 && errno != EBADF) err = errno;
    }
    errno = err;
    return got;
}

static int open_in(pid_t pid, const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return open(path, flags | O_CLOEXEC);
}

static int reach(pid_t pid)
{
    char text[8] = "text";
    struct iovec mine = {text, sizeof text}, its = {(void *)0x400000, sizeof text};
    printf("seize: %s\n", outcome((int)ptrace(PTRACE_SEIZE, pid, 0, 0)));
    printf("read: %s\n", outcome((int)process_vm_readv(pid, &mine, 1, &its, 1, 0)));
    printf("write: %s\n", outcome((int)process_vm_writev(pid, &mine, 1, &its, 1, 0)));
    printf("mem: %s\n", outcome(open_in(pid, "mem", O_RDWR)));
    printf("maps: %s\n", outcome(open_in(pid, "maps", O_RDONLY)));
    printf("descriptors: %s\n", outcome(steal(pid)));
    return fflush(stdout);
}

static int ids(void)
{
    unsigned id[6];
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    syscall(SYS_getresuid, id, id + 1, id + 2);
    syscall(SYS_getresgid, id + 3, id + 4, id + 5);
    printf("Uid: %u %u %u\nGid: %u %u %u\n", id[0], id[1], id[2], id[3], id[4], id[5]);
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "Cap", 3) == 0 || strncmp(line, "NoNewPrivs", 10) == 0) fputs(line, stdout);
    return status ? fclose(status) | fflush(stdout) : 1;
}

static int segv(void)
{
    volatile int *nowhere = (volatile int *)(uintptr_t)getpagesize() - 1; /* the first page is never mapped */
    return *nowhere;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "tiocsti") == 0) return tiocsti();
    if (argc == 3 && strcmp(argv[1], "reach") == 0) return reach(atoi(argv[2]));
    if (argc == 2 && strcmp(argv[1], "ids") == 0) return ids();
    if (argc == 2 && strcmp(argv[1], "abort") == 0) abort();
    if (argc == 2 && strcmp(argv[1], "segv") == 0) return segv();
    fprintf(stderr, "probe: what?\n");
    return 2;
}
