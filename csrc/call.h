/* call.h: the table of calls, the plan in the form the child performs, and its report.
 *
 * A call is one row: name, named signature, function. The same row serves
 * `nsbox.sys.NAME(...)`, here and now, and a step of a plan, later and in the child.
 *
 * Signature: `name:TYPE` parts. Types:
 *   s string      S string or nil     i integer (I not nil) m mode "0755" (octal), with S_IF names
 *   d descriptor  D directory: descriptor or "cwd"       F(G) flags of constant group G
 *   L list of integers                b bytes            K the descriptors a start keeps
 * `!` marks the argument that error messages name; `?` an argument that may be left out (descriptors). */
#ifndef NSB_CALL_H
#define NSB_CALL_H

#include "raw.h"

enum {
    NSB_STACK = 32768,
    NSB_MAXARGS = 8,
    NSB_MAXSLOTS = 1024, /* the image "host" takes up to 430, option fds 256 */
    NSB_MAXPASS = 4,
    NSB_MAXHOPS = 4,
    NSB_MAXOK = 4,
    NSB_MAXGROUPS = 1000, /* the kernel takes 65536; these fit on a child's stack */
    NSB_MAXPARAMS = 16
};

enum nsb_ret {
    NSB_NOTHING,    /* 0 or an errno */
    NSB_INTEGER,    /* a number */
    NSB_DESCRIPTOR, /* a new descriptor, close-on-exec */
};

struct nsb_call {
    const char *name;
    const char *sig;
    long nr;                   /* the system call, when the arguments pass through unchanged */
    long (*fn)(const long *a); /* else: what makes the call */
    enum nsb_ret ret;
};

extern const struct nsb_call nsb_calls[] NSB_HIDDEN;
extern const unsigned nsb_ncalls NSB_HIDDEN;

NSB_HIDDEN long nsb_perform(const struct nsb_call *call, const long *a);

/* What list and bytes arguments point at. */
struct nsb_list {
    long n;
    uint32_t at[]; /* ids */
};
struct nsb_bytes {
    long n;
    char at[];
};
/* The descriptors that close_fds spares, ascending. */
struct nsb_keep {
    int n;
    int at[NSB_MAXSLOTS + 1];
};

/* helper.c: rows that need a loop or a comparison. */
NSB_HIDDEN long nsb_mkpath(const long *a);
NSB_HIDDEN long nsb_write_file(const long *a);
NSB_HIDDEN long nsb_close_fds(const long *a);
NSB_HIDDEN long nsb_if_up(const long *a);
NSB_HIDDEN long nsb_same_file(const long *a);
NSB_HIDDEN long nsb_other_mount(const long *a);
NSB_HIDDEN long nsb_cap_bound(const long *a);
NSB_HIDDEN long nsb_check_caps(const long *a);
NSB_HIDDEN long nsb_check_ids(const long *a);
NSB_HIDDEN long nsb_raise_limit(const long *a);
NSB_HIDDEN long nsb_check_rlimit(const long *a);
NSB_HIDDEN long nsb_check_affinity(const long *a);

/* A plan as the child reads it. It serves any number of starts, which differ in what their slots and
 * parameters hold. */
enum nsb_kind {
    NSB_CALL,    /* a row of the table */
    NSB_HOP,     /* clone: the new process goes on with the plan, this one waits and ends */
    NSB_BARRIER, /* wait until the caller has done its part */
    NSB_VACATE,  /* a[0]: a number that the program is to get: what the plan has there moves away */
    NSB_EXEC,    /* the last step */
    NSB_RETURN,  /* the last step of a copy that goes on with the caller's program */
};

struct nsb_step {
    uint8_t kind;
    uint8_t has_expect;
    uint16_t call;             /* row, for NSB_CALL */
    uint16_t index;            /* number in the whole plan, for the report */
    uint16_t slots;            /* bit i: a[i] is the number of a slot */
    uint16_t params;           /* bit i: a[i] is the number of a parameter */
    uint8_t expect_slot;       /* `expect` is the number of a slot */
    int16_t out;               /* slot for the result, or -1 */
    int16_t give[NSB_MAXPASS]; /* slots that go up at a barrier, -1 ends */
    int16_t take[NSB_MAXPASS]; /* slots that come down */
    int16_t ok[NSB_MAXOK];     /* tolerated errnos, 0 ends: the slot stays empty */
    long expect;
    long a[NSB_MAXARGS];
};

/* NSB_HOP: a[0] clone flags, a[1] the cgroup (v2) to begin in, if that is a slot's number. */
enum { NSB_HOP_FLAGS, NSB_HOP_INTO };
/* NSB_EXEC: a[0] list of paths to try (NULL: a[3] is the program's descriptor), a[1] argv, a[2] envp. */
/* NSB_RETURN: a[0] the descriptor for results, a[1] one that stands for all that the caller has open. */
enum { NSB_EXEC_PATHS, NSB_EXEC_ARGV, NSB_EXEC_ENVP, NSB_EXEC_FD };

struct nsb_program {
    int nsteps, nslots, nparams;
    struct nsb_step *step;
};

enum { NSB_SLOT_OWNER = 0, NSB_PARAM_KEEP = 0 };

enum nsb_state {
    NSB_SETTING_UP,
    NSB_EXECING, /* the plan is done; a process that ends now has exec'ed, or died doing so */
    NSB_FAILED,
};

struct nsb_report {
    volatile int32_t state;
    volatile int32_t step; /* the step under way, or the one that failed: number in the whole plan */
    volatile int32_t err;
    volatile int32_t nhops;
    volatile int32_t pidfd[NSB_MAXHOPS]; /* shared memory: in the caller's table, by hop */
};

struct nsb_start {
    struct nsb_report report;
    int copy;    /* the processes of the start copy the caller's memory instead of sharing it */
    int channel; /* the child's end: barriers; close-on-exec */
    int next;    /* next step to perform */
    const struct nsb_program *program;
    int slot[NSB_MAXSLOTS];    /* -1: empty; the first holds the caller's pid */
    long param[NSB_MAXPARAMS]; /* words for a call; the first points to `keep` */
    struct nsb_keep keep;
    int nheld; /* for NSB_RETURN: the descriptors that the caller has open */
    const int *held;
    char *stack[NSB_MAXHOPS + 1]; /* tops, one for each process of the start */
};

/* What goes over the channel; descriptors beside it. */
struct nsb_note {
    int32_t kind;
    int32_t step; /* number in the whole plan */
};
enum { NSB_MSG_HELLO = 'h', NSB_MSG_BARRIER = 'b', NSB_MSG_ROOT = 'r', NSB_MSG_GO = 'g' };

/* Performs the plan from start->next on. Ends in exec or _exit; or, in a copy, comes back with the descriptor
 * for results, and then no longer reads the start. */
NSB_HIDDEN int nsb_child(void *start);

#endif
