/* lua_filter.c: the system call filters that a container puts on its processes, for specs. */
#include <errno.h>
#include <lauxlib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))

/* refuse(call, err): from now on, and for ever, this call of this process and of its children fails so. Sets
 * no_new_privs, without which only root may. */
static int l_refuse(lua_State *L)
{
    static const char *const names[] = {"clone3", "unshare", "fsopen", "fgetxattr", NULL};
    static const unsigned numbers[] = {SYS_clone3, SYS_unshare, SYS_fsopen, SYS_fgetxattr};
    unsigned number = numbers[luaL_checkoption(L, 1, NULL, names)];
    unsigned err = (unsigned)luaL_checkinteger(L, 2);
    struct sock_filter code[] = {LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
                                 ANSWER(SECCOMP_RET_ERRNO | err), ANSWER(SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    int bad =
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    return luaL_fileresult(L, !bad, NULL);
}

static const luaL_Reg functions[] = {{"refuse", l_refuse}, {NULL, NULL}};

int luaopen_filter(lua_State *L);
int luaopen_filter(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
