/* lua_socket.c: connections to what listens in a box. */
#include "lua_nsbox.h"
#include "socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *const family_names[] = {"unix", "inet", "inet6", NULL};
static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
static const char *const type_names[] = {"stream", "dgram", NULL};
static const int types[] = {SOCK_STREAM, SOCK_DGRAM};

/* socket(family, type) -> a non-blocking socket | nil, message, errno. family: unix, inet, inet6; type:
 * stream, dgram. */
static int l_socket(lua_State *L)
{
    int family = families[luaL_checkoption(L, 1, NULL, family_names)];
    int type = types[luaL_checkoption(L, 2, NULL, type_names)];
    int *fd = nsbL_newfd(L), made = nsb_lift(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (made < 0) return nsbL_fail(L, -made, "socket");
    *fd = made;
    return 1;
}

/* socket_in(pidfd, namespaces, family, type, apart) -> a non-blocking socket of the network namespace that
 * the process is in | nil, message, errno. namespaces: "newnet" or "newuser,newnet", what is entered for it,
 * by another process than this. apart: see socket.h. */
static int l_socket_in(lua_State *L)
{
    struct nsb_socket s = {.pidfd = nsbL_checkfd(L, 1)};
    s.namespaces = (unsigned long)nsbL_checkflags(L, 2, "CLONE");
    s.family = families[luaL_checkoption(L, 3, NULL, family_names)];
    s.type = types[luaL_checkoption(L, 4, NULL, type_names)];
    luaL_argcheck(L, s.namespaces & CLONE_NEWNET && !(s.namespaces & ~(CLONE_NEWNET | CLONE_NEWUSER)), 2,
                  "newnet or newuser,newnet expected");
    int *fd = nsbL_newfd(L);
    int made = nsb_socket_in(&s, lua_toboolean(L, 5) || !NSB_SHARED_MEMORY);
    if (made < 0) return nsbL_fail(L, -made, s.entered ? "socket" : "setns");
    *fd = made;
    return 1;
}

union address {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static in_port_t check_port(lua_State *L, int arg)
{
    lua_Integer port = luaL_checkinteger(L, arg);
    luaL_argcheck(L, port > 0 && port < 65536, arg, "a port expected, 1 to 65535");
    return htons((in_port_t)port);
}

static socklen_t check_address(lua_State *L, int family, union address *a)
{
    size_t n;
    memset(a, 0, sizeof *a);
    a->any.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        a->in.sin_port = check_port(L, 3);
        a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof a->in;
    }
    if (family == AF_INET6) {
        a->in6.sin6_port = check_port(L, 3);
        a->in6.sin6_addr = in6addr_loopback;
        return sizeof a->in6;
    }
    const char *path = luaL_checklstring(L, 3, &n);
    luaL_argcheck(L, n > 0 && n < sizeof a->un.sun_path && strlen(path) == n, 3, "a short path expected");
    memcpy(a->un.sun_path, path, n);
    return sizeof a->un;
}

/* connect(socket, family, where) -> "connected" | "pending" | nil, message, errno. where: a path for unix;
 * for inet, inet6 a port of the loopback address. */
static int l_connect(lua_State *L)
{
    union address to;
    int fd = nsbL_checkfd(L, 1);
    socklen_t size = check_address(L, families[luaL_checkoption(L, 2, NULL, family_names)], &to);
    int failed = connect(fd, &to.any, size) < 0;
    if (failed && errno != EINPROGRESS && errno != EINTR) return nsbL_fail(L, errno, "connect");
    lua_pushstring(L, failed ? "pending" : "connected");
    return 1;
}

/* TCP may meet itself: where nobody listens, the kernel can choose the port that is asked for as one's own.
 */
static int is_itself(const union address *peer, const union address *own)
{
    if (peer->any.sa_family == AF_INET) return peer->in.sin_port == own->in.sin_port;
    return peer->any.sa_family == AF_INET6 && peer->in6.sin6_port == own->in6.sin6_port;
}

/* 0 or an errno. */
static int connection_error(int fd)
{
    int err = 0;
    socklen_t size = sizeof err;
    union address peer = {0}, own = {0};
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0) return errno;
    if (err) return err;
    size = sizeof peer;
    if (getpeername(fd, &peer.any, &size) < 0) return errno == ENOTCONN ? EINPROGRESS : errno;
    size = sizeof own;
    if (getsockname(fd, &own.any, &size) < 0) return errno;
    return is_itself(&peer, &own) ? ECONNREFUSED : 0;
}

/* connected(socket) -> true | nil, message, errno: how a pending connect ended; EINPROGRESS: not yet. A
 * connection to itself is none: ECONNREFUSED. */
static int l_connected(lua_State *L)
{
    int err = connection_error(nsbL_checkfd(L, 1));
    if (err) return nsbL_fail(L, err, "connect");
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {{"socket", l_socket},
                                     {"socket_in", l_socket_in},
                                     {"connect", l_connect},
                                     {"connected", l_connected},
                                     {NULL, NULL}};

void nsbL_open_socket(lua_State *L) { luaL_setfuncs(L, functions, 0); }
