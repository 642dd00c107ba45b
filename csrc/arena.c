/* arena.c: the memory of a start: stacks, parameters and report in one shared mapping. */
#include "spawn.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ARENA_SIZE = 16 << 20, /* address space: pages are taken as they are touched */
    ARENA_KEEP = 1 << 20,  /* an arena that grew beyond this is not kept for the next start */
    GUARD = 4096,
    NSTACKS = NSB_MAXHOPS + 1,
};

static const size_t room = NSB_STACK + GUARD; /* one stack, a guard page below it */

/* One arena is kept between starts, by the process that made it: a fork of the host makes its own. */
static _Atomic(char *) kept_base;
static _Atomic uint64_t kept_owner;

static char *arena_map(void)
{
    char *base =
        mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    for (int i = 0; i < NSTACKS; i++) mprotect(base + (size_t)i * room, GUARD, PROT_NONE);
    return base;
}

static char *arena_take(uint64_t self)
{
    char *base = atomic_exchange(&kept_base, NULL);
    if (base && kept_owner != self) {
        munmap(base, ARENA_SIZE); /* of the process we were forked from, and shared with it */
        base = NULL;
    }
    return base ? base : arena_map();
}

int nsb_arena_open(struct nsb_launch *l)
{
    char *base = arena_take(nsb_self());
    if (!base) return -errno;
    l->arena = (struct nsb_arena){base, ARENA_SIZE, NSTACKS * room};
    l->start = nsb_arena_alloc(l, sizeof *l->start);
    memset(l->start, 0, sizeof *l->start);
    for (int i = 0; i < NSTACKS; i++) l->start->stack[i] = base + (size_t)(i + 1) * room;
    for (int i = 0; i < NSB_MAXSLOTS; i++) l->start->slot[i] = -1;
    for (int i = 0; i < NSB_MAXHOPS; i++) l->start->report.pidfd[i] = -1;
    return 0;
}

void *nsb_arena_alloc(struct nsb_launch *l, size_t n)
{
    struct nsb_arena *a = &l->arena;
    n = (n + 15) & ~(size_t)15;
    if (n > a->size - a->used) return NULL;
    void *p = a->base + a->used;
    a->used += n;
    return p;
}

void nsb_arena_close(struct nsb_launch *l)
{
    char *base = l->arena.base, *none = NULL;
    l->arena.base = NULL;
    l->start = NULL;
    if (!base) return;
    /* the owner first, and only with an arena of our own: in a fork, one is still kept that is not */
    if (l->arena.used <= ARENA_KEEP) {
        kept_owner = nsb_self();
        if (atomic_compare_exchange_strong(&kept_base, &none, base)) return;
    }
    munmap(base, ARENA_SIZE);
}

/* The module is unloaded: the kept arena goes too. */
__attribute__((destructor)) static void arena_drop(void)
{
    char *base = atomic_exchange(&kept_base, NULL);
    if (base) munmap(base, ARENA_SIZE);
}
