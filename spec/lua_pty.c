/* lua_pty.c: a terminal of the specs' own, and a program on it. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <pty.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static int fail(lua_State *L, const char *what)
{
    int err = errno;
    luaL_pushfail(L);
    lua_pushfstring(L, "%s: %s", what, strerror(err));
    lua_pushinteger(L, err);
    return 3;
}

static struct winsize size_at(lua_State *L, int at)
{
    return (struct winsize){.ws_row = (unsigned short)luaL_checkinteger(L, at),
                            .ws_col = (unsigned short)luaL_checkinteger(L, at + 1)};
}

/* spawn(rows, columns, command) -> pid, the terminal's other side | nil, message, errno. A shell with the
 * command leads a session whose terminal this is, and has it as 0, 1 and 2. */
static int l_spawn(lua_State *L)
{
    struct winsize size = size_at(L, 1);
    const char *command = luaL_checkstring(L, 3);
    int master;
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    if (pid < 0) return fail(L, "forkpty");
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    fcntl(master, F_SETFD, FD_CLOEXEC);
    lua_pushinteger(L, pid);
    lua_pushinteger(L, master);
    return 2;
}

/* resize(fd, rows, columns) -> true | nil, message, errno */
static int l_resize(lua_State *L)
{
    struct winsize size = size_at(L, 2);
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCSWINSZ, &size) < 0) return fail(L, "TIOCSWINSZ");
    lua_pushboolean(L, 1);
    return 1;
}

/* settings(fd) -> the terminal's settings, as a string to compare, whether it is raw (takes keys one by one
 * and gives them no meaning) | nil, message, errno */
static int l_settings(lua_State *L)
{
    struct termios now;
    memset(&now, 0, sizeof now);
    if (tcgetattr((int)luaL_checkinteger(L, 1), &now) < 0) return fail(L, "tcgetattr");
    lua_pushlstring(L, (const char *)&now, sizeof now);
    lua_pushboolean(L, !(now.c_lflag & (tcflag_t)(ICANON | ECHO | ISIG)));
    return 2;
}

static const luaL_Reg functions[] = {
    {"spawn", l_spawn}, {"resize", l_resize}, {"settings", l_settings}, {NULL, NULL}};

int luaopen_spec_pty(lua_State *L);
int luaopen_spec_pty(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
