/* lua_interrupt.c: Ctrl-C in a coroutine. The lua program's handler sets a hook, on the main coroutine alone;
 * one that waits would wait on. */
#include "lua_nsbox.h"

#include <string.h>

static lua_State *main_state(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *first = lua_tothread(L, -1);
    lua_pop(L, 1);
    return first;
}

/* That of lua.c asks for all events, and for each instruction. */
static int is_interrupt(lua_State *first)
{
    const int all = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
    return lua_gethook(first) && lua_gethookmask(first) == all && lua_gethookcount(first) == 1;
}

int nsbL_interrupted(lua_State *L)
{
    lua_State *first = main_state(L);
    if (!first || !is_interrupt(first)) return 0;
    if (first != L && !lua_gethook(L)) lua_sethook(L, lua_gethook(first), lua_gethookmask(first), 1);
    return 1;
}
