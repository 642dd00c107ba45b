/* helper.c: the closed list of rows that need a loop or a comparison. Child-safe, as call.c. */
#include "call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <sys/resource.h>
#include <sys/socket.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

/* Opens `path` without leaving `root`, whatever links lie on the way. */
static long open_in_root(int root, const char *path, int flags)
{
    struct nsb_open_how how = {(uint64_t)(flags | O_CLOEXEC), 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    long fd;
    int tries = 16; /* EAGAIN: a rename elsewhere raced with a ".." on the way; openat2(2) */
    do {
        fd = nsb_sys4(SYS_openat2, root, path, &how, sizeof how);
    } while (fd == -EAGAIN && --tries > 0);
    return fd;
}

static long make_entry(int parent, const char *name, int directory, long mode)
{
    if (directory) return nsb_sys3(SYS_mkdirat, parent, name, mode);
    long fd = nsb_sys4(SYS_openat, parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) return fd;
    return nsb_sys1(SYS_close, fd);
}

/* Opens root/path, making the last part if it is missing; `parent` is the folder it lies in. */
static long open_or_make(int root, int parent, const char *path, const char *name, int directory, long mode)
{
    int flags = O_PATH | (directory ? O_DIRECTORY : 0);
    long fd = open_in_root(root, path, flags);
    if (fd != -ENOENT) return fd;
    long err = make_entry(parent, name, directory, mode);
    if (err < 0 && err != -EEXIST) return err;
    return open_in_root(root, path, flags);
}

/* mkpath(dirfd, path, kind, mode): an O_PATH descriptor of dirfd/path, missing parts made.
 * Links are followed inside dirfd only. Folders on the way get 0755. kind 1: a folder, 0: a file. */
long nsb_mkpath(const long *a)
{
    int root = (int)a[0];
    const char *path = (const char *)a[1];
    char part[PATH_MAX];
    size_t n = nsb_strlen(path), from = 0;
    if (n >= sizeof part) return -ENAMETOOLONG;
    long fd = open_in_root(root, path, O_PATH | (a[2] ? O_DIRECTORY : 0));
    if (fd != -ENOENT) return fd;

    long parent = open_in_root(root, "/", O_PATH | O_DIRECTORY);
    for (size_t i = 0; i <= n && parent >= 0; i++) {
        part[i] = path[i];
        if (path[i] && (path[i] != '/' || i == from)) {
            if (path[i] == '/') from = i + 1;
            continue;
        }
        if (i == from && path[i] == 0) break; /* a slash at the end */
        part[i] = 0;
        int last = path[i] == 0;
        fd = open_or_make(root, (int)parent, part, part + from, !last || a[2], last ? a[3] : 0755);
        nsb_sys1(SYS_close, parent);
        parent = fd;
        part[i] = path[i];
        from = i + 1;
    }
    return parent;
}

/* write_file(dirfd, path, data): one write; the kernel's control files take no other. */
long nsb_write_file(const long *a)
{
    const struct nsb_bytes *data = (const struct nsb_bytes *)a[2];
    long fd = nsb_sys4(SYS_openat, a[0], a[1], O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return fd;
    long n = nsb_sys3(SYS_write, fd, data->at, data->n);
    nsb_sys1(SYS_close, fd);
    if (n < 0) return n;
    return n == data->n ? 0 : -EIO;
}

/* close_fds(keep): closes every descriptor that is not in the ascending list. */
long nsb_close_fds(const long *a)
{
    const struct nsb_keep *keep = (const struct nsb_keep *)a[0];
    unsigned first = 0;
    for (int i = 0; i < keep->n; i++) {
        unsigned fd = (unsigned)keep->at[i];
        if (fd > first) {
            long err = nsb_sys3(SYS_close_range, first, fd - 1, 0);
            if (err < 0) return err;
        }
        first = fd + 1;
    }
    return nsb_sys3(SYS_close_range, first, ~0U, 0);
}

/* if_up(name): sets IFF_UP on a network interface of this namespace. */
long nsb_if_up(const long *a)
{
    struct ifreq req;
    const char *name = (const char *)a[0];
    size_t n = nsb_strlen(name);
    if (n >= IFNAMSIZ) return -ENAMETOOLONG;
    for (size_t i = 0; i <= n; i++) req.ifr_name[i] = name[i];
    long fd = nsb_sys3(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fd;
    long err = nsb_sys3(SYS_ioctl, fd, SIOCGIFFLAGS, &req);
    if (err == 0) {
        req.ifr_flags = (short)(req.ifr_flags | IFF_UP);
        err = nsb_sys3(SYS_ioctl, fd, SIOCSIFFLAGS, &req);
    }
    nsb_sys1(SYS_close, fd);
    return err;
}

/* same_file(fd, other): 0 if both are the same inode, else -ESTALE: the path was swapped meanwhile. */
long nsb_same_file(const long *a)
{
    struct statx one, two;
    long err = nsb_sys5(SYS_statx, a[0], "", AT_EMPTY_PATH, STATX_INO, &one);
    if (err == 0) err = nsb_sys5(SYS_statx, a[1], "", AT_EMPTY_PATH, STATX_INO, &two);
    if (err < 0) return err;
    int same = one.stx_ino == two.stx_ino && one.stx_dev_major == two.stx_dev_major &&
               one.stx_dev_minor == two.stx_dev_minor;
    return same ? 0 : -ESTALE;
}

/* other_mount(fd, path): 0 if the path is on another mount than the one that fd was opened through. Mounts
 * have new numbers in a new mount namespace. Else -EPROTO. */
long nsb_other_mount(const long *a)
{
    struct statx one, two;
    long err = nsb_sys5(SYS_statx, a[0], "", AT_EMPTY_PATH, STATX_MNT_ID, &one);
    if (err == 0) err = nsb_sys5(SYS_statx, AT_FDCWD, a[1], 0, STATX_MNT_ID, &two);
    if (err < 0) return err;
    return one.stx_mnt_id != two.stx_mnt_id ? 0 : -EPROTO;
}

static long in_bounding_set(unsigned cap) { return nsb_sys2(SYS_prctl, PR_CAPBSET_READ, cap); }

/* cap_bound(keep): drops every capability outside the mask from the bounding set. */
long nsb_cap_bound(const long *a)
{
    uint64_t keep = (uint64_t)a[0];
    for (unsigned cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1) continue;
        long err = nsb_sys2(SYS_prctl, PR_CAPBSET_DROP, cap);
        if (err == -EINVAL) return 0; /* beyond the kernel's last capability */
        if (err < 0) return err;
    }
    return 0;
}

static long read_bounding_set(uint64_t *set)
{
    *set = 0;
    for (unsigned cap = 0; cap < 64; cap++) {
        long in = in_bounding_set(cap);
        if (in == -EINVAL && cap > 0) break; /* beyond the kernel's last capability */
        if (in < 0) return in;
        *set |= (uint64_t)in << cap;
    }
    return 0;
}

/* 0 if the ambient set holds these and no other. */
static long check_ambient(uint64_t want)
{
    for (unsigned cap = 0; cap < 64; cap++) {
        long in = nsb_sys5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0);
        if (in == -EINVAL && cap > 0) break; /* beyond the kernel's last capability */
        if (in < 0) return in;
        if ((uint64_t)in != (want >> cap & 1)) return -EPROTO;
    }
    return 0;
}

/* check_caps(permitted, bounding, inheritable): reads the sets back. Effective must equal permitted, ambient
 * inheritable: an empty one needs no look, since the kernel makes inheritable its upper bound
 * (capabilities(7)). Permitted and bounding must hold nothing more than asked. Else -EPROTO. */
long nsb_check_caps(const long *a)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}};
    long err = nsb_sys2(SYS_capget, &head, data);
    if (err < 0) return err;
    uint64_t permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    uint64_t effective = data[0].effective | (uint64_t)data[1].effective << 32;
    uint64_t inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    uint64_t bounding;
    err = read_bounding_set(&bounding);
    if (err < 0) return err;
    if (permitted & ~(uint64_t)a[0] || effective != permitted || inheritable != (uint64_t)a[2])
        return -EPROTO;
    if (bounding & ~(uint64_t)a[1]) return -EPROTO;
    return inheritable ? check_ambient(inheritable) : 0;
}

static int in_list(const struct nsb_list *list, uint32_t id)
{
    for (long i = 0; i < list->n; i++)
        if (list->at[i] == id) return 1;
    return 0;
}

/* In a list that names each once; in what order the kernel answers depends on the ids outside. */
static long check_groups(const struct nsb_list *want)
{
    uint32_t group[NSB_MAXGROUPS];
    if (want->n < 0) return 0; /* groups could not be set: a single-id map denies setgroups */
    long n = nsb_sys2(SYS_getgroups, NSB_MAXGROUPS, group);
    if (n != want->n) return n < 0 && n != -EINVAL ? n : -EPROTO;
    for (long i = 0; i < n; i++)
        if (!in_list(want, group[i]) || (i > 0 && group[i] == group[i - 1])) return -EPROTO;
    return 0;
}

/* check_ids(uid, gid, groups): real, effective and saved ids and the groups are as asked, else -EPROTO. */
long nsb_check_ids(const long *a)
{
    uint32_t id[3];
    long err = nsb_sys3(SYS_getresuid, &id[0], &id[1], &id[2]);
    if (err < 0) return err;
    for (int i = 0; i < 3; i++)
        if (id[i] != (uint32_t)a[0]) return -EPROTO;
    err = nsb_sys3(SYS_getresgid, &id[0], &id[1], &id[2]);
    if (err < 0) return err;
    for (int i = 0; i < 3; i++)
        if (id[i] != (uint32_t)a[1]) return -EPROTO;
    return check_groups((const struct nsb_list *)a[2]);
}

/* raise_limit(resource, hard): the hard limit goes up to this, or stays where it is higher already. */
long nsb_raise_limit(const long *a)
{
    struct rlimit64 limit;
    long err = nsb_sys4(SYS_prlimit64, 0, a[0], 0, &limit);
    if (err < 0 || limit.rlim_max >= (rlim64_t)a[1]) return err;
    limit.rlim_max = (rlim64_t)a[1];
    return nsb_sys4(SYS_prlimit64, 0, a[0], &limit, 0);
}

/* check_rlimit(resource, soft, hard): the limits are these, else -EPROTO. */
long nsb_check_rlimit(const long *a)
{
    struct rlimit64 limit;
    long err = nsb_sys4(SYS_prlimit64, 0, a[0], 0, &limit);
    if (err < 0) return err;
    return limit.rlim_cur == (rlim64_t)a[1] && limit.rlim_max == (rlim64_t)a[2] ? 0 : -EPROTO;
}

/* check_affinity(mask): the process runs on these CPUs and no others, else -EPROTO. */
long nsb_check_affinity(const long *a)
{
    const struct nsb_bytes *want = (const struct nsb_bytes *)a[0];
    unsigned char mask[1024]; /* as many CPUs as a kernel can be built for */
    long n = nsb_sys3(SYS_sched_getaffinity, 0, sizeof mask, mask);
    if (n < 0) return n;
    for (long i = 0; i < n || i < want->n; i++) {
        unsigned char asked = i < want->n ? (unsigned char)want->at[i] : 0;
        if (asked != (i < n ? mask[i] : 0)) return -EPROTO;
    }
    return 0;
}
