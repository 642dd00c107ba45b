/* self.c: the caller's own process: whether it is still the same one, its threads, its dumpable flag, and
 * what a copy of it has to know. */
#include "spawn.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

/* ---- identity ---- */

static unsigned generation;

void nsb_new_self(void) { generation++; }

/* Not the number alone: a copy in a pid namespace of its own may have its maker's. */
uint64_t nsb_self(void) { return (uint64_t)generation << 32 | (uint32_t)getpid(); }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, nsb_new_self); }

/* ---- threads ---- */

/* Unknown counts as several. */
int nsb_several_threads(void)
{
#if __has_include(<sys/single_threaded.h>)
    if (__libc_single_threaded) return 0;
#endif
    struct stat task; /* a folder's links: itself, its name, and one for each thread */
    return stat("/proc/self/task", &task) != 0 || task.st_nlink != 3;
}

/* libc gave the kernel the address when the thread began (set_tid_address(2)). NULL where it is not that. */
pid_t *nsb_tid_address(void)
{
    pid_t *at = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &at) != 0 || !at || *at != gettid()) return NULL;
    return at;
}

/* ---- dumpable ---- */

/* It belongs to the memory, which all starts of all threads share while they change ids: the first notes it,
 * the last puts it back; proc(5). */
static pthread_mutex_t flight_lock = PTHREAD_MUTEX_INITIALIZER;
static int in_flight, dumpable;

void nsb_take_off(int hidden)
{
    pthread_mutex_lock(&flight_lock);
    if (in_flight++ == 0) dumpable = prctl(PR_GET_DUMPABLE);
    if (hidden) prctl(PR_SET_DUMPABLE, 0);
    pthread_mutex_unlock(&flight_lock);
}

void nsb_land(void)
{
    pthread_mutex_lock(&flight_lock);
    if (--in_flight == 0 && dumpable == 1 && prctl(PR_GET_DUMPABLE) != 1) prctl(PR_SET_DUMPABLE, 1);
    pthread_mutex_unlock(&flight_lock);
}

/* ---- a copy that goes on with the program ---- */

static int read_numbers(DIR *dir, int *to, int most)
{
    int n = 0;
    rewinddir(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(dir)) continue;
        if (to && n < most) to[n] = atoi(e->d_name);
        n++;
    }
    return to && n > most ? most : n;
}

/* Notes which descriptors are open: numbers that the program, and so its copy, believes to be its own. */
int nsb_list_held(struct nsb_launch *l)
{
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return -errno;
    int n = read_numbers(dir, NULL, 0);
    int *held = nsb_arena_alloc(l, (size_t)n * sizeof *held);
    if (held) l->start->nheld = read_numbers(dir, held, n);
    l->start->held = held;
    closedir(dir);
    return held ? 0 : -ENOMEM;
}

/* Nothing of the start is the copy's to end. */
void nsb_arrive(struct nsb_launch *l, pid_t *tid, int result)
{
    l->arena.used = l->arena.size; /* the caller's, who may use it again: not kept */
    nsb_arena_close(l);
    nsb_launch_init(l);
    l->result = result;
    in_flight--;
    nsb_new_self();
    if (tid) *tid = gettid();
}
