/* init.h: the program of our own that is pid 1 of a box, the keeper, and the way into each program. Static,
 * without libc. */
#ifndef NSB_INIT_H
#define NSB_INIT_H

#include "call.h"

/* What a box's init tells the caller: one of the first four at the start, ENDED at the end. */
enum nsb_status_kind {
    NSB_ST_STARTED = 's',     /* the command is exec'ed, or the box is an idle one */
    NSB_ST_NO_PROGRAM = 'x',  /* execve failed, value is the errno; the box's root comes along */
    NSB_ST_NO_PROCESS = 'c',  /* clone failed */
    NSB_ST_NO_TERMINAL = 't', /* the terminal could not become the command's */
    NSB_ST_ENDED = 'e',       /* value is the command's wait status */
};

struct nsb_status {
    int32_t kind, value;
};

static inline int nsb_same(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* keeper.c: returns when its owner is gone and all duties are done. */
void nsb_keeper(void) NSB_HIDDEN;

/* pid1.c: argv and envp as at exec, NULL at the end of each. */
void nsb_pid1(char **argv, char **envp) NSB_HIDDEN __attribute__((noreturn));

/* pid1.c: becomes the program, as pid 1's child does. /proc/self/exe leads to this program then, which is
 * sealed, and never to the caller's, which a box with root's ids could write to once the caller has ended. */
void nsb_exec(char **argv, char **envp) NSB_HIDDEN __attribute__((noreturn));

#endif
