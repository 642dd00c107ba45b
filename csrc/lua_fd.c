/* lua_fd.c: descriptors as closable objects. */
#include "lua_nsbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int nsbL_fail(lua_State *L, int err, const char *what)
{
    luaL_pushfail(L);
    if (what)
        lua_pushfstring(L, "%s: %s", what, strerror(err));
    else
        lua_pushstring(L, strerror(err));
    lua_pushinteger(L, err);
    return 3;
}

int *nsbL_newfd(lua_State *L)
{
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = -1;
    luaL_setmetatable(L, NSBL_FD);
    return fd;
}

static int call_fileno(lua_State *L, int arg)
{
    if (luaL_getmetafield(L, arg, "__index") == LUA_TNIL && !lua_istable(L, arg)) return -1;
    lua_settop(L, lua_gettop(L));
    int top = lua_gettop(L);
    if (lua_getfield(L, arg, "fileno") != LUA_TFUNCTION) {
        lua_settop(L, top);
        return -1;
    }
    lua_pushvalue(L, arg);
    lua_call(L, 1, 1);
    int fd = lua_isinteger(L, -1) ? (int)lua_tointeger(L, -1) : -1;
    lua_settop(L, top);
    return fd;
}

int nsbL_tofd(lua_State *L, int arg)
{
    arg = lua_absindex(L, arg);
    int top = lua_gettop(L), fd = -1;
    if (lua_isinteger(L, arg)) {
        lua_Integer n = lua_tointeger(L, arg);
        return n >= 0 && n <= 0x7fffffff ? (int)n : -1;
    }
    int *own = luaL_testudata(L, arg, NSBL_FD);
    luaL_Stream *file = own ? NULL : luaL_testudata(L, arg, LUA_FILEHANDLE);
    if (own)
        fd = *own;
    else if (file)
        fd = file->closef ? fileno(file->f) : -1;
    else if (lua_isuserdata(L, arg) || lua_istable(L, arg))
        fd = call_fileno(L, arg);
    lua_settop(L, top);
    return fd;
}

int nsbL_checkfd(lua_State *L, int arg)
{
    int fd = nsbL_tofd(L, arg);
    if (fd >= 0) return fd;
    if (luaL_testudata(L, arg, NSBL_FD)) return luaL_argerror(L, arg, "closed descriptor");
    return luaL_typeerror(L, arg, "descriptor");
}

/* fd:fileno() -> integer | nil when closed */
static int l_fileno(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, NSBL_FD);
    if (*fd < 0) return luaL_pushfail(L), 1;
    lua_pushinteger(L, *fd);
    return 1;
}

/* fd:close() -> true | nil, message, errno. Idempotent. */
static int l_close(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, NSBL_FD);
    int was = *fd;
    *fd = -1;
    if (was >= 0 && close(was) < 0 && errno != EINTR) return nsbL_fail(L, errno, "close");
    lua_pushboolean(L, 1);
    return 1;
}

/* fd:release() -> integer: gives the number up; the caller owns it now. */
static int l_release(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, NSBL_FD);
    lua_pushinteger(L, *fd);
    *fd = -1;
    return 1;
}

static int l_tostring(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, NSBL_FD);
    if (*fd < 0)
        lua_pushliteral(L, "nsbox.fd (closed)");
    else
        lua_pushfstring(L, "nsbox.fd (%d)", *fd);
    return 1;
}

static const luaL_Reg methods[] = {
    {"fileno", l_fileno}, {"close", l_close}, {"release", l_release}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", l_close}, {"__close", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};

void nsbL_open_fd(lua_State *L)
{
    luaL_newmetatable(L, NSBL_FD);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
