/* spawn.c: starts a program as a process, no more: spawn [-s | -n COUNT ...] PROGRAM ARGUMENTS...; see
 * serve.h. */
#include "raw.h"
#include "serve.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

enum { STACK = 32768 };

extern char **environ;

static char stack[STACK] __attribute__((aligned(16)));
static char **command;
static long failed; /* of the child, which shares our memory */

static int child(void *unused)
{
    (void)unused;
    failed = nsb_sys3(SYS_execve, command[0], command, environ);
    return BROKEN;
}

static int start(void)
{
    struct clone_args args = {
        .flags = CLONE_VM, .exit_signal = SIGCHLD, .stack = (uint64_t)(uintptr_t)stack, .stack_size = STACK};
    int status;
    failed = 0;
    long pid = nsb_clone3(&args, child, NULL);
    if (pid < 0) errx(BROKEN, "clone3: %s", strerror((int)-pid));
    if (waitpid((pid_t)pid, &status, 0) != pid) err(BROKEN, "waitpid");
    if (failed) errx(BROKEN, "%s: %s", command[0], strerror((int)-failed));
    return status;
}

int main(int argc, char **argv)
{
    struct mode m = options(argc, argv);
    if (optind >= argc) errx(BROKEN, "usage: spawn [-s | -n COUNT [-p MS] [-o FILE]] PROGRAM ARGUMENTS...");
    command = argv + optind;
    return serve(m, start);
}
