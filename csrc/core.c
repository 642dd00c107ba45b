/* core.c: luaopen_nsbox_core. The module is private: `nsbox` is its face, `nsbox.sys` its calls. */
#include "lua_value.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

extern const char nsb_init_start[] NSB_HIDDEN, nsb_init_end[] NSB_HIDDEN;

#ifndef MFD_EXEC
#define MFD_EXEC 0x10 /* Linux 6.3 */
#endif

/* Where vm.memfd_noexec is set, a file in memory can be run only if that was said at its birth. */
static int open_init(void)
{
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("nsbox-init", flags | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) fd = memfd_create("nsbox-init", flags); /* before Linux 6.3 */
    return nsb_lift(fd);
}

static int write_init(int fd)
{
    size_t n = (size_t)(nsb_init_end - nsb_init_start), done = 0;
    while (done < n) {
        ssize_t w = write(fd, nsb_init_start + done, n - done);
        if (w < 0) return -errno;
        done += (size_t)w;
    }
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0 ? -errno : 0;
}

/* init_program() -> descriptor | nil, message, errno: our own pid 1 and keeper, sealed in memory. EACCES:
 * vm.memfd_noexec is 2. */
static int l_init_program(lua_State *L)
{
    int *fd = nsbL_newfd(L);
    *fd = open_init();
    if (*fd < 0) return nsbL_fail(L, -*fd, "memfd_create");
    int err = write_init(*fd);
    if (err < 0) return nsbL_fail(L, -err, "nsbox-init");
    return 1;
}

/* calls() -> {name = {signature=, returns="nothing"|"integer"|"descriptor"}}: the table, for explain */
static int l_calls(lua_State *L)
{
    static const char *const returns[] = {"nothing", "integer", "descriptor"};
    lua_createtable(L, 0, (int)nsb_ncalls);
    for (unsigned i = 0; i < nsb_ncalls; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, nsb_calls[i].sig);
        lua_setfield(L, -2, "signature");
        lua_pushstring(L, returns[nsb_calls[i].ret]);
        lua_setfield(L, -2, "returns");
        lua_setfield(L, -2, nsb_calls[i].name);
    }
    return 1;
}

/* errno_name(n) -> "EPERM" | nil */
static int l_errno_name(lua_State *L)
{
    const char *name = strerrorname_np((int)luaL_checkinteger(L, 1));
    if (name)
        lua_pushstring(L, name);
    else
        luaL_pushfail(L);
    return 1;
}

/* fileno(descriptor) -> its number; a handle, a file of the io library, an object with fileno(). Raises. */
static int l_fileno(lua_State *L)
{
    lua_pushinteger(L, nsbL_checkfd(L, 1));
    return 1;
}

/* strerror(n) -> message */
static int l_strerror(lua_State *L)
{
    lua_pushstring(L, strerror((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* random_id() -> 12 hexadecimal digits */
static int l_random_id(lua_State *L)
{
    uint64_t n = 0;
    char text[17];
    if (getrandom(&n, sizeof n, 0) < 0) return nsbL_fail(L, errno, "getrandom");
    snprintf(text, sizeof text, "%016llx", (unsigned long long)n);
    lua_pushlstring(L, text, 12);
    return 1;
}

/* uname() -> release, machine */
static int l_uname(lua_State *L)
{
    struct utsname name;
    if (uname(&name) < 0) return nsbL_fail(L, errno, "uname");
    lua_pushstring(L, name.release);
    lua_pushstring(L, name.machine);
    return 2;
}

static const luaL_Reg functions[] = {{"init_program", l_init_program},
                                     {"calls", l_calls},
                                     {"errno_name", l_errno_name},
                                     {"strerror", l_strerror},
                                     {"fileno", l_fileno},
                                     {"random_id", l_random_id},
                                     {"uname", l_uname},
                                     {NULL, NULL}};

__attribute__((visibility("default"))) int luaopen_nsbox_core(lua_State *L);

int luaopen_nsbox_core(lua_State *L)
{
    nsbL_sigs(L);
    nsbL_open_fd(L);
    luaL_newlib(L, functions);
    nsbL_open_program(L);
    nsbL_open_launch(L);
    nsbL_open_process(L);
    nsbL_open_pump(L);
    nsbL_open_tty(L);
    nsbL_open_socket(L);
    nsbL_open_copy(L);
    nsbL_open_epoll(L);
    nsbL_open_signal(L);
    nsbL_open_local(L);
    nsbL_open_bpf(L);
    lua_pushinteger(L, sysconf(_SC_PAGESIZE));
    lua_setfield(L, -2, "PAGE_SIZE");
    lua_newtable(L);
    nsbL_open_calls(L);
    nsbL_open_consts(L);
    nsbL_open_sys(L);
    nsbL_open_file(L);
    lua_setfield(L, -2, "sys");
    return 1;
}
