/* floor.c: what a start costs at the least: floor [-s | -n COUNT ...] ROOT PROGRAM; see serve.h.
 *
 * The fewest and cheapest calls that isolate PROGRAM as nsbox.run("dir:ROOT", {PROGRAM}) does: the same
 * namespaces, mounts, devices, masks, ids and capabilities, written down by hand for this one case, from a
 * process that is tiny. What is not isolation is left out: plan, captured output, keeper, reading back.
 * ROOT needs the folders proc, dev and sys. Works as root and as anyone else. */
#include "raw.h"
#include "serve.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
    STACK = 32768,
    CONTAIN = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
              CLONE_NEWCGROUP,
    SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC,
};

static const char *root, *program;
static int privileged;
static uint32_t mapped; /* futex: the ids are mapped */
static char upper[512], work[512], overlay[1200], user_map[64], group_map[64];
static char stack[STACK] __attribute__((aligned(16)));

#define BIT(cap) (1ULL << (cap))
static const uint64_t kept_capabilities =
    BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_KILL) |
    BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_NET_RAW) |
    BIT(CAP_SYS_CHROOT) | BIT(CAP_MKNOD) | BIT(CAP_AUDIT_WRITE) | BIT(CAP_SETFCAP);

/* The first call of the child that failed. It shares our memory, but has no libc: errno is ours. */
static struct {
    const char *call, *on;
    long err;
} failure;

static void check(const char *call, const char *on, long answer)
{
    if (answer >= 0) return;
    failure.call = call;
    failure.on = on;
    failure.err = -answer;
    nsb_sys1(SYS_exit_group, BROKEN);
}

/* ---- what this machine has; found once, before the first start ---- */

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const char *const hidden_files[] = {"interrupts",  "kcore",      "keys",       "latency_stats",
                                           "sched_debug", "timer_list", "timer_stats"};
static const char *const hidden_folders[] = {"proc/acpi", "proc/asound", "proc/scsi",
                                             "sys/devices/virtual/powercap", "sys/firmware"};
static const char *const read_only[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};

enum { LENGTH = 64, MAX = 16 };
#define COUNT(list) ((int)(sizeof(list) / sizeof(list)[0]))

struct paths {
    int n;
    char at[MAX][LENGTH];
};
static struct paths files, folders, protected, nodes, sources;
static int last_capability;

static void add(struct paths *p, const char *folder, const char *name)
{
    snprintf(p->at[p->n++], LENGTH, "%s%s", folder, name);
}

/* Those of the names that exist on the host: the box's own proc and sys have the same. */
static void find(struct paths *p, const char *folder, const char *const *names, int n)
{
    char path[LENGTH];
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "/%s%s", folder, names[i]);
        if (access(path, F_OK) == 0) add(p, folder, names[i]);
    }
}

static void look_around(void)
{
    privileged = geteuid() == 0;
    find(&files, "proc/", hidden_files, COUNT(hidden_files));
    find(&folders, "", hidden_folders, COUNT(hidden_folders));
    find(&protected, "proc/", read_only, COUNT(read_only));
    for (int i = 0; i < COUNT(devices); i++) {
        add(&nodes, "dev/", devices[i]);
        add(&sources, "/dev/", devices[i]);
    }
    while (prctl(PR_CAPBSET_READ, last_capability) >= 0) last_capability++;
}

/* ---- the child: raw calls only ---- */

static void mount_on(const char *source, const char *target, const char *type, unsigned long flags,
                     const char *data)
{
    check("mount", target, nsb_sys5(SYS_mount, source, target, type, flags, data));
}

/* The owner maps the ids while the child does what needs none. */
static void wait_for_ids(void)
{
    while (!__atomic_load_n(&mapped, __ATOMIC_ACQUIRE)) {
        long e = nsb_sys4(SYS_futex, &mapped, FUTEX_WAIT_PRIVATE, 0, 0);
        if (e != -EAGAIN && e != -EINTR) check("futex", "ids", e);
    }
}

static void loopback_up(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_ifru.ifru_flags = IFF_UP};
    long s = nsb_sys3(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check("socket", "lo", s);
    check("ioctl", "lo", nsb_sys3(SYS_ioctl, s, SIOCSIFFLAGS, &lo));
}

/* The image below, memory above. The working directory stays below the tmpfs: it is the lower layer. */
static void new_root(void)
{
    check("chdir", root, nsb_sys1(SYS_chdir, root));
    mount_on("layer", root, "tmpfs", 0, "mode=0755");
    check("mkdir", upper, nsb_sys3(SYS_mkdirat, AT_FDCWD, upper, 0755));
    check("mkdir", work, nsb_sys3(SYS_mkdirat, AT_FDCWD, work, 0755));
    mount_on("overlay", root, "overlay", 0, overlay);
    check("chdir", root, nsb_sys1(SYS_chdir, root));
}

static void make_devices(void)
{
    for (int i = 0; i < nodes.n; i++) {
        check("mknod", nodes.at[i], nsb_sys4(SYS_mknodat, AT_FDCWD, nodes.at[i], S_IFREG | 0666, 0));
        mount_on(sources.at[i], nodes.at[i], NULL, MS_BIND, NULL);
    }
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                           {"/proc/self/fd/0", "dev/stdin"},
                                           {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"},
                                           {"pts/ptmx", "dev/ptmx"}};
    for (int i = 0; i < COUNT(links); i++)
        check("symlink", links[i][1], nsb_sys3(SYS_symlinkat, links[i][0], AT_FDCWD, links[i][1]));
}

static void mount_all(void)
{
    mount_on("proc", "proc", "proc", SAFE, NULL);
    mount_on("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_STRICTATIME, "mode=755,size=65536k");
    make_devices();
    check("mkdir", "dev/pts", nsb_sys3(SYS_mkdirat, AT_FDCWD, "dev/pts", 0755));
    mount_on("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
             privileged ? "gid=5,mode=0620,ptmxmode=0666" : "mode=0620,ptmxmode=0666");
    check("mkdir", "dev/shm", nsb_sys3(SYS_mkdirat, AT_FDCWD, "dev/shm", 0755));
    mount_on("shm", "dev/shm", "tmpfs", SAFE, "mode=1777,size=65536k");
    mount_on("sysfs", "sys", "sysfs", SAFE | MS_RDONLY, NULL);
}

/* All hidden folders show the first one's empty file system. */
static void hide(void)
{
    for (int i = 0; i < files.n; i++) mount_on("/dev/null", files.at[i], NULL, MS_BIND, NULL);
    if (folders.n) mount_on("tmpfs", folders.at[0], "tmpfs", SAFE | MS_RDONLY, "size=0k");
    for (int i = 1; i < folders.n; i++) mount_on(folders.at[0], folders.at[i], NULL, MS_BIND, NULL);
    for (int i = 0; i < protected.n; i++) {
        mount_on(protected.at[i], protected.at[i], NULL, MS_BIND | MS_REC, NULL);
        mount_on(NULL, protected.at[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | SAFE, NULL);
    }
}

static void enter(void)
{
    check("pivot_root", ".", nsb_sys2(SYS_pivot_root, ".", "."));
    check("umount2", ".", nsb_sys2(SYS_umount2, ".", MNT_DETACH));
}

/* In a new user namespace the ids are 0 already, and nothing is inheritable or ambient. */
static void drop_privileges(void)
{
    for (int cap = 0; cap < last_capability; cap++)
        if (!(kept_capabilities >> cap & 1))
            check("prctl", "capbset_drop", nsb_sys2(SYS_prctl, PR_CAPBSET_DROP, cap));
    if (privileged) check("setgroups", "", nsb_sys2(SYS_setgroups, 0, NULL));
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)kept_capabilities, (uint32_t)kept_capabilities, 0},
                                             {0, 0, 0}};
    check("capset", "", nsb_sys2(SYS_capset, &head, data));
    check("prctl", "no_new_privs", nsb_sys5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static int child(void *unused)
{
    (void)unused;
    static const char *const environment[] = {"HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    const char *const command[] = {program, NULL};
    check("close_range", "", nsb_sys3(SYS_close_range, 3, ~0U, 0));
    check("sethostname", "floor", nsb_sys2(SYS_sethostname, "floor", 5));
    loopback_up();
    wait_for_ids();
    new_root();
    mount_all();
    hide();
    enter();
    check("setsid", "", nsb_sys0(SYS_setsid));
    drop_privileges();
    check("execve", program, nsb_sys3(SYS_execve, program, command, environment));
    return BROKEN;
}

/* ---- the owner ---- */

static void put(pid_t pid, const char *file, const char *text)
{
    char path[LENGTH];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, text, strlen(text)) >= 0 && close(fd) == 0) return;
    warn("%s", path);
    kill(pid, SIGKILL);
    exit(BROKEN);
}

/* Root maps all ids as they are; others map their own onto root, and have to give up setgroups. */
static void map_ids(pid_t pid)
{
    if (!privileged) put(pid, "setgroups", "deny");
    put(pid, "uid_map", user_map);
    put(pid, "gid_map", group_map);
    __atomic_store_n(&mapped, 1, __ATOMIC_RELEASE);
    long e = nsb_sys3(SYS_futex, &mapped, FUTEX_WAKE_PRIVATE, 1);
    if (e < 0) errx(BROKEN, "futex: %s", strerror((int)-e));
}

static int start(void)
{
    struct clone_args args = {.flags = CLONE_VM | CONTAIN,
                              .exit_signal = SIGCHLD,
                              .stack = (uint64_t)(uintptr_t)stack,
                              .stack_size = STACK};
    int status;
    mapped = 0;
    failure.err = 0;
    long pid = nsb_clone3(&args, child, NULL);
    if (pid < 0) errx(BROKEN, "clone3: %s", strerror((int)-pid));
    map_ids((pid_t)pid);
    if (waitpid((pid_t)pid, &status, 0) != pid) err(BROKEN, "waitpid");
    if (failure.err) errx(BROKEN, "%s %s: %s", failure.call, failure.on, strerror((int)failure.err));
    return status;
}

static void prepare(char **argv)
{
    char *real = realpath(argv[0], NULL);
    if (!real) err(BROKEN, "%s", argv[0]);
    root = real;
    program = argv[1];
    if (strpbrk(root, ",:\\")) errx(BROKEN, "%s: a name without , : and \\ expected", root);
    snprintf(upper, sizeof upper, "%s/upper", root);
    snprintf(work, sizeof work, "%s/work", root);
    snprintf(overlay, sizeof overlay, "lowerdir=.,upperdir=%s,workdir=%s,userxattr", upper, work);
    snprintf(user_map, sizeof user_map, privileged ? "0 0 4294967295\n" : "0 %u 1\n", geteuid());
    snprintf(group_map, sizeof group_map, privileged ? "0 0 4294967295\n" : "0 %u 1\n", getegid());
}

int main(int argc, char **argv)
{
    struct mode m = options(argc, argv);
    if (argc - optind != 2) errx(BROKEN, "usage: floor [-s | -n COUNT [-p MS] [-o FILE]] ROOT PROGRAM");
    look_around();
    prepare(argv + optind);
    return serve(m, start);
}
