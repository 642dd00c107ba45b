/* lua_host.c: what a host program may have done before it calls nsbox, for specs: signals, forks. */
#include <errno.h>
#include <lauxlib.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

static volatile sig_atomic_t stolen, seen;

static void wait_for_any(int sig)
{
    int saved = errno;
    (void)sig;
    while (waitpid(-1, NULL, WNOHANG) > 0) stolen++;
    errno = saved;
}

static void count(int sig)
{
    (void)sig;
    seen++;
}

/* sigchld("ignore" | "nocldwait" | "steal" | "default"); steal: a handler that waits for any child */
static int l_sigchld(lua_State *L)
{
    static const char *const names[] = {"ignore", "nocldwait", "steal", "default", NULL};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    switch (luaL_checkoption(L, 1, NULL, names)) {
    case 0: action.sa_handler = SIG_IGN; break;
    case 1: action.sa_handler = SIG_DFL, action.sa_flags = SA_NOCLDWAIT; break;
    case 2: action.sa_handler = wait_for_any, action.sa_flags = SA_RESTART; break;
    default: action.sa_handler = SIG_DFL; break;
    }
    sigaction(SIGCHLD, &action, NULL);
    return 0;
}

/* stolen() -> how many children the handler has waited for */
static int l_stolen(lua_State *L)
{
    lua_pushinteger(L, stolen);
    return 1;
}

/* handle(signo): a handler that counts. handled() -> how often it ran */
static int l_handle(lua_State *L)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count;
    return luaL_fileresult(L, sigaction((int)luaL_checkinteger(L, 1), &action, NULL) == 0, NULL);
}

static int l_handled(lua_State *L)
{
    lua_pushinteger(L, seen);
    return 1;
}

/* block(signo) */
static int l_block(lua_State *L)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, (int)luaL_checkinteger(L, 1));
    return luaL_fileresult(L, sigprocmask(SIG_BLOCK, &set, NULL) == 0, NULL);
}

/* fork() -> pid | 0 in the child: libc's, with all its handlers, and the whole Lua state in both */
static int l_fork(lua_State *L)
{
    pid_t pid = fork();
    if (pid < 0) return luaL_fileresult(L, 0, "fork");
    lua_pushinteger(L, pid);
    return 1;
}

/* storm(microseconds): SIGALRM again and again, 0: no more */
static int l_storm(lua_State *L)
{
    suseconds_t each = (suseconds_t)luaL_checkinteger(L, 1);
    struct itimerval timer = {{0, each}, {0, each}};
    return luaL_fileresult(L, setitimer(ITIMER_REAL, &timer, NULL) == 0, NULL);
}

/* allocated() -> bytes that malloc has given out and not got back, in all of the process */
static int l_allocated(lua_State *L)
{
    struct mallinfo2 info = mallinfo2();
    lua_pushinteger(L, (lua_Integer)info.uordblks + (lua_Integer)info.hblkhd);
    return 1;
}

/* network(descriptor of a socket) -> a number for its network namespace, which no other has | nil, message,
 * errno */
static int l_network(lua_State *L)
{
    unsigned long long cookie;
    socklen_t size = sizeof cookie;
    if (getsockopt((int)luaL_checkinteger(L, 1), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
        return luaL_fileresult(L, 0, NULL);
    lua_pushinteger(L, (lua_Integer)cookie);
    return 1;
}

int luaopen_host(lua_State *L);
int luaopen_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sigchld", l_sigchld}, {"stolen", l_stolen}, {"handle", l_handle}, {"handled", l_handled},
        {"block", l_block},     {"fork", l_fork},     {"storm", l_storm},   {"allocated", l_allocated},
        {"network", l_network}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
