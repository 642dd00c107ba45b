/* lua_nsbox.h: what the Lua-facing files share. nsbL_ uses the Lua API, l_ is callable from Lua. */
#ifndef NSB_LUA_NSBOX_H
#define NSB_LUA_NSBOX_H

#include "call.h"
#include "spawn.h"

#include <lauxlib.h>
#include <lua.h>

/* Pushes nil, "what: message", errno: the io library's shape. `what` may be NULL. Returns 3. */
NSB_HIDDEN int nsbL_fail(lua_State *L, int err, const char *what);

/* lua_fd.c: descriptor handles. Made closed first, filled second. */
#define NSBL_FD "nsbox.fd"
NSB_HIDDEN int *nsbL_newfd(lua_State *L);
/* A descriptor handle, a file of the io library, an object with fileno(), or an integer. Raises. */
NSB_HIDDEN int nsbL_checkfd(lua_State *L, int arg);
NSB_HIDDEN int nsbL_tofd(lua_State *L, int arg); /* the same; -1 if it is none */

/* lua_plan.c: a plan, made ready for any number of starts. */
#define NSBL_PROGRAM "nsbox.program"

struct nsbL_input {
    const char *name;
    int slot;
};
struct nsbL_param {
    const char *name;
    char type; /* of the arguments it stands for, as in a signature; 'v': a list of strings */
};
struct nsbL_block;
struct nsbL_program {
    struct nsb_program plan;
    struct nsbL_block *block; /* memory, newest first */
    size_t left, taken;
    unsigned long flags; /* of the first clone */
    int ninputs;
    struct nsbL_input *input;
    struct nsbL_param param[NSB_MAXPARAMS];
    int lost; /* a process that hangs in the kernel may still read it */
};
/* Pushes the program of the steps at `steps`; the keys of the table at `inputs` are its input slots. */
NSB_HIDDEN struct nsbL_program *nsbL_compile(lua_State *L, int steps, int inputs, unsigned long flags);
NSB_HIDDEN void *nsbL_program_take(struct nsbL_program *p, size_t n); /* NULL when full */
/* Fills a start's slots and parameters from the tables at these stack indices. Raises. */
NSB_HIDDEN void nsbL_bind(lua_State *L, struct nsbL_program *p, int inputs, int params, struct nsb_launch *l);
NSB_HIDDEN void nsbL_open_program(lua_State *L);

/* Each fills the module's table at the top of the stack. */
NSB_HIDDEN void nsbL_open_calls(lua_State *L);
NSB_HIDDEN void nsbL_open_consts(lua_State *L);
NSB_HIDDEN void nsbL_open_fd(lua_State *L);
NSB_HIDDEN void nsbL_open_sys(lua_State *L);
NSB_HIDDEN void nsbL_open_file(lua_State *L);
NSB_HIDDEN void nsbL_open_launch(lua_State *L);
NSB_HIDDEN void nsbL_open_process(lua_State *L);
NSB_HIDDEN void nsbL_open_pump(lua_State *L);
NSB_HIDDEN void nsbL_open_tty(lua_State *L);
NSB_HIDDEN void nsbL_open_socket(lua_State *L);
NSB_HIDDEN void nsbL_open_copy(lua_State *L);
NSB_HIDDEN void nsbL_open_epoll(lua_State *L);
NSB_HIDDEN void nsbL_open_bpf(lua_State *L);

/* lua_interrupt.c: whether Ctrl-C has asked the program to stop; the coroutine L then raises it as soon as
 * Lua goes on. */
NSB_HIDDEN int nsbL_interrupted(lua_State *L);
NSB_HIDDEN void nsbL_open_signal(lua_State *L);
NSB_HIDDEN void nsbL_open_local(lua_State *L);

NSB_HIDDEN void nsbL_newprocess(lua_State *L, int pidfd);
/* A flag word from an integer or "name,name" of a constant group. Raises for argument `arg`. */
NSB_HIDDEN long nsbL_checkflags(lua_State *L, int arg, const char *group);

#endif
