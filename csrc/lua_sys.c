/* lua_sys.c: nsbox.sys beyond the table of calls: processes, time, waiting. Here and now, in the caller,
 * through libc. A failure of the world is nil, "call subject: message", errno; misuse raises. Files:
 * lua_file.c. */
#include "lua_value.h"

#include "const.h"

#include <errno.h>
#include <linux/limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { MAXGROUPS = 65536 };

/* ---- clone ---- */

/* What a copy of this process on its own stack cannot have, or what names memory that Lua has none of. */
static const unsigned long not_here = CLONE_VM | CLONE_VFORK | CLONE_THREAD | CLONE_SIGHAND | CLONE_SETTLS |
                                      CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
                                      CLONE_CHILD_CLEARTID;

static unsigned long check_clone_flags(lua_State *L)
{
    unsigned long flags = (unsigned long)nsbL_checkflags(L, 1, "CLONE");
    if (lua_type(L, 1) == LUA_TSTRING) flags |= SIGCHLD;
    luaL_argcheck(L, !(flags & not_here), 1,
                  "the child is a copy on its own memory: vm, vfork, thread, sighand, settls, pidfd and the "
                  "*_settid flags are not for it");
    luaL_argcheck(L, flags >> 32 == 0, 1, "flags of clone(2) expected: 32 bits");
    return flags;
}

/* As fork does it, with flags. Answers twice. CLONE_NEWTIME lies in clone's byte for the signal: clone3. */
static long clone_process(unsigned long flags)
{
    pid_t *tid = nsb_tid_address();
    if (tid) flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    if (!(flags &
          CLONE_NEWTIME)) /* the order of tls and tid differs by architecture; without SETTLS tls is idle */
        return nsb_sys5(SYS_clone, flags, 0, 0, tid, tid);
    struct clone_args args = {0};
    args.exit_signal = flags & (CSIGNAL & ~CLONE_NEWTIME);
    args.flags = flags & ~args.exit_signal;
    args.child_tid = (uint64_t)(uintptr_t)tid;
    return nsb_sys2(SYS_clone3, &args, sizeof args);
}

static int traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* The function's result at the stack's top as a status; -1 if it is none. */
static int status_of(lua_State *L)
{
    if (lua_isnil(L, -1)) return 0;
    if (lua_isboolean(L, -1)) return !lua_toboolean(L, -1);
    lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : -1;
    return n >= 0 && n <= 255 ? (int)n : -1;
}

/* The child: the function at the stack's top, then the end. No error gets past here. */
static _Noreturn void child_main(lua_State *L)
{
    nsb_new_self();
    lua_pushcfunction(L, traceback);
    lua_insert(L, -2);
    int status = 1;
    if (lua_pcall(L, 0, 1, -2) != LUA_OK)
        fprintf(stderr, "%s\n",
                lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "error in error handling");
    else if ((status = status_of(L)) < 0)
        fprintf(stderr, "clone: the function's result is no status: %s\n", luaL_typename(L, -1));
    fflush(NULL);
    _exit(status < 0 ? 1 : status);
}

/* clone(flags, fn) -> pid | nil, message, errno. The new process is a copy, as after fork, and runs fn: its
 * result is the status (an integer; nil, true: 0; false: 1), an error a traceback on stderr and 1. Flags by
 * name imply SIGCHLD, an integer is taken as it is. Standard files are flushed before and after; nothing of
 * the copied Lua state is closed. EBUSY when the process has several threads: their locks would be copied
 * too. */
static int l_clone(lua_State *L)
{
    unsigned long flags = check_clone_flags(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checkstack(L, 8, NULL);
    lua_settop(L, 2);
    if (nsb_several_threads()) return nsbL_fail(L, EBUSY, "clone: the process has several threads");
    fflush(NULL);
    long pid = clone_process(flags);
    if (pid == 0) child_main(L);
    if (pid < 0) return nsbL_fail(L, (int)-pid, "clone");
    lua_pushinteger(L, pid);
    return 1;
}

/* ---- other process calls ---- */

/* _exit(status = 0): ends the process at once; nothing is flushed, closed or collected. */
static int l_exit(lua_State *L) { _exit((int)luaL_optinteger(L, 1, 0)); }

/* {PATH = "/bin"} would be an empty list: say so. */
static void check_environment(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
        int good = lua_isinteger(L, -2) && lua_type(L, -1) == LUA_TSTRING && strchr(lua_tostring(L, -1), '=');
        luaL_argcheck(L, good, arg, "a list of \"NAME=value\" expected");
    }
}

/* execve(path, argv, env) -> only nil, message, errno: when it works the program is another one. env is a
 * list of "NAME=value"; without it the environment stays. Standard files are flushed first. */
static int l_execve(lua_State *L)
{
    struct nsbL_memory m = {.L = L};
    struct nsbL_field string = {.type = 's'};
    struct nsbL_value path = nsbL_value(&m, 1, &string);
    if (path.bad) luaL_argerror(L, 1, path.bad);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_argcheck(L, luaL_len(L, 2) > 0, 2, "the program's name is missing");
    lua_settop(L, 3);
    char **env = environ;
    if (!lua_isnil(L, 3)) {
        check_environment(L, 3);
        env = nsbL_strings(&m, 3);
    }
    char **argv = nsbL_strings(&m, 2);
    fflush(NULL);
    execve((const char *)path.word, argv, env);
    int err = errno;
    return nsbL_fail(L, err, lua_pushfstring(L, "execve %s", lua_tostring(L, 1)));
}

/* Milliseconds for poll, rounded up: a wait is never shorter than asked. None: no end. */
static int check_milliseconds(lua_State *L, int arg)
{
    lua_Number s = luaL_optnumber(L, arg, HUGE_VAL);
    luaL_argcheck(L, s >= 0, arg, "seconds expected, not less than 0");
    return s < 2e6 ? (int)ceil(s * 1000) : s < HUGE_VAL ? 2000000000 : -1;
}

/* waitid(pidfd, seconds) or waitid(pid, seconds, true) -> "exit", status | "signal", number | nil, "timeout"
 * | nil, message, errno. One slice: a signal ends the wait as the time does, so that the loop (sys.lua) lets
 * Lua's hooks run. Any child, whatever its exit signal; ECHILD for somebody else's, and for one whose status
 * was taken already. By number, where there is no pidfd to sleep on, it looks every 10 ms. */
static int l_waitid(lua_State *L)
{
    int by_pid = lua_toboolean(L, 3);
    int id = by_pid ? (int)luaL_checkinteger(L, 1) : nsbL_checkfd(L, 1);
    int ms = check_milliseconds(L, 2);
    struct pollfd ready = {id, POLLIN, 0};
    siginfo_t info = {0};
    int n = by_pid ? poll(NULL, 0, ms < 0 || ms > 10 ? 10 : ms) + 1 : poll(&ready, 1, ms);
    if (n < 0 && errno != EINTR) return nsbL_fail(L, errno, "waitid");
    if (n > 0 && waitid(by_pid ? P_PID : (idtype_t)P_PIDFD, (id_t)id, &info, WEXITED | WNOHANG | __WALL) < 0)
        return nsbL_fail(L, errno, "waitid");
    if (info.si_pid == 0) {
        luaL_pushfail(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    lua_pushstring(L, info.si_code == CLD_EXITED ? "exit" : "signal");
    lua_pushinteger(L, info.si_status);
    return 2;
}

/* getgroups() -> list of ids | nil, message, errno */
static int l_getgroups(lua_State *L)
{
    gid_t *groups = lua_newuserdatauv(L, MAXGROUPS * sizeof *groups, 0);
    int n = getgroups(MAXGROUPS, groups);
    if (n < 0) return nsbL_fail(L, errno, "getgroups");
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushinteger(L, groups[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* gethostname() -> string | nil, message, errno */
static int l_gethostname(lua_State *L)
{
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) < 0) return nsbL_fail(L, errno, "gethostname");
    lua_pushstring(L, name);
    return 1;
}

/* ---- time ---- */

/* clock() -> seconds of the monotonic clock */
static int l_clock(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* nanosleep(seconds) -> true | the seconds that remained when a signal came */
static int l_nanosleep(lua_State *L)
{
    lua_Number s = luaL_checknumber(L, 1);
    luaL_argcheck(L, s >= 0, 1, "seconds expected, not less than 0");
    s = s < 1e9 ? s : 1e9;
    struct timespec time = {(time_t)s, (long)((s - floor(s)) * 1e9)}, rest;
    if (nanosleep(&time, &rest) == 0) return lua_pushboolean(L, 1), 1;
    lua_pushnumber(L, (lua_Number)rest.tv_sec + (lua_Number)rest.tv_nsec / 1e9);
    return 1;
}

/* ---- poll ---- */

static const struct {
    const char *name;
    short bit;
} events[] = {{"in", POLLIN},   {"out", POLLOUT},   {"pri", POLLPRI},     {"err", POLLERR},
              {"hup", POLLHUP}, {"nval", POLLNVAL}, {"rdhup", POLLRDHUP}, {NULL, 0}};

static short event_of(lua_State *L, lua_Integer row, const char *name, size_t n)
{
    for (int i = 0; events[i].name; i++)
        if (strlen(events[i].name) == n && memcmp(events[i].name, name, n) == 0) return events[i].bit;
    lua_pushlstring(L, name, n);
    luaL_error(L, "poll: row %I: unknown event '%s'", row, lua_tostring(L, -1));
    return 0;
}

/* The row at the stack's top. */
static struct pollfd check_row(lua_State *L, lua_Integer row)
{
    struct pollfd p = {-1, 0, 0};
    if (!lua_istable(L, -1)) luaL_error(L, "poll: row %I: {fd=, events=} expected", row);
    lua_getfield(L, -1, "fd");
    p.fd = nsbL_tofd(L, -1);
    if (p.fd < 0)
        luaL_error(L, "poll: row %I: fd: %s", row, lua_isnil(L, -1) ? "missing" : "no open descriptor");
    lua_getfield(L, -2, "events");
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "poll: row %I: events: a string expected", row);
    const char *s = luaL_optstring(L, -1, "in");
    while (*s) {
        size_t n = strcspn(s, ",");
        p.events |= event_of(L, row, s, n);
        s += n + (s[n] == ',');
    }
    lua_pop(L, 2);
    return p;
}

/* "in,hup" for the row at the stack's top; nil when nothing happened. */
static void set_revents(lua_State *L, short bits)
{
    const char *text = NULL;
    int top = lua_gettop(L);
    for (int i = 0; events[i].name; i++)
        if (bits & events[i].bit)
            text = lua_pushfstring(L, "%s%s%s", text ? text : "", text ? "," : "", events[i].name);
    if (!text) lua_pushnil(L);
    lua_setfield(L, top, "revents");
    lua_settop(L, top);
}

/* poll({{fd=, events="in,out"}, ...}, seconds) -> how many rows have revents now ("in,hup", else nil)
 * | nil, message, errno. events: in out pri rdhup; "in" if left out. One poll(2): a signal ends it with 0, as
 * the time does, so that a loop in Lua can be interrupted. Without seconds it has no end but these. */
static int l_poll(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int ms = check_milliseconds(L, 2);
    lua_Integer n = luaL_len(L, 1);
    luaL_argcheck(L, n >= 0 && n < 1 << 20, 1, "too many rows");
    struct pollfd *p = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *p, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, 1, i + 1);
        p[i] = check_row(L, i + 1);
        lua_pop(L, 1);
    }
    int ready = poll(p, (nfds_t)n, nsbL_interrupted(L) ? 0 : ms);
    if (ready < 0 && errno != EINTR) return nsbL_fail(L, errno, "poll");
    if (ready < 0) nsbL_interrupted(L);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, 1, i + 1);
        set_revents(L, ready > 0 ? p[i].revents : 0);
        lua_pop(L, 1);
    }
    lua_pushinteger(L, ready > 0 ? ready : 0);
    return 1;
}

/* ---- a write to a pipe ---- */

/* A write whose SIGPIPE nobody sees: blocked, and taken if this write sent it. Bytes or a negative errno. */
static ssize_t write_blocked(int fd, const char *s, size_t n)
{
    static const struct timespec now = {0, 0};
    sigset_t pipe, old, pending;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &old);
    sigpending(&pending);
    ssize_t done = write(fd, s, n);
    if (done < 0) done = -errno;
    if (done == -EPIPE && !sigismember(&pending, SIGPIPE)) sigtimedwait(&pipe, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return done;
}

/* write_nosig(fd, string, from = 1) -> how many bytes of string, from the given one on, were written
 * | nil, message, errno. A reader that is gone is EPIPE and never SIGPIPE. */
static int l_write_nosig(lua_State *L)
{
    int fd = nsbL_checkfd(L, 1);
    size_t n;
    const char *s = luaL_checklstring(L, 2, &n);
    lua_Integer from = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, from >= 1 && (lua_Unsigned)from <= n + 1, 3, "beyond the string");
    ssize_t done = write_blocked(fd, s + from - 1, n - (size_t)(from - 1));
    if (done < 0) return nsbL_fail(L, (int)-done, "write");
    lua_pushinteger(L, done);
    return 1;
}

/* ---- extended attributes ---- */

/* fgetxattr(fd, name) -> its value | nil, message, errno. ENODATA: the file has no attribute of this name. */
static int l_fgetxattr(lua_State *L)
{
    luaL_Buffer b;
    int fd = nsbL_checkfd(L, 1);
    const char *name = luaL_checkstring(L, 2);
    char *to = luaL_buffinitsize(L, &b, XATTR_SIZE_MAX);
    ssize_t n = fgetxattr(fd, name, to, XATTR_SIZE_MAX);
    if (n < 0) return nsbL_fail(L, errno, "fgetxattr");
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

/* ---- the table ---- */

static const luaL_Reg functions[] = {{"clone", l_clone},         {"_exit", l_exit},
                                     {"execve", l_execve},       {"waitid", l_waitid},
                                     {"getgroups", l_getgroups}, {"gethostname", l_gethostname},
                                     {"clock", l_clock},         {"nanosleep", l_nanosleep},
                                     {"poll", l_poll},           {"write_nosig", l_write_nosig},
                                     {"fgetxattr", l_fgetxattr}, {NULL, NULL}};

void nsbL_open_sys(lua_State *L) { luaL_setfuncs(L, functions, 0); }

void nsbL_open_consts(lua_State *L)
{
    for (unsigned g = 0; g < nsb_ngroups; g++)
        for (unsigned i = 0; i < nsb_groups[g].n; i++) {
            lua_pushfstring(L, "%s%s", nsb_groups[g].prefix, nsb_groups[g].at[i].name);
            lua_pushinteger(L, nsb_groups[g].at[i].value);
            lua_settable(L, -3);
        }
}
