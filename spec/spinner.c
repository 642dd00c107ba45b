/* spinner.c: a program that is odd to stop, for specs. It writes a line again and again.
 *   spinner vfork      by a child that its parent waits for in the kernel
 *   spinner threads    by a thread, whose process's first one has ended */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void *spin(void *unused)
{
    (void)unused;
    while (write(1, "x\n", 2) == 2) usleep(1000);
    _exit(4);
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    if (strcmp(argv[1], "vfork") == 0) {
        pid_t pid = vfork();      /* NOLINT: the wait in the kernel is what is wanted */
        if (pid == 0) spin(NULL); /* NOLINT: which the parent's memory outlives */
        return pid < 0 ? 3 : 0;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin, NULL) != 0) return 3;
    pthread_exit(NULL);
}
