/* spawn.h: one start, from clone to exec, as the caller sees it. No Lua. */
#ifndef NSB_SPAWN_H
#define NSB_SPAWN_H

#include "call.h"

#include <sys/types.h>

enum nsb_event_kind {
    NSB_EV_AGAIN,   /* the time is up, or a signal came: ask again */
    NSB_EV_BARRIER, /* the child waits; step is the barrier's number, fds what it gave */
    NSB_EV_STARTED, /* exec has happened; fds[0] is the pidfd */
    NSB_EV_FAILED,  /* step and err say where and why (0: the process was killed); fds[0] is the
                       box's root, when the program was the reason */
};

struct nsb_event {
    enum nsb_event_kind kind;
    int step, err, nfds;
    int fds[NSB_MAXPASS];
};

/* A start's memory: stacks, parameters and report in one shared mapping, reused by the next. */
struct nsb_arena {
    char *base;
    size_t size, used;
};

struct nsb_launch {
    struct nsb_arena arena;
    struct nsb_start *start;
    int channel; /* the caller's end */
    int theirs;  /* the child's, while the caller holds it too */
    int first;   /* pidfd of the first process */
    int hop[NSB_MAXHOPS];
    int nhops;
    int root;       /* the box's root, sent up when exec failed */
    uint64_t owner; /* the caller: not a copy of it that closes its own of this */
    int hidden;     /* the caller is not dumpable until the start is over */
    int running;
    int lost;   /* a process hangs in the kernel: what it reads must stay */
    int within; /* pidfd: the first process is made in that process's pid namespace; or -1 */
    int self;   /* the caller's own pidfd, to come back by; with `within` */
    int result; /* in a copy that a plan's `return` has made: where its results go; else -1 */
};

/* All answer 0 or a negative errno, unless they say otherwise. */
NSB_HIDDEN void nsb_launch_init(struct nsb_launch *l);
NSB_HIDDEN int nsb_arena_open(struct nsb_launch *l);
NSB_HIDDEN void *nsb_arena_alloc(struct nsb_launch *l, size_t n); /* NULL when full */
NSB_HIDDEN void nsb_arena_close(struct nsb_launch *l);
/* Answers twice for a plan that returns: in the copy l->result is set, and there is nothing else to do. */
NSB_HIDDEN int nsb_spawn(struct nsb_launch *l, unsigned long flags);
NSB_HIDDEN int nsb_next(struct nsb_launch *l, int timeout_ms, struct nsb_event *ev);
NSB_HIDDEN int nsb_go(struct nsb_launch *l, const int *fds, int n);
/* Kills what there is of a start and frees it. Idempotent. */
NSB_HIDDEN void nsb_abort(struct nsb_launch *l);

/* self.c: the process that this is, by a number that no copy of it shares. A copy made by us says so; libc's
 * fork does by itself. */
NSB_HIDDEN uint64_t nsb_self(void);
NSB_HIDDEN void nsb_new_self(void);
/* Whether a lock that another thread holds could stay held in a copy for ever. */
NSB_HIDDEN int nsb_several_threads(void);
/* Where libc remembers this thread's id, which abort() and recursive locks use: a copy's must be its own. */
NSB_HIDDEN pid_t *nsb_tid_address(void);
/* Between them a process of ours may share this memory under other ids. hidden: nobody may look into it
 * meanwhile. */
NSB_HIDDEN void nsb_take_off(int hidden);
NSB_HIDDEN void nsb_land(void);
NSB_HIDDEN int nsb_list_held(struct nsb_launch *l);
NSB_HIDDEN void nsb_arrive(struct nsb_launch *l, pid_t *tid, int result);

/* A descriptor of ours: close-on-exec and above the standard ones, which a host may have closed. nsb_dup
 * copies; nsb_lift takes what a call has just answered, and its errno where that is negative. */
NSB_HIDDEN int nsb_dup(int fd);
NSB_HIDDEN int nsb_lift(int fd);

#endif
