/* lua_epoll.c: an epoll descriptor with an alarm inside: one number for a loop to watch, for all that nsbox
 * waits for. */
#include "lua_nsbox.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NSBL_EPOLL "nsbox.epoll"

enum { ALARM = 0, AT_ONCE = 64 }; /* the alarm's id; how many events one look takes */

struct watch {
    int epoll, alarm;
};

static struct watch *check(lua_State *L)
{
    struct watch *w = luaL_checkudata(L, 1, NSBL_EPOLL);
    luaL_argcheck(L, w->epoll >= 0, 1, "closed descriptor");
    return w;
}

static int result(lua_State *L, int failed, const char *what)
{
    if (failed) return nsbL_fail(L, errno, what);
    lua_pushboolean(L, 1);
    return 1;
}

static int control(lua_State *L, int op)
{
    struct watch *w = check(L);
    int fd = (int)luaL_checkinteger(L, 2);
    lua_Integer bits = luaL_optinteger(L, 3, 0);
    struct epoll_event event = {.data.u64 = (uint64_t)luaL_optinteger(L, 4, ALARM)};
    event.events = (bits & 1 ? EPOLLIN : 0) | (bits & 2 ? EPOLLOUT : 0);
    return result(L, epoll_ctl(w->epoll, op, fd, &event) < 0, "epoll_ctl");
}

/* epoll:add(number, bits, id) -> true | nil, message, errno. bits: 1 in, 2 out; id: what ready() answers, not
 * 0. EPERM: a file that is always ready. */
static int l_add(lua_State *L) { return control(L, EPOLL_CTL_ADD); }

/* epoll:modify(number, bits, id): as add. ENOENT: the number is another file's by now. */
static int l_modify(lua_State *L) { return control(L, EPOLL_CTL_MOD); }

/* epoll:remove(number) -> true | nil, message, errno */
static int l_remove(lua_State *L) { return control(L, EPOLL_CTL_DEL); }

/* epoll:set_alarm(seconds) -> true | nil, message, errno: it is ready when they are over, until the next
 * alarm is set. */
static int l_set_alarm(lua_State *L)
{
    struct watch *w = check(L);
    lua_Number s = luaL_checknumber(L, 2);
    s = s < 1e9 ? s : 1e9;
    struct itimerspec at = {.it_value = {0, 1}}; /* 0, 0 would put it off */
    if (s > 1e-9) at.it_value = (struct timespec){(time_t)s, (long)((s - floor(s)) * 1e9)};
    return result(L, timerfd_settime(w->alarm, 0, &at, NULL) < 0, "timerfd_settime");
}

/* epoll:ready() -> the ids that are ready now, at most 64, 0 for the alarm | nil, message, errno */
static int l_ready(lua_State *L)
{
    struct epoll_event events[AT_ONCE];
    struct watch *w = check(L);
    int n = epoll_wait(w->epoll, events, AT_ONCE, 0);
    if (n < 0 && errno != EINTR) return nsbL_fail(L, errno, "epoll_wait");
    lua_createtable(L, n > 0 ? n : 0, 0);
    for (int i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)events[i].data.u64);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* epoll:fileno() -> integer | nil when closed */
static int l_fileno(lua_State *L)
{
    struct watch *w = luaL_checkudata(L, 1, NSBL_EPOLL);
    if (w->epoll < 0) return luaL_pushfail(L), 1;
    lua_pushinteger(L, w->epoll);
    return 1;
}

/* epoll:close(). Any number of times. */
static int l_close(lua_State *L)
{
    struct watch *w = luaL_checkudata(L, 1, NSBL_EPOLL);
    if (w->epoll >= 0) close(w->epoll);
    if (w->alarm >= 0) close(w->alarm);
    w->epoll = w->alarm = -1;
    return 0;
}

static int open_both(struct watch *w)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = ALARM};
    w->epoll = nsb_lift(epoll_create1(EPOLL_CLOEXEC));
    if (w->epoll < 0) return w->epoll;
    w->alarm = nsb_lift(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (w->alarm < 0) return w->alarm;
    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->alarm, &event) < 0 ? -errno : 0;
}

/* epoll() -> object | nil, message, errno */
static int l_epoll(lua_State *L)
{
    struct watch *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (struct watch){-1, -1};
    luaL_setmetatable(L, NSBL_EPOLL);
    int err = open_both(w);
    if (err < 0) return nsbL_fail(L, -err, "epoll");
    return 1;
}

static const luaL_Reg methods[] = {
    {"add", l_add},     {"modify", l_modify}, {"remove", l_remove}, {"set_alarm", l_set_alarm},
    {"ready", l_ready}, {"fileno", l_fileno}, {"close", l_close},   {NULL, NULL}};

void nsbL_open_epoll(lua_State *L)
{
    luaL_newmetatable(L, NSBL_EPOLL);
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_epoll);
    lua_setfield(L, -2, "epoll");
}
