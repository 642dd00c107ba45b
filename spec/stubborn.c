/* stubborn.c: a program that makes its end hard, for specs: changes its ids, ignores all signals, forks.
 *   stubborn MARKER UID FORKS [KIB]   MARKER is there to be found in /proc/PID/cmdline;
 *                                     UID 0: stays as it is; KIB: memory that each fork holds */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static char *memory;

/* Its own pages: a copy is made of what is written. */
static void hold(size_t size)
{
    memory = size ? malloc(size) : NULL;
    if (memory) memset(memory, 1, size);
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    int uid = atoi(argv[2]), forks = atoi(argv[3]);
    if (uid && (setgid((gid_t)uid) < 0 || setuid((uid_t)uid) < 0)) return 3;
    for (int sig = 1; sig < 65; sig++) signal(sig, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, 0);
    for (int i = 0; i < forks; i++) {
        if (fork() != 0) continue;
        setsid();
        hold(argc > 4 ? (size_t)atoi(argv[4]) * 1024 : 0);
        if (i % 2 && fork() != 0) _exit(0); /* an orphan: its parent is process 1 of the box */
        for (;;) sleep(100);
    }
    if (puts("ready") < 0 || fflush(stdout) != 0) return 4;
    for (;;) sleep(100);
}
