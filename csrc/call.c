/* call.c: the table of calls. Child-safe: raw system calls, no libc state, no memory but the stack. */
#include "call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

static long call_mkdir(const long *a) { return nsb_sys3(SYS_mkdirat, AT_FDCWD, a[0], a[1]); }

static long call_mknod(const long *a) { return nsb_sys4(SYS_mknodat, AT_FDCWD, a[0], a[1], a[2]); }

static long call_symlink(const long *a) { return nsb_sys3(SYS_symlinkat, a[0], AT_FDCWD, a[1]); }

static long call_unlink(const long *a) { return nsb_sys3(SYS_unlinkat, AT_FDCWD, a[0], 0); }

static long call_rmdir(const long *a) { return nsb_sys3(SYS_unlinkat, AT_FDCWD, a[0], AT_REMOVEDIR); }

static long call_rename(const long *a)
{
    return nsb_sys5(SYS_renameat2, AT_FDCWD, a[0], AT_FDCWD, a[1], a[2]);
}

static long call_link(const long *a) { return nsb_sys5(SYS_linkat, AT_FDCWD, a[0], AT_FDCWD, a[1], 0); }

static long call_chmod(const long *a) { return nsb_sys3(SYS_fchmodat, AT_FDCWD, a[0], a[1]); }

static long call_chown(const long *a) { return nsb_sys5(SYS_fchownat, AT_FDCWD, a[0], a[1], a[2], 0); }

static long call_lchown(const long *a)
{
    return nsb_sys5(SYS_fchownat, AT_FDCWD, a[0], a[1], a[2], AT_SYMLINK_NOFOLLOW);
}

static long call_open(const long *a) { return nsb_sys4(SYS_openat, AT_FDCWD, a[0], a[1] | O_CLOEXEC, a[2]); }

static long call_openat(const long *a) { return nsb_sys4(SYS_openat, a[0], a[1], a[2] | O_CLOEXEC, a[3]); }

static long call_openat2(const long *a)
{
    struct nsb_open_how how = {(uint64_t)(a[2] | O_CLOEXEC), (uint64_t)a[3], (uint64_t)a[4]};
    return nsb_sys4(SYS_openat2, a[0], a[1], &how, sizeof how);
}

static long call_sethostname(const long *a)
{
    return nsb_sys2(SYS_sethostname, a[0], nsb_strlen((const char *)a[0]));
}

static long call_setdomainname(const long *a)
{
    return nsb_sys2(SYS_setdomainname, a[0], nsb_strlen((const char *)a[0]));
}

static long call_setgroups(const long *a)
{
    const struct nsb_list *l = (const struct nsb_list *)a[0];
    return nsb_sys2(SYS_setgroups, l->n, l->at);
}

static long call_setrlimit(const long *a)
{
    struct rlimit64 limit = {(rlim64_t)a[1], (rlim64_t)a[2]};
    return nsb_sys4(SYS_prlimit64, 0, a[0], &limit, 0);
}

static long call_sched_setaffinity(const long *a)
{
    const struct nsb_bytes *mask = (const struct nsb_bytes *)a[0];
    return nsb_sys3(SYS_sched_setaffinity, 0, mask->n, mask->at);
}

static long call_capset(const long *a)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        data[i].permitted = (uint32_t)((uint64_t)a[0] >> (32 * i));
        data[i].effective = (uint32_t)((uint64_t)a[1] >> (32 * i));
        data[i].inheritable = (uint32_t)((uint64_t)a[2] >> (32 * i));
    }
    return nsb_sys2(SYS_capset, &head, data);
}

static long call_open_tree(const long *a) { return nsb_sys3(SYS_open_tree, a[0], a[1], a[2] | O_CLOEXEC); }

static long call_mount_setattr(const long *a)
{
    struct nsb_mount_attr attr = {(uint64_t)a[3], (uint64_t)a[4], (uint64_t)a[5],
                                  a[6] < 0 ? 0 : (uint64_t)a[6]};
    return nsb_sys5(SYS_mount_setattr, a[0], a[1], a[2], &attr, sizeof attr);
}

static long call_fsopen(const long *a) { return nsb_sys2(SYS_fsopen, a[0], a[1] | FSOPEN_CLOEXEC); }

static long call_fspick(const long *a) { return nsb_sys3(SYS_fspick, a[0], a[1], a[2] | FSPICK_CLOEXEC); }

static long call_fsmount(const long *a) { return nsb_sys3(SYS_fsmount, a[0], a[1] | FSMOUNT_CLOEXEC, a[2]); }

static long call_pidfd_send_signal(const long *a)
{
    return nsb_sys4(SYS_pidfd_send_signal, a[0], a[1], 0, 0);
}

static long call_pidfd_getfd(const long *a) { return nsb_sys3(SYS_pidfd_getfd, a[0], a[1], 0); }

static long call_dup3(const long *a) { return nsb_sys3(SYS_dup3, a[0], a[1], a[2]); }

static long call_ioctl_winsize(const long *a)
{
    struct winsize size = {(unsigned short)a[1], (unsigned short)a[2], 0, 0};
    return nsb_sys3(SYS_ioctl, a[0], TIOCSWINSZ, &size);
}

/* The kernel reads the lock's new state through a pointer. */
static long call_ioctl_unlockpt(const long *a)
{
    int locked = 0;
    return nsb_sys3(SYS_ioctl, a[0], TIOCSPTLCK, &locked);
}

static long call_ioctl_ptpeer(const long *a)
{
    return nsb_sys3(SYS_ioctl, a[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static long call_ioctl_sctty(const long *a) { return nsb_sys3(SYS_ioctl, a[0], TIOCSCTTY, 0); }

static long call_ioctl_nclex(const long *a) { return nsb_sys2(SYS_ioctl, a[0], FIONCLEX); }

static long call_memfd_create(const long *a)
{
    return nsb_sys2(SYS_memfd_create, a[0], a[1] | 1 /* MFD_CLOEXEC */);
}

static long call_fsetxattr(const long *a)
{
    const struct nsb_bytes *v = (const struct nsb_bytes *)a[2];
    return nsb_sys5(SYS_fsetxattr, a[0], a[1], v->at, v->n, 0);
}

static long call_write(const long *a)
{
    const struct nsb_bytes *v = (const struct nsb_bytes *)a[1];
    return nsb_sys3(SYS_write, a[0], v->at, v->n);
}

/* A lock of the open file description, which the kernel gives back with its last descriptor. */
static long call_fcntl_ofd_setlk(const long *a)
{
    struct flock lock = {.l_type = (short)a[1], .l_whence = 0, .l_start = a[2], .l_len = a[3]};
    return nsb_sys3(SYS_fcntl, a[0], F_OFD_SETLK, &lock);
}

/* R: the arguments are the kernel's own. C: call_NAME above. H: a helper row. */
#define R(name, sig, ret)              \
    {                                  \
#name, sig, SYS_##name, 0, ret \
    }
#define C(name, sig, ret)               \
    {                                   \
#name, sig, 0, call_##name, ret \
    }
#define H(name, sig, ret)              \
    {                                  \
#name, sig, 0, nsb_##name, ret \
    }

const struct nsb_call nsb_calls[] = {
    R(mount, "source:S target:s! fstype:S flags:F(MS) data:S", NSB_NOTHING),
    R(umount2, "target:s! flags:F(MNT)", NSB_NOTHING),
    R(pivot_root, "new_root:s! put_old:s", NSB_NOTHING),
    R(chroot, "path:s!", NSB_NOTHING),
    R(chdir, "path:s!", NSB_NOTHING),
    R(fchdir, "fd:d", NSB_NOTHING),
    C(open_tree, "dirfd:D path:s! flags:F(OPEN_TREE)", NSB_DESCRIPTOR),
    R(move_mount, "from_dirfd:D from_path:s to_dirfd:D to_path:s! flags:F(MOVE_MOUNT)", NSB_NOTHING),
    C(mount_setattr,
      "dirfd:D path:s! flags:F(AT) attr_set:F(MOUNT_ATTR) attr_clr:F(MOUNT_ATTR) "
      "propagation:F(MS) userns_fd:d?",
      NSB_NOTHING),
    C(fsopen, "fsname:s! flags:F(FSOPEN)", NSB_DESCRIPTOR),
    R(fsconfig, "fd:d cmd:F(FSCONFIG) key:S! value:S aux:i", NSB_NOTHING),
    C(fsmount, "fd:d flags:F(FSMOUNT) attr:F(MOUNT_ATTR)", NSB_DESCRIPTOR),
    C(fspick, "dirfd:D path:s! flags:F(FSPICK)", NSB_DESCRIPTOR),

    C(mkdir, "path:s! mode:m", NSB_NOTHING),
    R(mkdirat, "dirfd:D path:s! mode:m", NSB_NOTHING),
    C(mknod, "path:s! mode:m dev:i", NSB_NOTHING),
    R(mknodat, "dirfd:D path:s! mode:m dev:i", NSB_NOTHING),
    C(symlink, "target:s linkpath:s!", NSB_NOTHING),
    R(symlinkat, "target:s dirfd:D linkpath:s!", NSB_NOTHING),
    C(link, "oldpath:s newpath:s!", NSB_NOTHING),
    C(unlink, "path:s!", NSB_NOTHING),
    C(rmdir, "path:s!", NSB_NOTHING),
    R(unlinkat, "dirfd:D path:s! flags:F(AT)", NSB_NOTHING),
    C(rename, "oldpath:s! newpath:s flags:F(RENAME)", NSB_NOTHING),
    C(chmod, "path:s! mode:m", NSB_NOTHING),
    R(fchmod, "fd:d mode:m", NSB_NOTHING),
    C(chown, "path:s! uid:i gid:i", NSB_NOTHING),
    C(lchown, "path:s! uid:i gid:i", NSB_NOTHING),
    R(fchown, "fd:d uid:i gid:i", NSB_NOTHING),
    R(umask, "mask:m", NSB_INTEGER),
    C(fsetxattr, "fd:d name:s! value:b", NSB_NOTHING),
    C(open, "path:s! flags:F(O) mode:m", NSB_DESCRIPTOR),
    C(openat, "dirfd:D path:s! flags:F(O) mode:m", NSB_DESCRIPTOR),
    C(openat2, "dirfd:D path:s! flags:F(O) mode:m resolve:F(RESOLVE)", NSB_DESCRIPTOR),
    C(memfd_create, "name:s! flags:F(MFD)", NSB_DESCRIPTOR),
    C(write, "fd:d data:b", NSB_INTEGER),
    C(dup3, "oldfd:d newfd:i flags:F(O)", NSB_INTEGER),
    R(flock, "fd:d operation:F(LOCK)", NSB_NOTHING),
    C(fcntl_ofd_setlk, "fd:d type:F(LCK) start:i len:i", NSB_NOTHING),
    R(close_range, "first:i last:i flags:F(CLOSE_RANGE)", NSB_NOTHING),
    C(ioctl_winsize, "fd:d rows:i cols:i", NSB_NOTHING),
    C(ioctl_unlockpt, "fd:d", NSB_NOTHING),
    C(ioctl_ptpeer, "fd:d", NSB_DESCRIPTOR),
    C(ioctl_sctty, "fd:d", NSB_NOTHING),
    C(ioctl_nclex, "fd:d", NSB_NOTHING),

    R(unshare, "flags:F(CLONE)", NSB_NOTHING),
    R(setns, "fd:d nstype:F(CLONE)", NSB_NOTHING),
    C(sethostname, "name:s!", NSB_NOTHING),
    C(setdomainname, "name:s!", NSB_NOTHING),
    R(setuid, "uid:i", NSB_NOTHING),
    R(setgid, "gid:i", NSB_NOTHING),
    R(setresuid, "ruid:i euid:i suid:i", NSB_NOTHING),
    R(setresgid, "rgid:i egid:i sgid:i", NSB_NOTHING),
    C(setgroups, "groups:L", NSB_NOTHING),
    C(setrlimit, "resource:F(RLIMIT) soft:i hard:i", NSB_NOTHING),
    R(setpriority, "which:i who:i prio:i", NSB_NOTHING),
    R(getpriority, "which:i who:i", NSB_INTEGER),
    C(sched_setaffinity, "mask:b", NSB_NOTHING),
    R(personality, "persona:i", NSB_INTEGER),
    R(prctl, "option:F(PR) arg2:F(SIG) arg3:i arg4:i arg5:i", NSB_INTEGER),
    C(capset, "permitted:F(CAP) effective:F(CAP) inheritable:F(CAP)", NSB_NOTHING),
    R(setsid, "", NSB_INTEGER),
    R(setpgid, "pid:i pgid:i", NSB_NOTHING),
    R(getpid, "", NSB_INTEGER),
    R(getppid, "", NSB_INTEGER),
    R(getuid, "", NSB_INTEGER),
    R(geteuid, "", NSB_INTEGER),
    R(getgid, "", NSB_INTEGER),
    R(getegid, "", NSB_INTEGER),
    R(kill, "pid:I sig:F(SIG)", NSB_NOTHING),
    R(pidfd_open, "pid:i flags:F(O)", NSB_DESCRIPTOR),
    C(pidfd_send_signal, "pidfd:d sig:F(SIG)", NSB_NOTHING),
    C(pidfd_getfd, "pidfd:d targetfd:i", NSB_DESCRIPTOR),

    H(mkpath, "dirfd:d path:s! kind:F(MKPATH) mode:m", NSB_DESCRIPTOR),
    H(write_file, "dirfd:D path:s! data:b", NSB_NOTHING),
    H(close_fds, "keep:K", NSB_NOTHING),
    H(if_up, "name:s!", NSB_NOTHING),
    H(same_file, "fd:d other:d", NSB_NOTHING),
    H(other_mount, "fd:d path:s!", NSB_NOTHING),
    H(cap_bound, "keep:F(CAP)", NSB_NOTHING),
    H(check_caps, "permitted:F(CAP) bounding:F(CAP) inheritable:F(CAP)", NSB_NOTHING),
    H(check_ids, "uid:i gid:i groups:L", NSB_NOTHING),
    H(raise_limit, "resource:F(RLIMIT) hard:i", NSB_NOTHING),
    H(check_rlimit, "resource:F(RLIMIT) soft:i hard:i", NSB_NOTHING),
    H(check_affinity, "mask:b", NSB_NOTHING),
};

const unsigned nsb_ncalls = sizeof nsb_calls / sizeof nsb_calls[0];

long nsb_perform(const struct nsb_call *call, const long *a)
{
    if (call->fn) return call->fn(a);
    return nsb_sys6(call->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}
