/* lua_process.c: a process by its pidfd. */
#include "init.h"
#include "lua_nsbox.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NSBL_PROCESS "nsbox.pid"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* PIDFD_GET_INFO (Linux 6.13; the exit status from 6.15): not in Debian 12's headers. linux/pidfd.h */
struct pidfd_info {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
#define PIDFD_INFO_PID (1UL << 0)
#define PIDFD_INFO_EXIT (1UL << 3)

enum how { RUNNING, EXITED, SIGNALLED, LOST };

struct process {
    int pidfd;
    int pid;        /* in our pid namespace; 0: not asked yet */
    uint64_t owner; /* who may end it: not a fork of the host that closes its copy of the handle */
    enum how how;
    int status; /* exit code or signal number */
    int reaped; /* by us: then `usage` is set */
    struct rusage usage;
    int channel; /* on which the init of a box tells the status of its command; or -1 */
};

static struct process *check(lua_State *L) { return luaL_checkudata(L, 1, NSBL_PROCESS); }

void nsbL_newprocess(lua_State *L, int pidfd)
{
    struct process *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = (struct process){.pidfd = pidfd, .owner = nsb_self(), .how = RUNNING, .channel = -1};
    luaL_setmetatable(L, NSBL_PROCESS);
}

/* Kernels before 6.13 tell the pid in the descriptor's fdinfo; proc(5). */
static int pid_from_fdinfo(int pidfd)
{
    char path[48], line[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    while (!pid && fgets(line, sizeof line, f))
        if (strncmp(line, "Pid:", 4) == 0) pid = atoi(line + 4);
    fclose(f);
    return pid > 0 ? pid : 0;
}

static int pid_of(int pidfd)
{
    struct pidfd_info info = {.mask = PIDFD_INFO_PID};
    if (ioctl(pidfd, PIDFD_GET_INFO, &info) == 0 && info.tgid) return (int)info.tgid;
    return pid_from_fdinfo(pidfd);
}

static void set_status(struct process *p, int wait_status)
{
    p->how = WIFSIGNALED(wait_status) ? SIGNALLED : EXITED;
    p->status = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

enum { RELEASE_MS = 20 };

/* The status when another wait in this program took it, or SIGCHLD is ignored: Linux 6.15, else lost. It is
 * there once the kernel has let the process go, a moment after its end is seen. */
static void ask_exit_info(struct process *p)
{
    struct pidfd_info info;
    p->how = LOST;
    for (int ms = 0; ms < RELEASE_MS; ms++) {
        info = (struct pidfd_info){.mask = PIDFD_INFO_EXIT};
        int failed = ioctl(p->pidfd, PIDFD_GET_INFO, &info) != 0;
        if (failed && errno != ESRCH)
            return; /* in between it is already gone, and its status not there yet */
        if (failed) info.mask = 0;
        if (info.mask & PIDFD_INFO_EXIT) break;
        poll(NULL, 0, 1);
    }
    if (!(info.mask & PIDFD_INFO_EXIT)) return;
    set_status(p, info.exit_code);
}

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* 1 when the init of a box has told how its command ended. A killed one has not. */
static int ask_init(struct process *p)
{
    struct nsb_status told = {0};
    while (p->channel >= 0 && told.kind != NSB_ST_ENDED)
        if (recv(p->channel, &told, sizeof told, MSG_DONTWAIT) != sizeof told) close_fd(&p->channel);
    close_fd(&p->channel);
    if (told.kind == NSB_ST_ENDED) set_status(p, told.value);
    return told.kind == NSB_ST_ENDED;
}

/* waitid(2), which in libc does not tell what the process has used. 1 when it was reaped. */
static int reap(struct process *p, siginfo_t *info)
{
    const int how = WEXITED | WNOHANG | __WALL;
    long err = nsb_sys5(SYS_waitid, P_PIDFD, p->pidfd, info, how, &p->usage);
    if (err < 0) return (int)err;
    return p->reaped = info->si_pid != 0;
}

/* Polls first: a library may have made the pidfd non-blocking, and waitid then answers EAGAIN. */
static void update(struct process *p)
{
    siginfo_t info = {0};
    struct pollfd ready = {p->pidfd, POLLIN, 0};
    if (p->how != RUNNING || p->pidfd < 0) return;
    if (poll(&ready, 1, 0) != 1) return;
    int n = reap(p, &info);
    if (n <= 0 && n != -ECHILD) return;
    if (ask_init(p)) return;
    if (n == -ECHILD) return ask_exit_info(p); /* somebody else has reaped it */
    p->how = info.si_code == CLD_EXITED ? EXITED : SIGNALLED;
    p->status = info.si_status;
}

/* process:poll() -> nil while it runs | "exit", code | "signal", number | "lost" */
static int l_poll(lua_State *L)
{
    static const char *const names[] = {NULL, "exit", "signal", "lost"};
    struct process *p = check(L);
    update(p);
    if (p->how == RUNNING) return luaL_pushfail(L), 1;
    lua_pushstring(L, names[p->how]);
    if (p->how == LOST) return 1;
    lua_pushinteger(L, p->status);
    return 2;
}

static lua_Number seconds(struct timeval t) { return (lua_Number)t.tv_sec + (lua_Number)t.tv_usec / 1e6; }

/* process:usage() -> user, system seconds of CPU time: of the process and of all below it that were waited
 * for | nil before poll() has told of its end, and when somebody else took that. */
static int l_usage(lua_State *L)
{
    struct process *p = check(L);
    if (!p->reaped) return luaL_pushfail(L), 1;
    lua_pushnumber(L, seconds(p->usage.ru_utime));
    lua_pushnumber(L, seconds(p->usage.ru_stime));
    return 2;
}

/* process:kill(signal) -> true | nil, message, errno. True for one that has ended. */
static int l_kill(lua_State *L)
{
    struct process *p = check(L);
    long sig = lua_isnoneornil(L, 2) ? SIGKILL : nsbL_checkflags(L, 2, "SIG");
    if (p->how == RUNNING && p->pidfd >= 0) {
        long err = nsb_sys4(SYS_pidfd_send_signal, p->pidfd, sig, 0, 0);
        if (err < 0 && err != -ESRCH) return nsbL_fail(L, (int)-err, "kill");
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* process:pid() -> the number the caller's namespace knows it by | nil when that was never learnt */
static int l_pid(lua_State *L)
{
    struct process *p = check(L);
    if (!p->pid && p->pidfd >= 0) p->pid = pid_of(p->pidfd);
    if (!p->pid) return luaL_pushfail(L), 1;
    lua_pushinteger(L, p->pid);
    return 1;
}

/* process:fileno() -> the pidfd, borrowed | nil when closed */
static int l_fileno(lua_State *L)
{
    struct process *p = check(L);
    if (p->pidfd < 0) return luaL_pushfail(L), 1;
    lua_pushinteger(L, p->pidfd);
    return 1;
}

/* process:close(): kills it, reaps it if that takes no longer than a moment, gives the pidfd back. */
static int l_close(lua_State *L)
{
    struct process *p = check(L);
    if (p->pidfd < 0) return 0;
    if (p->how == RUNNING && p->owner == nsb_self()) {
        struct pollfd ready = {p->pidfd, POLLIN, 0};
        nsb_sys4(SYS_pidfd_send_signal, p->pidfd, SIGKILL, 0, 0);
        poll(&ready, 1, 1000);
        update(p);
    }
    close_fd(&p->pidfd);
    close_fd(&p->channel);
    return 0;
}

/* process:release(): gives the pidfd back and leaves the process alone. For the child of a fork, whose it is
 * not. */
static int l_release(lua_State *L)
{
    struct process *p = check(L);
    close_fd(&p->pidfd);
    close_fd(&p->channel);
    return 0;
}

/* process:status_from(handle): the process is the init of a box, which tells on this socket how its command
 * ended: that is its status then. Takes the descriptor out of the handle. */
static int l_status_from(lua_State *L)
{
    struct process *p = check(L);
    int *fd = luaL_checkudata(L, 2, NSBL_FD);
    close_fd(&p->channel);
    p->channel = *fd;
    *fd = -1;
    return 0;
}

/* pid_of(pidfd) -> integer | nil */
static int l_pid_of(lua_State *L)
{
    int pid = pid_of(nsbL_checkfd(L, 1));
    if (!pid) return luaL_pushfail(L), 1;
    lua_pushinteger(L, pid);
    return 1;
}

static const luaL_Reg methods[] = {
    {"poll", l_poll},     {"usage", l_usage}, {"kill", l_kill},       {"pid", l_pid},
    {"fileno", l_fileno}, {"close", l_close}, {"release", l_release}, {"status_from", l_status_from},
    {NULL, NULL}};

void nsbL_open_process(lua_State *L)
{
    luaL_newmetatable(L, NSBL_PROCESS);
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__close");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_pid_of);
    lua_setfield(L, -2, "pid_of");
}
