/* lua_copy.c: a process that goes on as a copy of the caller's Lua program: its identity, its standard files,
 * its environment, its end. */
#include "lua_nsbox.h"

#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* self() -> integer: the process that this is. No copy of it has the same, though it may have its number. */
static int l_self(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)nsb_self());
    return 1;
}

/* several_threads() -> boolean; true where it cannot be known */
static int l_several_threads(lua_State *L)
{
    lua_pushboolean(L, nsb_several_threads());
    return 1;
}

/* flush(): all standard files that are open for writing */
static int l_flush(lua_State *L)
{
    (void)L;
    fflush(NULL);
    return 0;
}

static void set_environment(lua_State *L, int list)
{
    clearenv();
    for (lua_Integer i = 1, n = luaL_len(L, list); i <= n; i++) {
        lua_geti(L, list, i);
        const char *entry = luaL_checkstring(L, -1), *equals = strchr(entry, '=');
        luaL_argcheck(L, equals, list, "NAME=value expected");
        lua_pushlstring(L, entry, (size_t)(equals - entry));
        if (setenv(lua_tostring(L, -1), equals + 1, 1) != 0) luaL_error(L, "not enough memory");
        lua_pop(L, 2);
    }
}

/* exit(3) would go on to what the caller's program has asked for at its own end. */
#ifdef __GLIBC__
static void leave(int status, void *unused)
{
    (void)unused;
    fflush(NULL);
    _exit(status);
}
#endif

/* settle(environment): after the copy. What the program had read ahead is the caller's; the environment, a
 * list of "NAME=value", is replaced; exit(3) ends at once. */
static int l_settle(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    __fpurge(stdin);
    clearerr(stdin);
    set_environment(L, 1);
#ifdef __GLIBC__
    on_exit(leave, NULL);
#endif
    return 0;
}

/* last(fn, ...): calls it and never returns: an error is told on stderr, and nothing can yield beyond here.
 */
static int l_last(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (lua_pcall(L, lua_gettop(L) - 1, 0, 0) != LUA_OK) fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
    fflush(NULL);
    _exit(1);
}

static const luaL_Reg functions[] = {{"self", l_self},   {"several_threads", l_several_threads},
                                     {"flush", l_flush}, {"settle", l_settle},
                                     {"last", l_last},   {NULL, NULL}};

void nsbL_open_copy(lua_State *L) { luaL_setfuncs(L, functions, 0); }
