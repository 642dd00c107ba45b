/* lua_file.c: nsbox.sys beyond the table of calls: descriptors, and what the file system tells. */
#include "lua_nsbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NSBL_DIR "nsbox.dir"

enum {
    READ_DEFAULT = 65536,
    READ_MAX = 0x7ffff000,
    MAXSEND = 16,
    MESSAGE_DEFAULT = 65536,
    MESSAGE_MAX = 1 << 24
};

static int push_true(lua_State *L)
{
    lua_pushboolean(L, 1);
    return 1;
}

static const char *check_path(lua_State *L, int arg)
{
    size_t n;
    luaL_checktype(L, arg, LUA_TSTRING);
    const char *s = lua_tolstring(L, arg, &n);
    luaL_argcheck(L, strlen(s) == n, arg, "the string holds a NUL byte");
    return s;
}

static int fail_path(lua_State *L, int err, const char *call, const char *path)
{
    return nsbL_fail(L, err, lua_pushfstring(L, "%s %s", call, path));
}

/* ---- descriptors ---- */

/* Two new descriptors of ours into the two handles below the stack's top, in this order. Both or none. */
static int push_pair(lua_State *L, const int *made, int *one, int *two, const char *call)
{
    int a = nsb_lift(made[0]), b = nsb_lift(made[1]);
    if (a >= 0 && b >= 0) {
        *one = a;
        *two = b;
        return 2;
    }
    if (a >= 0) close(a);
    if (b >= 0) close(b);
    return nsbL_fail(L, a < 0 ? -a : -b, call);
}

/* pipe2(flags) -> reading end, writing end | nil, message, errno. Close-on-exec always; flags: nonblock,
 * direct. */
static int l_pipe2(lua_State *L)
{
    long flags = nsbL_checkflags(L, 1, "O");
    int *r = nsbL_newfd(L), *w = nsbL_newfd(L), made[2];
    if (pipe2(made, (int)flags | O_CLOEXEC) < 0) return nsbL_fail(L, errno, "pipe2");
    return push_pair(L, made, r, w, "pipe2");
}

/* socketpair() -> a, b | nil, message, errno: two ends of a local connection that keeps messages apart and
 * carries descriptors (AF_UNIX, SOCK_SEQPACKET), close-on-exec. */
static int l_socketpair(lua_State *L)
{
    int *a = nsbL_newfd(L), *b = nsbL_newfd(L), made[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, made) < 0)
        return nsbL_fail(L, errno, "socketpair");
    return push_pair(L, made, a, b, "socketpair");
}

union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(MAXSEND * sizeof(int))];
};

static void put_descriptors(struct msghdr *msg, const int *fds, int n)
{
    msg->msg_controllen = CMSG_SPACE((size_t)n * sizeof *fds);
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)n * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof *fds);
}

/* sendfd(socket, data, fd...) -> true | nil, message, errno. One message: data (a byte at least) and at most
 * 16 descriptors, which stay open here. A peer that is gone is EPIPE and never SIGPIPE. */
static int l_sendfd(lua_State *L)
{
    int sock = nsbL_checkfd(L, 1), fds[MAXSEND], n = lua_gettop(L) - 2;
    struct iovec data;
    union control control = {0};
    data.iov_base = (void *)(uintptr_t)luaL_checklstring(L, 2, &data.iov_len);
    luaL_argcheck(L, data.iov_len > 0, 2, "a byte at least expected");
    luaL_argcheck(L, n <= MAXSEND, 3 + MAXSEND, "at most 16 descriptors");
    for (int i = 0; i < n; i++) fds[i] = nsbL_checkfd(L, 3 + i);
    struct msghdr msg = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = n ? &control : NULL};
    if (n) put_descriptors(&msg, fds, n);
    if (sendmsg(sock, &msg, MSG_NOSIGNAL) < 0) return nsbL_fail(L, errno, "sendmsg");
    return push_true(L);
}

static int take_descriptors(struct msghdr *msg, int *fds)
{
    int n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t size = c->cmsg_len - CMSG_LEN(0);
        memcpy(fds + n, CMSG_DATA(c), size);
        n += (int)(size / sizeof *fds);
    }
    return n;
}

/* recvfd(socket, n = 65536, most = 16) -> data, fd... | nil, message, errno. One message; "" when the peer is
 * gone. What it has beyond n bytes and `most` descriptors is lost. */
static int l_recvfd(lua_State *L)
{
    int sock = nsbL_checkfd(L, 1), fds[MAXSEND], *handle[MAXSEND];
    lua_Integer n = luaL_optinteger(L, 2, MESSAGE_DEFAULT);
    luaL_argcheck(L, n > 0 && n <= MESSAGE_MAX, 2, "a number of bytes expected");
    lua_Integer most = luaL_optinteger(L, 3, MAXSEND);
    luaL_argcheck(L, most >= 0 && most <= MAXSEND, 3, "at most 16 descriptors");
    luaL_checkstack(L, MAXSEND + 2, NULL);
    struct iovec data = {lua_newuserdatauv(L, (size_t)n, 0), (size_t)n};
    lua_pushnil(L);
    int at = lua_gettop(L);
    for (int i = 0; i < most; i++) handle[i] = nsbL_newfd(L);
    union control control;
    struct msghdr msg = {.msg_iov = &data,
                         .msg_iovlen = 1,
                         .msg_control = most ? &control : NULL,
                         .msg_controllen = most ? CMSG_LEN((size_t)most * sizeof(int)) : 0};
    ssize_t got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    if (got < 0) return nsbL_fail(L, errno, "recvmsg");
    int nfds = take_descriptors(&msg, fds);
    for (int i = 0; i < nfds && i < most; i++) {
        int fd = nsb_lift(fds[i]);
        *handle[i] = fd < 0 ? -1 : fd;
    }
    lua_pushlstring(L, data.iov_base, (size_t)got);
    lua_replace(L, at);
    lua_settop(L, at + nfds);
    return 1 + nfds;
}

/* dup(fd) -> a descriptor of our own for the same open file, close-on-exec | nil, message, errno */
static int l_dup(lua_State *L)
{
    int old = nsbL_checkfd(L, 1);
    int *fd = nsbL_newfd(L), copy = nsb_dup(old);
    if (copy < 0) return nsbL_fail(L, -copy, "dup");
    *fd = copy;
    return 1;
}

/* close(fd) -> true | nil, message, errno. A handle is closed by it too, as by its own close; a closed one:
 * true. */
static int l_close(lua_State *L)
{
    int *own = luaL_testudata(L, 1, NSBL_FD);
    if (!own && !lua_isinteger(L, 1)) return luaL_typeerror(L, 1, "descriptor handle or integer");
    int fd = own ? *own : nsbL_checkfd(L, 1);
    if (own) *own = -1;
    if (!(own && fd < 0) && close(fd) < 0 && errno != EINTR) return nsbL_fail(L, errno, "close");
    return push_true(L);
}

/* read(fd, n = 65536) -> string of at most n bytes, "" at the end | nil, message, errno. EINTR is an answer,
 * too. */
static int l_read(lua_State *L)
{
    int fd = nsbL_checkfd(L, 1);
    lua_Integer n = luaL_optinteger(L, 2, READ_DEFAULT);
    luaL_argcheck(L, n > 0 && n <= READ_MAX, 2, "a number of bytes expected");
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, (size_t)n);
    ssize_t got = read(fd, to, (size_t)n);
    if (got < 0) return nsbL_fail(L, errno, "read");
    luaL_pushresultsize(&b, (size_t)got);
    return 1;
}

/* nonblock(fd, on = true) -> true | nil, message, errno. It belongs to the open file: all its users see it.
 */
static int l_nonblock(lua_State *L)
{
    int fd = nsbL_checkfd(L, 1);
    int on = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return nsbL_fail(L, errno, "nonblock");
    if (fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
        return nsbL_fail(L, errno, "nonblock");
    return push_true(L);
}

/* isatty(fd) -> boolean */
static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty(nsbL_checkfd(L, 1)));
    return 1;
}

/* ---- stat ---- */

static const char *type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return "dir";
    case S_IFREG: return "file";
    case S_IFLNK: return "link";
    case S_IFCHR: return "char";
    case S_IFBLK: return "block";
    case S_IFIFO: return "fifo";
    default: return "socket";
    }
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static int push_stat(lua_State *L, const struct stat *st)
{
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", (unsigned)st->st_mode & 07777);
    lua_createtable(L, 0, 10);
    lua_pushstring(L, type_name(st->st_mode));
    lua_setfield(L, -2, "type");
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "mode");
    set_integer(L, "uid", st->st_uid);
    set_integer(L, "gid", st->st_gid);
    set_integer(L, "size", st->st_size);
    set_integer(L, "ino", (lua_Integer)st->st_ino);
    set_integer(L, "dev", (lua_Integer)st->st_dev);
    set_integer(L, "rdev", (lua_Integer)st->st_rdev);
    set_integer(L, "nlink", (lua_Integer)st->st_nlink);
    lua_pushnumber(L, (lua_Number)st->st_mtim.tv_sec + (lua_Number)st->st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    return 1;
}

/* stat(path) -> {type="dir|file|link|char|block|fifo|socket", mode="0755", uid, gid, size, ino, dev, rdev,
 * nlink, mtime} | nil, message, errno. Follows symbolic links. */
static int l_stat(lua_State *L)
{
    struct stat st;
    const char *path = check_path(L, 1);
    if (stat(path, &st) < 0) return fail_path(L, errno, "stat", path);
    return push_stat(L, &st);
}

/* lstat(path): as stat, of the link itself. */
static int l_lstat(lua_State *L)
{
    struct stat st;
    const char *path = check_path(L, 1);
    if (lstat(path, &st) < 0) return fail_path(L, errno, "lstat", path);
    return push_stat(L, &st);
}

/* fstat(fd): as stat, of an open file. */
static int l_fstat(lua_State *L)
{
    struct stat st;
    if (fstat(nsbL_checkfd(L, 1), &st) < 0) return nsbL_fail(L, errno, "fstat");
    return push_stat(L, &st);
}

/* ---- names ---- */

/* readlink(path) -> string | nil, message, errno */
static int l_readlink(lua_State *L)
{
    char target[PATH_MAX + 1];
    const char *path = check_path(L, 1);
    ssize_t n = readlink(path, target, sizeof target);
    int err = n < 0 ? errno : ENAMETOOLONG;
    if (n < 0 || (size_t)n == sizeof target) return fail_path(L, err, "readlink", path);
    lua_pushlstring(L, target, (size_t)n);
    return 1;
}

/* getcwd() -> string | nil, message, errno */
static int l_getcwd(lua_State *L)
{
    char path[PATH_MAX + 1];
    if (!getcwd(path, sizeof path)) return nsbL_fail(L, errno, "getcwd");
    lua_pushstring(L, path);
    return 1;
}

struct folder {
    DIR *dir; /* NULL: closed */
};

static int l_closedir(lua_State *L)
{
    struct folder *f = luaL_checkudata(L, 1, NSBL_DIR);
    if (f->dir) closedir(f->dir);
    f->dir = NULL;
    return 0;
}

/* 0 or an errno. A descriptor is opened anew, so that its place in the folder stays. */
static int open_folder(struct folder *f, int fd, const char *path)
{
    int here = openat(fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (here < 0) return errno;
    f->dir = fdopendir(here);
    if (f->dir) return 0;
    int err = errno;
    close(here);
    return err;
}

/* The names into a list at the stack's top. 0 or an errno. */
static int list_names(lua_State *L, const struct folder *f)
{
    lua_Integer n = 0;
    lua_newtable(L);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(f->dir);
        if (!entry) return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, -2, ++n);
    }
}

/* readdir(path | fd) -> list of names without . and .. | nil, message, errno. The kernel's order: sys.lua
 * sorts. */
static int l_readdir(lua_State *L)
{
    int by_path = lua_type(L, 1) == LUA_TSTRING;
    const char *path = by_path ? check_path(L, 1) : ".";
    int fd = by_path ? AT_FDCWD : nsbL_checkfd(L, 1);
    struct folder *f = lua_newuserdatauv(L, sizeof *f, 0);
    f->dir = NULL;
    luaL_setmetatable(L, NSBL_DIR);
    lua_toclose(L, -1);
    int err = open_folder(f, fd, path);
    if (f->dir) err = list_names(L, f);
    if (!err) return 1;
    return by_path ? fail_path(L, err, "readdir", path) : nsbL_fail(L, err, "readdir");
}

/* ---- the table ---- */

static const luaL_Reg functions[] = {{"pipe2", l_pipe2},       {"socketpair", l_socketpair},
                                     {"sendfd", l_sendfd},     {"recvfd", l_recvfd},
                                     {"dup", l_dup},           {"close", l_close},
                                     {"read", l_read},         {"nonblock", l_nonblock},
                                     {"isatty", l_isatty},     {"stat", l_stat},
                                     {"lstat", l_lstat},       {"fstat", l_fstat},
                                     {"readlink", l_readlink}, {"getcwd", l_getcwd},
                                     {"readdir", l_readdir},   {NULL, NULL}};

void nsbL_open_file(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, NSBL_DIR);
    lua_pushcfunction(L, l_closedir);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_closedir);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}
