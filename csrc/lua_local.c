/* lua_local.c: named local sockets that keep messages apart: by them a detached box is reached. */
#include "lua_nsbox.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 16 };

#ifndef NSB_LUA_PATH
#define NSB_LUA_PATH "/usr/bin/lua5.4"
#endif

static socklen_t address(lua_State *L, struct sockaddr_un *a)
{
    size_t n;
    const char *path = luaL_checklstring(L, 1, &n);
    luaL_argcheck(L, n > 0 && n < sizeof a->sun_path, 1, "a path of at most 107 bytes expected");
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(a->sun_path, path, n + 1);
    return (socklen_t)sizeof *a;
}

/* A new socket in a handle at the top of the stack, which never blocks. */
static int *push_socket(lua_State *L)
{
    int *fd = nsbL_newfd(L);
    *fd = nsb_lift(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return fd;
}

/* listen(path) -> a socket that listens at a new file of mode 0600 | nil, message, errno */
static int l_listen(lua_State *L)
{
    struct sockaddr_un a;
    socklen_t n = address(L, &a);
    int *fd = push_socket(L);
    if (*fd < 0) return nsbL_fail(L, -*fd, "socket");
    if (fchmod(*fd, 0600) < 0) return nsbL_fail(L, errno, "fchmod");
    if (bind(*fd, (struct sockaddr *)&a, n) < 0) return nsbL_fail(L, errno, "bind");
    if (listen(*fd, BACKLOG) < 0) return nsbL_fail(L, errno, "listen");
    return 1;
}

/* accept(socket) -> connection | nil, message, errno (EAGAIN: nobody is there) */
static int l_accept(lua_State *L)
{
    int listening = nsbL_checkfd(L, 1);
    int *fd = nsbL_newfd(L);
    *fd = nsb_lift(accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (*fd < 0) return nsbL_fail(L, -*fd, "accept");
    return 1;
}

/* connect_local(path) -> connection | nil, message, errno (EAGAIN: too many wait there already) */
static int l_connect(lua_State *L)
{
    struct sockaddr_un a;
    socklen_t n = address(L, &a);
    int *fd = push_socket(L);
    if (*fd < 0) return nsbL_fail(L, -*fd, "socket");
    if (connect(*fd, (struct sockaddr *)&a, n) < 0) return nsbL_fail(L, errno, "connect");
    return 1;
}

/* environ() -> list of "NAME=value": what the program has now, not what it was started with */
static int l_environ(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; environ && environ[i]; i++) {
        lua_pushstring(L, environ[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg functions[] = {{"listen", l_listen},
                                     {"accept", l_accept},
                                     {"connect_local", l_connect},
                                     {"environ", l_environ},
                                     {NULL, NULL}};

void nsbL_open_local(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
    lua_pushliteral(L, NSB_LUA_PATH);
    lua_setfield(L, -2, "LUA"); /* the interpreter that the build was for */
}
