/* const.c: one line per constant; a new one is a new word. */
#include "const.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h> /* RENAME_* */
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* Newer than the oldest headers we build with. */
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define MKPATH_FILE 0
#define MKPATH_DIR 1

/* Values that carry another name in C than in a flag list. */
#define TREE_CLONE OPEN_TREE_CLONE
#define TREE_CLOEXEC OPEN_TREE_CLOEXEC
#define TREE_RECURSIVE AT_RECURSIVE
#define TREE_EMPTY_PATH AT_EMPTY_PATH
#define TREE_NO_AUTOMOUNT AT_NO_AUTOMOUNT
#define TREE_SYMLINK_NOFOLLOW AT_SYMLINK_NOFOLLOW

#define K(prefix, word) {#word, prefix##word},
#define BIT(prefix, word) {#word, 1L << prefix##word},

static const struct nsb_const ms[] = {
    K(MS_, RDONLY) K(MS_, NOSUID) K(MS_, NODEV) K(MS_, NOEXEC) K(MS_, SYNCHRONOUS) K(MS_, REMOUNT)
        K(MS_, MANDLOCK) K(MS_, DIRSYNC) K(MS_, NOSYMFOLLOW) K(MS_, NOATIME) K(MS_, NODIRATIME) K(MS_, BIND)
            K(MS_, MOVE) K(MS_, REC) K(MS_, SILENT) K(MS_, UNBINDABLE) K(MS_, PRIVATE) K(MS_, SLAVE)
                K(MS_, SHARED) K(MS_, RELATIME) K(MS_, STRICTATIME) K(MS_, LAZYTIME)};

static const struct nsb_const mnt[] = {K(MNT_, FORCE) K(MNT_, DETACH) K(MNT_, EXPIRE)};

static const struct nsb_const clone_[] = {
    K(CLONE_, VM) K(CLONE_, FS) K(CLONE_, FILES) K(CLONE_, SIGHAND) K(CLONE_, PIDFD) K(CLONE_, PTRACE)
        K(CLONE_, VFORK) K(CLONE_, PARENT) K(CLONE_, THREAD) K(CLONE_, NEWNS) K(CLONE_, SYSVSEM)
            K(CLONE_, SETTLS) K(CLONE_, PARENT_SETTID) K(CLONE_, CHILD_CLEARTID) K(CLONE_, UNTRACED)
                K(CLONE_, CHILD_SETTID) K(CLONE_, NEWCGROUP) K(CLONE_, NEWUTS) K(CLONE_, NEWIPC)
                    K(CLONE_, NEWUSER) K(CLONE_, NEWPID) K(CLONE_, NEWNET) K(CLONE_, NEWTIME) K(CLONE_, IO)};

static const struct nsb_const sig[] = {
    K(SIG, HUP) K(SIG, INT) K(SIG, QUIT) K(SIG, ILL) K(SIG, TRAP) K(SIG, ABRT) K(SIG, BUS) K(SIG, FPE)
        K(SIG, KILL) K(SIG, USR1) K(SIG, SEGV) K(SIG, USR2) K(SIG, PIPE) K(SIG, ALRM) K(SIG, TERM)
            K(SIG, CHLD) K(SIG, CONT) K(SIG, STOP) K(SIG, TSTP) K(SIG, TTIN) K(SIG, TTOU) K(SIG, URG)
                K(SIG, XCPU) K(SIG, XFSZ) K(SIG, VTALRM) K(SIG, PROF) K(SIG, WINCH) K(SIG, IO) K(SIG, PWR)
                    K(SIG, SYS)};

static const struct nsb_const at[] = {K(AT_, EMPTY_PATH) K(AT_, RECURSIVE) K(AT_, SYMLINK_NOFOLLOW)
                                          K(AT_, REMOVEDIR) K(AT_, NO_AUTOMOUNT) K(AT_, SYMLINK_FOLLOW)};

static const struct nsb_const o[] = {K(O_, RDONLY) K(O_, WRONLY) K(O_, RDWR) K(O_, CREAT) K(O_, EXCL)
                                         K(O_, NOCTTY) K(O_, TRUNC) K(O_, APPEND) K(O_, NONBLOCK) K(O_, SYNC)
                                             K(O_, DSYNC) K(O_, DIRECTORY) K(O_, NOFOLLOW) K(O_, CLOEXEC)
                                                 K(O_, PATH) K(O_, TMPFILE) K(O_, DIRECT) K(O_, NOATIME)};

static const struct nsb_const resolve[] = {K(RESOLVE_, NO_XDEV) K(RESOLVE_, NO_MAGICLINKS) K(
    RESOLVE_, NO_SYMLINKS) K(RESOLVE_, BENEATH) K(RESOLVE_, IN_ROOT) K(RESOLVE_, CACHED)};

static const struct nsb_const mount_attr[] = {
    K(MOUNT_ATTR_, RDONLY) K(MOUNT_ATTR_, NOSUID) K(MOUNT_ATTR_, NODEV) K(MOUNT_ATTR_, NOEXEC)
        K(MOUNT_ATTR_, NOATIME) K(MOUNT_ATTR_, STRICTATIME) K(MOUNT_ATTR_, NODIRATIME) K(MOUNT_ATTR_, IDMAP)
            K(MOUNT_ATTR_, NOSYMFOLLOW)};

static const struct nsb_const tree[] = {K(TREE_, CLONE) K(TREE_, CLOEXEC) K(TREE_, RECURSIVE) K(
    TREE_, EMPTY_PATH) K(TREE_, NO_AUTOMOUNT) K(TREE_, SYMLINK_NOFOLLOW)};

static const struct nsb_const move[] = {K(MOVE_MOUNT_, F_SYMLINKS) K(MOVE_MOUNT_, F_AUTOMOUNTS)
                                            K(MOVE_MOUNT_, F_EMPTY_PATH) K(MOVE_MOUNT_, T_SYMLINKS)
                                                K(MOVE_MOUNT_, T_AUTOMOUNTS) K(MOVE_MOUNT_, T_EMPTY_PATH)};

static const struct nsb_const fsopen_[] = {K(FSOPEN_, CLOEXEC)};
static const struct nsb_const fsmount_[] = {K(FSMOUNT_, CLOEXEC)};
static const struct nsb_const fspick_[] = {K(FSPICK_, CLOEXEC) K(FSPICK_, SYMLINK_NOFOLLOW)
                                               K(FSPICK_, NO_AUTOMOUNT) K(FSPICK_, EMPTY_PATH)};

static const struct nsb_const fsconfig_[] = {K(FSCONFIG_, SET_FLAG) K(FSCONFIG_, SET_STRING) K(
    FSCONFIG_, SET_BINARY) K(FSCONFIG_, SET_PATH) K(FSCONFIG_, SET_PATH_EMPTY) K(FSCONFIG_, SET_FD)
                                                 K(FSCONFIG_, CMD_CREATE) K(FSCONFIG_, CMD_RECONFIGURE)};

static const struct nsb_const pr[] = {
    K(PR_, SET_PDEATHSIG) K(PR_, GET_PDEATHSIG) K(PR_, SET_DUMPABLE) K(PR_, GET_DUMPABLE) K(PR_, SET_KEEPCAPS)
        K(PR_, GET_KEEPCAPS) K(PR_, SET_NAME) K(PR_, SET_CHILD_SUBREAPER) K(PR_, GET_CHILD_SUBREAPER)
            K(PR_, SET_NO_NEW_PRIVS) K(PR_, GET_NO_NEW_PRIVS) K(PR_, CAPBSET_READ) K(PR_, CAPBSET_DROP)
                K(PR_, SET_SECUREBITS) K(PR_, GET_SECUREBITS) K(PR_, CAP_AMBIENT)};

static const struct nsb_const rlimit_[] = {
    K(RLIMIT_, CPU) K(RLIMIT_, FSIZE) K(RLIMIT_, DATA) K(RLIMIT_, STACK) K(RLIMIT_, CORE) K(RLIMIT_, RSS)
        K(RLIMIT_, NPROC) K(RLIMIT_, NOFILE) K(RLIMIT_, MEMLOCK) K(RLIMIT_, AS) K(RLIMIT_, LOCKS)
            K(RLIMIT_, SIGPENDING) K(RLIMIT_, MSGQUEUE) K(RLIMIT_, NICE) K(RLIMIT_, RTPRIO)
                K(RLIMIT_, RTTIME)};

/* As masks, so that sets are flag lists. */
static const struct nsb_const cap[] = {
    BIT(CAP_, CHOWN) BIT(CAP_, DAC_OVERRIDE) BIT(CAP_, DAC_READ_SEARCH) BIT(CAP_, FOWNER) BIT(CAP_, FSETID)
        BIT(CAP_, KILL) BIT(CAP_, SETGID) BIT(CAP_, SETUID) BIT(CAP_, SETPCAP) BIT(CAP_, LINUX_IMMUTABLE)
            BIT(CAP_, NET_BIND_SERVICE) BIT(CAP_, NET_BROADCAST) BIT(CAP_, NET_ADMIN) BIT(CAP_, NET_RAW)
                BIT(CAP_, IPC_LOCK) BIT(CAP_, IPC_OWNER) BIT(CAP_, SYS_MODULE) BIT(CAP_, SYS_RAWIO)
                    BIT(CAP_, SYS_CHROOT) BIT(CAP_, SYS_PTRACE) BIT(CAP_, SYS_PACCT) BIT(CAP_, SYS_ADMIN)
                        BIT(CAP_, SYS_BOOT) BIT(CAP_, SYS_NICE) BIT(CAP_, SYS_RESOURCE) BIT(CAP_, SYS_TIME)
                            BIT(CAP_, SYS_TTY_CONFIG) BIT(CAP_, MKNOD) BIT(CAP_, LEASE) BIT(CAP_, AUDIT_WRITE)
                                BIT(CAP_, AUDIT_CONTROL) BIT(CAP_, SETFCAP) BIT(CAP_, MAC_OVERRIDE)
                                    BIT(CAP_, MAC_ADMIN) BIT(CAP_, SYSLOG) BIT(CAP_, WAKE_ALARM)
                                        BIT(CAP_, BLOCK_SUSPEND) BIT(CAP_, AUDIT_READ) BIT(CAP_, PERFMON)
                                            BIT(CAP_, BPF) BIT(CAP_, CHECKPOINT_RESTORE)};

static const struct nsb_const rename_[] = {K(RENAME_, NOREPLACE) K(RENAME_, EXCHANGE) K(RENAME_, WHITEOUT)};
static const struct nsb_const mfd[] = {K(MFD_, CLOEXEC) K(MFD_, ALLOW_SEALING)};
static const struct nsb_const lock[] = {K(LOCK_, SH) K(LOCK_, EX) K(LOCK_, NB) K(LOCK_, UN)};
static const struct nsb_const lck[] = {K(F_, RDLCK) K(F_, WRLCK) K(F_, UNLCK)};
static const struct nsb_const close_range_[] = {K(CLOSE_RANGE_, UNSHARE) K(CLOSE_RANGE_, CLOEXEC)};
static const struct nsb_const mkpath_[] = {K(MKPATH_, FILE) K(MKPATH_, DIR)};
static const struct nsb_const mode_[] = {K(S_, IFMT) K(S_, IFSOCK) K(S_, IFLNK) K(S_, IFREG) K(S_, IFBLK) K(
    S_, IFDIR) K(S_, IFCHR) K(S_, IFIFO) K(S_, ISUID) K(S_, ISGID) K(S_, ISVTX)};

static const struct nsb_const err[] = {
    K(E, PERM) K(E, NOENT) K(E, SRCH) K(E, INTR) K(E, IO) K(E, NXIO) K(E, 2BIG) K(E, NOEXEC) K(E, BADF)
        K(E, CHILD) K(E, AGAIN) K(E, NOMEM) K(E, ACCES) K(E, FAULT) K(E, NOTBLK) K(E, BUSY) K(E, EXIST)
            K(E, XDEV) K(E, NODEV) K(E, NOTDIR) K(E, ISDIR) K(E, INVAL) K(E, NFILE) K(E, MFILE) K(E, NOTTY)
                K(E, TXTBSY) K(E, FBIG) K(E, NOSPC) K(E, SPIPE) K(E, ROFS) K(E, MLINK) K(E, PIPE) K(E, DOM)
                    K(E, RANGE) K(E, DEADLK) K(E, NAMETOOLONG) K(E, NOLCK) K(E, NOSYS) K(E, NOTEMPTY)
                        K(E, LOOP) K(E, NODATA) K(E, TIME) K(E, PROTO) K(E, BADMSG) K(E, OVERFLOW) K(E, USERS)
                            K(E, LIBBAD) K(E, ILSEQ) K(E, NOTSOCK) K(E, PROTOTYPE) K(E, OPNOTSUPP)
                                K(E, ADDRINUSE) K(E, ADDRNOTAVAIL) K(E, NETDOWN) K(E, CONNREFUSED)
                                    K(E, CONNRESET) K(E, NOTCONN) K(E, TIMEDOUT) K(E, MSGSIZE) K(E, ALREADY)
                                        K(E, INPROGRESS) K(E, STALE) K(E, DQUOT) K(E, CANCELED)
                                            K(E, KEYREJECTED) K(E, NOKEY)};

#define G(name, prefix, list)                            \
    {                                                    \
        name, prefix, list, sizeof list / sizeof list[0] \
    }

const struct nsb_group nsb_groups[] = {
    G("MS", "MS_", ms),
    G("MNT", "MNT_", mnt),
    G("CLONE", "CLONE_", clone_),
    G("SIG", "SIG", sig),
    G("AT", "AT_", at),
    G("O", "O_", o),
    G("RESOLVE", "RESOLVE_", resolve),
    G("MOUNT_ATTR", "MOUNT_ATTR_", mount_attr),
    G("OPEN_TREE", "OPEN_TREE_", tree),
    G("MOVE_MOUNT", "MOVE_MOUNT_", move),
    G("FSOPEN", "FSOPEN_", fsopen_),
    G("FSMOUNT", "FSMOUNT_", fsmount_),
    G("FSPICK", "FSPICK_", fspick_),
    G("FSCONFIG", "FSCONFIG_", fsconfig_),
    G("PR", "PR_", pr),
    G("RLIMIT", "RLIMIT_", rlimit_),
    G("CAP", "CAP_", cap),
    G("RENAME", "RENAME_", rename_),
    G("MFD", "MFD_", mfd),
    G("LOCK", "LOCK_", lock),
    G("LCK", "F_", lck),
    G("CLOSE_RANGE", "CLOSE_RANGE_", close_range_),
    G("MKPATH", "MKPATH_", mkpath_),
    G("S", "S_", mode_),
    G("E", "E", err),
};

const unsigned nsb_ngroups = sizeof nsb_groups / sizeof nsb_groups[0];
