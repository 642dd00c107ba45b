/* keeper_cgroup.c: what the keeper does to cgroups: ends all that is in one, and removes it.
 *
 * On v2 the kernel ends a cgroup's processes at once (cgroup.kill, Linux 5.14). On v1 each is signalled; one
 * that forks meanwhile is met in the next round, and when rounds do not help, none may fork (the freezer).
 * Not from the first: the end of a pid namespace ends caller, keeper and box, and what is frozen at that
 * moment, when nobody is left to let it go, does not die, nor does the namespace. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <signal.h>
#include <time.h>

enum {
    MAX_READS = 16384, /* of one list of processes, or one folder */
    MAX_STEPS = 65536, /* down and up again */
    MAX_KILLS = 200,   /* rounds of a limit's before it takes its time */
    PLAIN = 8,         /* rounds without the freezer: tens of milliseconds */
    CHUNK = 1024,
    BATCH = 64, /* processes that are held at a time */
};

static const uint64_t MS = 1000000;

/* getdents64(2); not in libc's headers */
struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};
enum { FOLDER = 4 };

static long open_below(int fd, const char *name, int flags)
{
    return nsb_sys4(SYS_openat, fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0);
}

/* No answer: the next time there may be one. */
static int scarce(long err) { return err == -EMFILE || err == -ENFILE || err == -ENOMEM; }

static long put(int dir, const char *name, const char *text)
{
    long fd = open_below(dir, name, O_WRONLY);
    if (fd < 0) return fd;
    long n = nsb_sys3(SYS_write, fd, text, nsb_strlen(text));
    nsb_sys1(SYS_close, fd);
    return n;
}

/* ---- the end of processes ---- */

/* A list of processes, read from its start. */
struct list {
    long fd, n, at;
    int reads, more; /* more: some were left out, or killed, and others may follow */
    char text[CHUNK];
};

/* -1 at its end. */
static long next_in(struct list *l)
{
    for (long pid = 0;;) {
        if (l->at == l->n) {
            l->at = 0;
            l->n = l->reads++ < MAX_READS ? nsb_sys3(SYS_read, l->fd, l->text, sizeof l->text) : 0;
            if (l->n <= 0) return l->n = 0, -1;
        }
        char c = l->text[l->at++];
        if (c < '0' || c > '9') return pid;
        pid = pid * 10 + (c - '0');
    }
}

struct held {
    long pid, fd;
    int there;
};

/* So many as there are descriptors for. The number 0 is a process that this pid namespace does not show. */
static int hold(struct list *l, struct held *held)
{
    int n = 0;
    for (long pid; n < BATCH && (pid = next_in(l)) >= 0;) {
        if (pid <= 1 || pid == nsb_sys0(SYS_getpid)) continue;
        long fd = nsb_sys2(SYS_pidfd_open, pid, 0);
        if (fd >= 0) held[n++] = (struct held){.pid = pid, .fd = fd};
        if (!scarce(fd)) continue;
        l->more = 1;
        break;
    }
    return n;
}

static void mark(struct list *l, struct held *held, int n)
{
    for (long pid; (pid = next_in(l)) >= 0;)
        for (int i = 0; i < n; i++) held[i].there |= held[i].pid == pid;
}

static struct list open_list(int dir)
{
    long fd = open_below(dir, "cgroup.procs", O_RDONLY);
    return (struct list){.fd = fd, .more = scarce(fd)};
}

/* Those that come next in the list. A number that was read may be another's by now: in a list that is read
 * when the descriptor is there it is not, or the descriptor's process is dead. That list is opened first:
 * descriptors may be few. */
static int kill_some(struct list *l, int dir)
{
    static struct held held[BATCH];
    struct list now = open_list(dir);
    int n = now.fd < 0 ? 0 : hold(l, held);
    mark(&now, held, n);
    for (int i = 0; i < n; i++) {
        if (held[i].there) l->more |= nsb_sys4(SYS_pidfd_send_signal, held[i].fd, SIGKILL, 0, 0) == 0;
        nsb_sys1(SYS_close, held[i].fd);
    }
    l->more |= now.more;
    if (now.fd >= 0) nsb_sys1(SYS_close, now.fd);
    return n;
}

/* Answers whether there may be more. */
static int kill_listed(int dir)
{
    struct list l = open_list(dir);
    if (l.fd < 0) return l.more;
    while (kill_some(&l, dir) > 0) {}
    nsb_sys1(SYS_close, l.fd);
    return l.more;
}

/* Answers whether there may be more. cgroup.kill does not reach a process whose first thread has ended. In
 * the freezer of v1 one ends when it is let go. */
static int kill_here(int dir, int freeze)
{
    put(dir, "cgroup.kill", "1");
    if (freeze) put(dir, "freezer.state", "FROZEN");
    int more = kill_listed(dir);
    put(dir, "freezer.state", "THAWED");
    return more;
}

/* ---- all below it ---- */

/* A walk through all cgroups below one, by one descriptor, however deep it goes: back up it finds its place
 * by the inode number of the folder that it comes from. */
struct walk {
    uint64_t after; /* the folder here that it has been in, or 0 */
    int removing, freeze, more;
};

static int is_child(const struct entry *e)
{
    return e->type == FOLDER && !nsb_same(e->name, ".") && !nsb_same(e->name, "..");
}

static struct statx look_at(int dir)
{
    struct statx s = {.stx_nlink = 0};
    nsb_sys5(SYS_statx, dir, "", AT_EMPTY_PATH, STATX_INO | STATX_NLINK, &s);
    return s;
}

static long remove_below(int dir, const char *name)
{
    return nsb_sys3(SYS_unlinkat, dir, name, AT_REMOVEDIR);
}

/* Kills what is in it. A descriptor when there are others below it, each of which is a link. */
static long visit(struct walk *w, int dir, const char *name)
{
    if (w->removing && remove_below(dir, name) == 0) return -ENOENT;
    long fd = open_below(dir, name, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    w->more |= kill_here((int)fd, w->freeze);
    if (look_at((int)fd).stx_nlink > 2) return fd;
    nsb_sys1(SYS_close, fd);
    return -ENOENT;
}

/* The next to go down to, or a negative number at the end. One that it has been in and that is gone: what is
 * behind it is for the next time. */
static long next_below(struct walk *w, int dir)
{
    static char text[CHUNK] __attribute__((aligned(8)));
    long n, fd;
    nsb_sys3(SYS_lseek, dir, 0, SEEK_SET);
    for (int i = 0; i < MAX_READS && (n = nsb_sys3(SYS_getdents64, dir, text, sizeof text)) > 0; i++)
        for (long at = 0; at < n;) {
            const struct entry *e = (const struct entry *)(const void *)(text + at);
            at += e->size;
            if (!is_child(e)) continue;
            if (!w->after && (fd = visit(w, dir, e->name)) >= 0) return fd;
            if (w->after != e->inode) continue;
            w->after = 0;
            if (w->removing) remove_below(dir, e->name);
        }
    w->more |= w->after != 0;
    return -ENOENT;
}

/* Answers whether there may be more. Outermost first: in the freezer a folder is held by those above it, too.
 * By a descriptor of its own: the given one may be for naming only, and its place in the folder is the
 * owner's. */
static int sweep(int top, int removing, int round)
{
    struct walk w = {.removing = removing, .freeze = round >= PLAIN};
    long dir = open_below(top, ".", O_RDONLY | O_DIRECTORY);
    if (dir < 0) return scarce(dir);
    w.more = kill_here((int)dir, w.freeze);
    for (int i = 0, depth = 0; i < MAX_STEPS; i++) {
        long next = next_below(&w, (int)dir);
        if (next < 0 && depth == 0) break;
        w.after = next < 0 ? look_at((int)dir).stx_ino : 0;
        depth += next < 0 ? -1 : 1;
        if (next < 0) next = open_below((int)dir, "..", O_RDONLY | O_DIRECTORY);
        nsb_sys1(SYS_close, dir);
        if (next < 0) return 1;
        dir = next;
    }
    nsb_sys1(SYS_close, dir);
    return w.more;
}

/* ---- removal ---- */

enum { PATH = 80 };

static long remove_it(int fd, const char *name)
{
    char path[PATH] = "../";
    for (size_t i = 0; i + 4 < sizeof path && name[i]; i++) path[i + 3] = name[i];
    return remove_below(fd, path);
}

void nsb_cgroup_kill(int fd) { sweep(fd, 0, 0); }

void nsb_cgroup_remove(int fd, const char *name, uint64_t deadline)
{
    struct timespec pause = {0, (long)MS};
    for (int round = 0;; round++) {
        sweep(fd, 1, round);
        long err = remove_it(fd, name);
        if (err == 0 || err == -ENOENT || nsb_now() >= deadline) return;
        nsb_sys2(SYS_nanosleep, &pause, 0);
        if (pause.tv_nsec < 50 * (long)MS) pause.tv_nsec += pause.tv_nsec / 2;
    }
}

/* ---- CPU time ---- */

static int begins(const char *s, const char *with)
{
    while (*with && *s == *with) s++, with++;
    return !*with;
}

static uint64_t number(const char *s)
{
    uint64_t n = 0;
    while (*s >= '0' && *s <= '9') n = n * 10 + (uint64_t)(*s++ - '0');
    return n;
}

/* A file's text, or NULL. */
static const char *text_of(int dir, const char *name)
{
    static char text[CHUNK];
    long fd = open_below(dir, name, O_RDONLY);
    if (fd < 0) return 0;
    long n = nsb_sys3(SYS_read, fd, text, sizeof text - 1);
    nsb_sys1(SYS_close, fd);
    if (n < 0) return 0;
    text[n] = 0;
    return text;
}

/* 1 and what it has used, in nanoseconds; 0 when the cgroup is gone. */
static int usage(int dir, uint64_t *used)
{
    static const char key[] = "usage_usec ";
    const char *text = text_of(dir, "cpuacct.usage");
    if (text) {
        *used = number(text);
        return 1;
    }
    text = text_of(dir, "cpu.stat");
    while (text && *text && !begins(text, key)) {
        while (*text && *text != '\n') text++;
        if (*text) text++;
    }
    if (!text || !*text) return 0;
    *used = number(text + sizeof key - 1) * 1000;
    return 1;
}

void nsb_cgroup_limit(int fd, struct nsb_cpu *cpu, uint64_t now)
{
    uint64_t used = 0, pause = 2 * MS;
    cpu->at = UINT64_MAX;
    if (!usage(fd, &used)) return;
    if (used >= cpu->limit) {
        if (cpu->acted < MAX_KILLS)
            cpu->acted++;
        else
            pause = 100 * MS;
        if (!sweep(fd, 0, cpu->acted)) return;
    } else if ((cpu->limit - used) / (cpu->cpus ? cpu->cpus : 1) > pause) {
        pause = (cpu->limit - used) / (cpu->cpus ? cpu->cpus : 1);
    }
    cpu->at = pause < UINT64_MAX - now ? now + pause : UINT64_MAX;
}
