/* lua_launch.c: a start as a Lua object: launch(steps, inputs, options), next, go, abort. */
#include "lua_nsbox.h"

#include <math.h>

#define NSBL_LAUNCH "nsbox.launch"

static struct nsb_launch *check(lua_State *L) { return luaL_checkudata(L, 1, NSBL_LAUNCH); }

static int option_fd(lua_State *L, const char *name)
{
    lua_getfield(L, 3, name);
    int fd = lua_isnil(L, -1) ? -1 : nsbL_checkfd(L, lua_gettop(L));
    lua_pop(L, 1);
    return fd;
}

static int option_flag(lua_State *L, const char *name)
{
    lua_getfield(L, 3, name);
    int on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

/* Kills what there is of it. The program stays where a process may still read it. */
static void abort_start(lua_State *L, int arg)
{
    struct nsb_launch *l = luaL_checkudata(L, arg, NSBL_LAUNCH);
    nsb_abort(l);
    if (!l->lost) return;
    lua_getiuservalue(L, arg, 1);
    ((struct nsbL_program *)lua_touserdata(L, -1))->lost = 1;
    lua_pop(L, 1);
}

/* Stack: program, inputs, launch, parameters. */
static int start(lua_State *L, struct nsbL_program *program, struct nsb_launch *l, int copy)
{
    int err = nsb_arena_open(l);
    if (err < 0) return nsbL_fail(L, -err, "mmap");
    nsbL_bind(L, program, 2, 4, l);
    l->start->copy = copy;
    err = nsb_spawn(l, program->flags);
    if (err < 0) {
        abort_start(L, 3);
        return nsbL_fail(L, -err, "clone");
    }
    lua_settop(L, 3);
    if (l->result < 0) return 1;
    lua_pushinteger(L, l->result);
    return 2;
}

/* launch(program, inputs, {copy=, hidden=, within=, self=, params=}) -> launch | nil, message, errno.
 * `inputs` maps slot names to descriptors, `params` the plan's parameters to values; `within`: a pidfd in
 * whose pid namespace the first process is made, with `self`, the caller's own; `hidden`: not dumpable until
 * the start is over, for a child that others can see, and whose memory is the caller's. launch(steps, inputs,
 * flags, options) for a plan that starts once. Raises for a bad plan. Of a plan that ends in `return` it
 * answers twice: in the copy with a second value, the number of the descriptor for results. */
static int l_launch(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    if (lua_istable(L, 1)) {
        nsbL_compile(L, 1, 2, (unsigned long)nsbL_checkflags(L, 3, "CLONE"));
        lua_replace(L, 1);
        lua_remove(L, 3);
    }
    struct nsbL_program *program = luaL_checkudata(L, 1, NSBL_PROGRAM);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    int copy = option_flag(L, "copy") || !NSB_SHARED_MEMORY;
    struct nsb_launch *l = lua_newuserdatauv(L, sizeof *l, 1);
    nsb_launch_init(l);
    l->hidden = option_flag(L, "hidden");
    l->self = option_fd(L, "self");
    l->within = l->self < 0 ? -1 : option_fd(L, "within");
    luaL_setmetatable(L, NSBL_LAUNCH);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 4, 1);
    if (lua_getfield(L, 3, "params") == LUA_TNIL) lua_newtable(L), lua_replace(L, 5);
    lua_remove(L, 3);
    return start(L, program, l, copy);
}

/* Descriptors become handles before anything else can fail. */
static void push_fds(lua_State *L, struct nsb_event *ev)
{
    int *handle[NSB_MAXPASS];
    for (int i = 0; i < ev->nfds; i++) {
        *(handle[i] = nsbL_newfd(L)) = ev->fds[i];
    }
}

/* launch:next(seconds) -> "again" | "barrier", step, fd… | "started", process | "failed", step, errno, root
 * or nil, message, errno. A signal ends the wait with "again". */
static int l_next(lua_State *L)
{
    struct nsb_launch *l = check(L);
    struct nsb_event ev;
    lua_Number seconds = luaL_optnumber(L, 2, -1);
    luaL_checkstack(L, NSB_MAXPASS + 4, NULL);
    int err = nsb_next(l, seconds < 0 ? -1 : (int)ceil(seconds * 1000), &ev);
    if (err < 0) return nsbL_fail(L, -err, "next");
    switch (ev.kind) {
    case NSB_EV_BARRIER:
        lua_pushliteral(L, "barrier");
        lua_pushinteger(L, ev.step);
        push_fds(L, &ev);
        return 2 + ev.nfds;
    case NSB_EV_STARTED:
        lua_pushliteral(L, "started");
        nsbL_newprocess(L, ev.fds[0]);
        return 2;
    case NSB_EV_FAILED:
        lua_pushliteral(L, "failed");
        lua_pushinteger(L, ev.step);
        lua_pushinteger(L, ev.err);
        push_fds(L, &ev);
        return 3 + ev.nfds;
    default: lua_pushliteral(L, "again"); return 1;
    }
}

/* launch:go(fd…) -> true | nil, message, errno: ends a barrier, descriptors go down. */
static int l_go(lua_State *L)
{
    struct nsb_launch *l = check(L);
    int fds[NSB_MAXPASS], n = lua_gettop(L) - 1;
    luaL_argcheck(L, n <= NSB_MAXPASS, 2, "too many descriptors");
    for (int i = 0; i < n; i++) fds[i] = nsbL_checkfd(L, i + 2);
    int err = nsb_go(l, fds, n);
    if (err < 0) return nsbL_fail(L, -err, "go");
    lua_pushboolean(L, 1);
    return 1;
}

/* launch:pidfd() -> a borrowed number: the newest process of the start, or nil. In shared memory only
 * after a barrier was reached. */
static int l_pidfd(lua_State *L)
{
    struct nsb_launch *l = check(L);
    int fd = -1;
    if (l->running && l->start->copy)
        fd = l->nhops ? l->hop[l->nhops - 1] : l->first;
    else if (l->running)
        for (int i = 0; i < NSB_MAXHOPS && l->start->report.pidfd[i] >= 0; i++)
            fd = l->start->report.pidfd[i];
    if (fd < 0)
        luaL_pushfail(L);
    else
        lua_pushinteger(L, fd);
    return 1;
}

/* launch:abort(): kills what there is of the start. Idempotent; also __gc and __close. */
static int l_abort(lua_State *L)
{
    abort_start(L, 1);
    return 0;
}

static const luaL_Reg methods[] = {
    {"next", l_next}, {"go", l_go}, {"pidfd", l_pidfd}, {"abort", l_abort}, {NULL, NULL}};

void nsbL_open_launch(lua_State *L)
{
    luaL_newmetatable(L, NSBL_LAUNCH);
    lua_pushcfunction(L, l_abort);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_abort);
    lua_setfield(L, -2, "__close");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_launch);
    lua_setfield(L, -2, "launch");
}
