/* lua_pump.c: bounded buffers and relays as Lua objects. */
#include "lua_nsbox.h"
#include "pump.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#define NSBL_BUFFER "nsbox.buffer"

enum { AT_ONCE = 4 << 20 }; /* how much one call takes, so that a flood cannot hold the loop */

static struct nsb_buffer *check(lua_State *L) { return luaL_checkudata(L, 1, NSBL_BUFFER); }

/* buffer(max, ring) -> buffer: keeps the first `max` bytes that are filled in, or as a ring the last. */
static int l_buffer(lua_State *L)
{
    lua_Integer max = luaL_checkinteger(L, 1);
    luaL_argcheck(L, max >= 0 && max <= PTRDIFF_MAX / 4, 1, "a size expected");
    struct nsb_buffer *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct nsb_buffer){.max = (size_t)max, .ring = lua_toboolean(L, 2)};
    luaL_setmetatable(L, NSBL_BUFFER);
    return 1;
}

/* buffer:fill(fd, most) -> bytes taken, 0 at the end | false when nothing is there now | nil, message, errno
 */
static int l_fill(lua_State *L)
{
    lua_Integer most = luaL_optinteger(L, 3, AT_ONCE);
    luaL_argcheck(L, most > 0, 3, "a number of bytes expected");
    long n = nsb_fill(check(L), nsbL_checkfd(L, 2), (size_t)most);
    if (n == -EAGAIN) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (n < 0) return nsbL_fail(L, (int)-n, "read");
    lua_pushinteger(L, n);
    return 1;
}

/* buffer:contents(from = 0) -> string, position of its end: what is kept, from that position on. Positions
 * count all bytes since the first. */
static int l_contents(lua_State *L)
{
    struct nsb_buffer *b = check(L);
    uint64_t from = (uint64_t)luaL_optinteger(L, 2, 0);
    size_t n;
    const char *at = nsb_kept(b, &n);
    uint64_t first = b->total - n, skip = from > first ? from - first : 0;
    if (skip > n) skip = n;
    lua_pushlstring(L, at + skip, n - (size_t)skip);
    lua_pushinteger(L, (lua_Integer)b->total);
    return 2;
}

/* buffer:total() -> the position of the end */
static int l_total(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check(L)->total);
    return 1;
}

/* buffer:truncated() -> boolean: bytes beyond the maximum were dropped */
static int l_truncated(lua_State *L)
{
    lua_pushboolean(L, check(L)->truncated);
    return 1;
}

static int l_free(lua_State *L)
{
    struct nsb_buffer *b = check(L);
    free(b->at);
    *b = (struct nsb_buffer){0};
    return 0;
}

/* relay(from, to) -> bytes moved, 0 at the end | false when nothing is there | nil, message, errno */
static int l_relay(lua_State *L)
{
    long n = nsb_relay(nsbL_checkfd(L, 1), nsbL_checkfd(L, 2));
    if (n == -EAGAIN || n == -EINTR) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (n < 0) return nsbL_fail(L, (int)-n, "relay");
    lua_pushinteger(L, n);
    return 1;
}

static const luaL_Reg methods[] = {
    {"fill", l_fill}, {"contents", l_contents}, {"total", l_total}, {"truncated", l_truncated}, {NULL, NULL}};

void nsbL_open_pump(lua_State *L)
{
    luaL_newmetatable(L, NSBL_BUFFER);
    lua_pushcfunction(L, l_free);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_buffer);
    lua_setfield(L, -2, "buffer");
    lua_pushcfunction(L, l_relay);
    lua_setfield(L, -2, "relay");
}
