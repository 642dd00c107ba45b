/* lua_bpf.c: programs of the kernel's that decide which devices a cgroup of v2 may use; bpf(2). */
#include "lua_nsbox.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

enum { LOG = 1 << 16 };

static int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
    long n = syscall(SYS_bpf, cmd, attr, sizeof *attr);
    return n < 0 ? -errno : (int)n;
}

static int load(const char *code, size_t n, char *log)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.expected_attach_type = BPF_CGROUP_DEVICE;
    attr.insns = (uint64_t)(uintptr_t)code;
    attr.insn_cnt = (uint32_t)(n / sizeof(struct bpf_insn));
    attr.license = (uint64_t)(uintptr_t) "MIT";
    if (log) {
        attr.log_level = 1;
        attr.log_buf = (uint64_t)(uintptr_t)log;
        attr.log_size = LOG;
    }
    return nsb_lift(bpf(BPF_PROG_LOAD, &attr));
}

/* The last line that is about the program: behind it the kernel tells how much work that was. */
static const char *reason(char *log)
{
    char *counts = strstr(log, "\nprocessed ");
    if (counts) *counts = 0;
    size_t n = strlen(log);
    while (n > 0 && log[n - 1] == '\n') log[--n] = 0;
    char *line = strrchr(log, '\n');
    return line ? line + 1 : log;
}

/* nil, "bpf: what the kernel's verifier says, or the errno", errno */
static int refused(lua_State *L, const char *code, size_t n, int err)
{
    char *log = lua_newuserdatauv(L, LOG, 0);
    log[0] = 0;
    int fd = err == EPERM ? -1 : load(code, n, log);
    if (fd >= 0) close(fd);
    const char *why = reason(log);
    luaL_pushfail(L);
    lua_pushfstring(L, "bpf: %s", *why ? why : strerror(err));
    lua_pushinteger(L, err);
    return 3;
}

/* bpf_device(instructions) -> descriptor of the program | nil, message, errno. 8 bytes an instruction. */
static int l_device(lua_State *L)
{
    size_t n;
    const char *code = luaL_checklstring(L, 1, &n);
    luaL_argcheck(L, n > 0 && n % sizeof(struct bpf_insn) == 0, 1, "instructions of 8 bytes expected");
    int *handle = nsbL_newfd(L), fd = load(code, n, NULL);
    if (fd < 0) return refused(L, code, n, -fd);
    *handle = fd;
    return 1;
}

/* bpf_attach(cgroup, program) -> true | nil, message, errno: beside those that are attached already: a device
 * must be allowed by all. */
static int l_attach(lua_State *L)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (uint32_t)nsbL_checkfd(L, 1);
    attr.attach_bpf_fd = (uint32_t)nsbL_checkfd(L, 2);
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    int err = bpf(BPF_PROG_ATTACH, &attr);
    if (err < 0) return nsbL_fail(L, -err, "bpf");
    lua_pushboolean(L, 1);
    return 1;
}

/* bpf_attached(cgroup) -> how many device programs are attached to it | nil, message, errno */
static int l_attached(lua_State *L)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.query.target_fd = (uint32_t)nsbL_checkfd(L, 1);
    attr.query.attach_type = BPF_CGROUP_DEVICE;
    int err = bpf(BPF_PROG_QUERY, &attr);
    if (err < 0) return nsbL_fail(L, -err, "bpf");
    lua_pushinteger(L, attr.query.prog_cnt);
    return 1;
}

static const luaL_Reg functions[] = {
    {"bpf_device", l_device}, {"bpf_attach", l_attach}, {"bpf_attached", l_attached}, {NULL, NULL}};

void nsbL_open_bpf(lua_State *L) { luaL_setfuncs(L, functions, 0); }
