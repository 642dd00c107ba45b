/* lua_signal.c: signals of the program as a descriptor. For the nsbox command alone: in a library's host they
 * are the host's. */
#include "lua_nsbox.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* signals(number...) -> descriptor | nil, message, errno. From now on these signals of the calling thread do
 * nothing but to make it readable. */
static int l_signals(lua_State *L)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 1; i <= lua_gettop(L); i++) sigaddset(&set, (int)luaL_checkinteger(L, i));
    int *fd = nsbL_newfd(L);
    *fd = nsb_lift(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (*fd < 0) return nsbL_fail(L, -*fd, "signalfd");
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) return nsbL_fail(L, errno, "sigprocmask");
    return 1;
}

/* next_signal(descriptor) -> number | nil, message, errno (EAGAIN: none is there) */
static int l_next_signal(lua_State *L)
{
    struct signalfd_siginfo info;
    if (read(nsbL_checkfd(L, 1), &info, sizeof info) < 0) return nsbL_fail(L, errno, "read");
    lua_pushinteger(L, info.ssi_signo);
    return 1;
}

static const luaL_Reg functions[] = {{"signals", l_signals}, {"next_signal", l_next_signal}, {NULL, NULL}};

void nsbL_open_signal(lua_State *L) { luaL_setfuncs(L, functions, 0); }
