/* lua_tty.c: the caller's terminal. */
#include "lua_nsbox.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

/* same_terminal(a, b) -> boolean: both are open and one terminal */
static int l_same(lua_State *L)
{
    int a = nsbL_checkfd(L, 1), b = nsbL_checkfd(L, 2);
    struct stat one, two;
    lua_pushboolean(L, isatty(a) && isatty(b) && fstat(a, &one) == 0 && fstat(b, &two) == 0 &&
                           one.st_rdev == two.st_rdev && one.st_ino == two.st_ino);
    return 1;
}

/* winsize(fd) -> rows, columns | nil, message, errno */
static int l_winsize(lua_State *L)
{
    struct winsize size;
    if (ioctl(nsbL_checkfd(L, 1), TIOCGWINSZ, &size) < 0) return nsbL_fail(L, errno, "TIOCGWINSZ");
    lua_pushinteger(L, size.ws_row);
    lua_pushinteger(L, size.ws_col);
    return 2;
}

/* raw(fd) -> settings to give back to restore() | nil, message, errno. The terminal passes all bytes on. */
static int l_raw(lua_State *L)
{
    int fd = nsbL_checkfd(L, 1);
    struct termios was, raw;
    if (tcgetattr(fd, &was) < 0) return nsbL_fail(L, errno, "tcgetattr");
    lua_pushlstring(L, (const char *)&was, sizeof was);
    raw = was;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSADRAIN, &raw) < 0) return nsbL_fail(L, errno, "tcsetattr");
    return 1;
}

/* restore(fd, settings) -> true | nil, message, errno */
static int l_restore(lua_State *L)
{
    int fd = nsbL_checkfd(L, 1);
    size_t n;
    const char *s = luaL_checklstring(L, 2, &n);
    struct termios was;
    luaL_argcheck(L, n == sizeof was, 2, "settings of raw() expected");
    memcpy(&was, s, sizeof was);
    if (tcsetattr(fd, TCSADRAIN, &was) < 0) return nsbL_fail(L, errno, "tcsetattr");
    lua_pushboolean(L, 1);
    return 1;
}

/* kernel_settings(fd) -> the terminal's settings in the kernel's own form, for the keeper | nil, … */
static int l_kernel_settings(lua_State *L)
{
    char settings[64] = {0}; /* struct termios of the kernel: 36 bytes on all architectures we know */
    long err = nsb_sys3(SYS_ioctl, nsbL_checkfd(L, 1), TCGETS, settings);
    if (err < 0) return nsbL_fail(L, (int)-err, "TCGETS");
    lua_pushlstring(L, settings, sizeof settings);
    return 1;
}

static const luaL_Reg functions[] = {{"same_terminal", l_same},
                                     {"winsize", l_winsize},
                                     {"raw", l_raw},
                                     {"restore", l_restore},
                                     {"kernel_settings", l_kernel_settings},
                                     {NULL, NULL}};

void nsbL_open_tty(lua_State *L) { luaL_setfuncs(L, functions, 0); }
