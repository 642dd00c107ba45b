/* serve.h: a starter as a program: it starts something once, many times or on request, and tells how long.
 *
 *   NAME ARGUMENTS...                     one start; the exit status is the child's
 *   NAME -n COUNT [-p MS] [-o FILE] ...   COUNT starts, MS milliseconds of rest before each; each answers its
 *                                         nanoseconds from start to reaped, one a line
 *   NAME -s ...                           one start for each byte on stdin, whose value is the milliseconds
 * of rest before it; each answers its nanoseconds, a line on stdout
 */
#ifndef BENCH_SERVE_H
#define BENCH_SERVE_H

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BROKEN = 125 }; /* our own status when something failed */

/* Starts it and waits for its end: a wait status. */
typedef int starter(void);

static void rest(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0 && nanosleep(&t, NULL) < 0) err(BROKEN, "nanosleep");
}

static long long now(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) < 0) err(BROKEN, "clock_gettime");
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void timed(starter *start, long ms, int out)
{
    rest(ms);
    long long began = now();
    int status = start();
    long long took = now() - began;
    if (status != 0) errx(BROKEN, "the program ended with wait status %#x", (unsigned)status);
    if (dprintf(out, "%lld\n", took) < 0) err(BROKEN, "write");
}

/* Descriptor `fd` out of the started programs' sight. */
static int aside(int fd)
{
    int up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (up < 0 || null < 0 || dup2(null, fd) < 0 || close(null) < 0) err(BROKEN, "descriptor %d", fd);
    return up;
}

static void on_request(starter *start)
{
    int in = aside(0), out = aside(1);
    unsigned char ms;
    ssize_t n;
    while ((n = read(in, &ms, 1)) == 1) timed(start, ms, out);
    if (n < 0) err(BROKEN, "read");
}

static int once(starter *start)
{
    int status = start();
    if (WIFSIGNALED(status)) errx(BROKEN, "the program was killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 0) errx(BROKEN, "'%s' is no number", text);
    return n;
}

struct mode {
    int serve, out;
    long count, pause;
};

/* The options; the rest of the arguments begins at optind. */
static struct mode options(int argc, char **argv)
{
    struct mode m = {.out = 1};
    for (int c; (c = getopt(argc, argv, "+sn:p:o:")) != -1;) {
        if (c == 's')
            m.serve = 1;
        else if (c == 'n')
            m.count = number(optarg);
        else if (c == 'p')
            m.pause = number(optarg);
        else if (c == 'o')
            m.out = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        else
            exit(BROKEN);
        if (m.out < 0) err(BROKEN, "%s", optarg);
    }
    return m;
}

static int serve(struct mode m, starter *start)
{
    if (m.serve)
        on_request(start);
    else if (m.count == 0)
        return once(start);
    for (long i = 0; i < m.count; i++) timed(start, m.pause, m.out);
    return 0;
}

#endif
