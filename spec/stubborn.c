/* stubborn.c: a program that makes its end hard, for specs: changes its ids, ignores all signals, forks.
 *   stubborn MARKER UID FORKS     MARKER is there to be found in /proc/PID/cmdline; UID 0: stays as it is */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    int uid = atoi(argv[2]), forks = atoi(argv[3]);
    if (uid && (setgid((gid_t)uid) < 0 || setuid((uid_t)uid) < 0)) return 3;
    for (int sig = 1; sig < 65; sig++) signal(sig, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, 0);
    for (int i = 0; i < forks; i++) {
        if (fork() != 0) continue;
        setsid();
        if (i % 2 && fork() != 0) _exit(0); /* an orphan: its parent is process 1 of the box */
        for (;;) sleep(100);
    }
    if (puts("ready") < 0 || fflush(stdout) != 0) return 4;
    for (;;) sleep(100);
}
