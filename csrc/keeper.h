/* keeper.h: what the parts of the keeper share. */
#ifndef NSB_KEEPER_H
#define NSB_KEEPER_H

#include "init.h"

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t nsb_now(void) NSB_HIDDEN;

/* A limit of CPU time; nanoseconds. */
struct nsb_cpu {
    uint64_t limit;
    uint32_t cpus;  /* how many can be used at a time: so fast does it grow */
    uint32_t acted; /* how often all was killed */
    uint64_t at;    /* when to look again */
};

/* keeper_cgroup.c; fd: a cgroup's folder, of v1 or v2. */

/* Kills what is in it and below it now; what was frozen is let go. */
void nsb_cgroup_kill(int fd) NSB_HIDDEN;
/* Kills all in it and below it, and removes it with all below. Gives up at this time. */
void nsb_cgroup_remove(int fd, const char *name, uint64_t deadline) NSB_HIDDEN;
/* Kills all in it and below it once the limit is reached; sets when to look again. */
void nsb_cgroup_limit(int fd, struct nsb_cpu *cpu, uint64_t now) NSB_HIDDEN;

#endif
