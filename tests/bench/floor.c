/*
 * The kernel's floor of a pod: what RunPodSandbox, CreateContainer, StartContainer and their reverse make the kernel do,
 * done by one process with nothing around it. No shim, no daemon, no parsing, no records but four small files.
 *
 *   floor DIRECTORY PROGRAM SAMPLES WORKERS
 *
 * DIRECTORY is on the file system that the runtimes use; PROGRAM is the static program that the container executes. Needs
 * root and a network namespace of its own. Prints one JSON line: nanoseconds of each sample, by what was done.
 */
#define _GNU_SOURCE
#include "floor.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <stdatomic.h>

enum { LAYERS = 3, FILTER = 90, MAX_HIERARCHIES = 16 };

struct hierarchy {
    char path[256];    /* of the mount */
    char controllers[64];
};

static struct hierarchy hierarchies[MAX_HIERARCHIES];
static int hierarchy_count;
static char base[256], group[64];
static int host_net, host_ipc, host_uts, host_pid, bridge;
static struct sock_filter filter[FILTER + 4];

struct pod {
    char name[32], directory[300];
    int net, ipc, uts, root;
    int tasks[MAX_HIERARCHIES];
    pid_t process;
};

/* ---- what happens once ---- */

static void read_hierarchies(void) {
    FILE *table = must_file(fopen("/proc/mounts", "r"), "/proc/mounts");
    char line[1024], path[256], kind[64], options[512];
    while (fgets(line, sizeof line, table)) {
        if (sscanf(line, "%*s %255s %63s %511s", path, kind, options) != 3 || hierarchy_count == MAX_HIERARCHIES)
            continue;
        if (strcmp(kind, "cgroup") != 0)
            continue;
        struct hierarchy *next = &hierarchies[hierarchy_count++];
        snprintf(next->path, sizeof next->path, "%s", path);
        const char *last = strrchr(path, '/');
        snprintf(next->controllers, sizeof next->controllers, "%s", last ? last + 1 : path);
    }
    fclose(table);
}

static void make_groups(void) {
    snprintf(group, sizeof group, "cringle-floor-%d", getpid());
    for (int i = 0; i < hierarchy_count; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", hierarchies[i].path, group);
        must(mkdir(path, 0755), path);
        if (strcmp(hierarchies[i].controllers, "cpuset") == 0) {
            put(path, "cpuset.cpus", "0");
            put(path, "cpuset.mems", "0");
        }
    }
}

static void remove_groups(void) {
    for (int i = 0; i < hierarchy_count; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", hierarchies[i].path, group);
        rmdir(path);
    }
}

static void make_layers(const char *program) {
    char path[400];
    for (int layer = 0; layer < LAYERS; layer++) {
        snprintf(path, sizeof path, "%s/layer%d", base, layer);
        must(mkdir(path, 0755), path);
        const char *inside[] = {"proc", "dev", "sys", "etc", "tmp"};
        for (unsigned i = 0; i < sizeof inside / sizeof *inside; i++) {
            snprintf(path, sizeof path, "%s/layer%d/%s", base, layer, inside[i]);
            must(mkdir(path, 0755), path);
        }
    }
    snprintf(path, sizeof path, "%s/layer0/program", base);
    copy(program, path, 0755);
}

/* As long as a compiled default profile; it allows all, so that the program runs. */
static void make_filter(void) {
    struct sock_filter *next = filter;
    *next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (int i = 0; i < FILTER; i++)
        *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2000 + i, 0, 0);
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
}

/* ---- RunPodSandbox ---- */

static void limit(const char *directory, const char *controllers) {
    if (strcmp(controllers, "memory") == 0)
        put(directory, "memory.limit_in_bytes", "134217728");
    if (strstr(controllers, "cpu") == controllers && strstr(controllers, "cpuset") != controllers &&
        strcmp(controllers, "cpuacct") != 0)
        put(directory, "cpu.shares", "512");
    if (strcmp(controllers, "cpuset") == 0) {
        put(directory, "cpuset.cpus", "0");
        put(directory, "cpuset.mems", "0");
    }
    if (strcmp(controllers, "devices") == 0) {
        const char *allowed[] = {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
                                 "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
        put(directory, "devices.deny", "a");
        for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
            put(directory, "devices.allow", allowed[i]);
    }
}

static void group_path(char *path, size_t size, int i, const struct pod *pod, const char *rest) {
    snprintf(path, size, "%s/%s/%s%s", hierarchies[i].path, group, pod->name, rest);
}

static void run(struct pod *pod, unsigned number) {
    char path[600];
    for (int i = 0; i < hierarchy_count; i++) {
        group_path(path, sizeof path, i, pod, "");
        must(mkdir(path, 0755), path);
        if (strcmp(hierarchies[i].controllers, "cpuset") == 0)
            limit(path, "cpuset");
    }
    must(unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare");
    must(sethostname(pod->name, strlen(pod->name)), "sethostname");
    pod->net = must(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "net");
    pod->ipc = must(open("/proc/thread-self/ns/ipc", O_RDONLY | O_CLOEXEC), "ipc");
    pod->uts = must(open("/proc/thread-self/ns/uts", O_RDONLY | O_CLOEXEC), "uts");
    int inside = netlink_open();
    must(setns(host_net, CLONE_NEWNET), "setns");
    must(setns(host_ipc, CLONE_NEWIPC), "setns");
    must(setns(host_uts, CLONE_NEWUTS), "setns");
    int outside = netlink_open();
    netlink_pair(outside, pod->name, bridge, pod->net);
    netlink_configure(inside, number);
    close(inside);
    close(outside);
    must(mkdir(pod->directory, 0755), pod->directory);
    const char *files[] = {"hosts", "hostname", "resolv.conf", "record"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/dev/shm/%s-%s", pod->name, files[i]);
        write_file(path, i == 3 ? 1500 : 120);
    }
}

/* ---- CreateContainer ---- */

static int overlay(const struct pod *pod) {
    char upper[600], work[600], lower[1200] = "", path[400];
    snprintf(upper, sizeof upper, "%s/upper", pod->directory);
    snprintf(work, sizeof work, "%s/work", pod->directory);
    must(mkdir(upper, 0755), upper);
    must(mkdir(work, 0755), work);
    int context = must(fs_open("overlay"), "fsopen overlay");
    for (int layer = 0; layer < LAYERS; layer++) {
        snprintf(path, sizeof path, "%s/layer%d", base, layer);
        snprintf(lower + strlen(lower), sizeof lower - strlen(lower), "%s%s", layer ? ":" : "", path);
    }
    must(fs_set(context, "lowerdir", lower), "lowerdir");
    must(fs_set(context, "upperdir", upper), "upperdir");
    must(fs_set(context, "workdir", work), "workdir");
    must(fs_flag(context, "volatile"), "volatile");
    return mount_detached(context, 0);
}

static void create(struct pod *pod) {
    char path[600];
    pod->root = overlay(pod);
    for (int i = 0; i < hierarchy_count; i++) {
        group_path(path, sizeof path, i, pod, "/c");
        must(mkdir(path, 0755), path);
        limit(path, hierarchies[i].controllers);
        group_path(path, sizeof path, i, pod, "/c/tasks");
        pod->tasks[i] = must(open(path, O_WRONLY | O_CLOEXEC), path);
    }
    snprintf(path, sizeof path, "/dev/shm/%s-container", pod->name);
    write_file(path, 2000);
}

/* ---- StartContainer ---- */

static void bind_device(int root, const char *name) {
    char target[64], source[64];
    snprintf(target, sizeof target, "dev/%s", name);
    snprintf(source, sizeof source, "/dev/%s", name);
    close(must(openat(root, target, O_CREAT | O_WRONLY | O_CLOEXEC, 0666), target));
    attach(must(tree_clone(source), source), root, target);
}

static void mount_all(int root) {
    attach(mount_detached(must(fs_open("proc"), "proc"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), root, "proc");
    attach(mount_detached(must(fs_open("tmpfs"), "tmpfs"), MOUNT_ATTR_NOSUID), root, "dev");
    must(mkdirat(root, "dev/pts", 0755), "dev/pts");
    must(mkdirat(root, "dev/shm", 0755), "dev/shm");
    must(mkdirat(root, "dev/mqueue", 0755), "dev/mqueue");
    attach(mount_detached(must(fs_open("devpts"), "devpts"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), root, "dev/pts");
    attach(mount_detached(must(fs_open("tmpfs"), "tmpfs"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), root, "dev/shm");
    attach(mount_detached(must(fs_open("mqueue"), "mqueue"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), root, "dev/mqueue");
    attach(mount_detached(must(fs_open("sysfs"), "sysfs"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY), root, "sys");
    const char *devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
    for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++)
        bind_device(root, devices[i]);
    const char *masked[] = {"proc/kcore", "proc/keys", "proc/timer_list", "proc/interrupts"};
    for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++)
        if (is_there(root, masked[i]))
            attach(must(tree_clone("/dev/null"), "/dev/null"), root, masked[i]);
    const char *fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (is_there(root, fixed[i]))
            bind_read_only(root, fixed[i]);
}

static void drop_privileges(void) {
    const uint32_t kept = 0x000004fb;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0, 0, 0}};
    for (int capability = 0; capability <= 40; capability++)
        if (capability > 31 || !((kept >> capability) & 1))
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(syscall(SYS_capset, &header, data), "capset");
    must(syscall(SYS_close_range, 3, ~0u, 4 /* close on exec */), "close_range");
    struct sock_fprog program = {FILTER + 2, filter};
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

static void child(const struct pod *pod) {
    for (int i = 0; i < hierarchy_count; i++)
        must(write(pod->tasks[i], "0", 1), "tasks");
    must(setns(pod->net, CLONE_NEWNET), "setns");
    must(setns(pod->ipc, CLONE_NEWIPC), "setns");
    must(setns(pod->uts, CLONE_NEWUTS), "setns");
    must(unshare(CLONE_NEWCGROUP), "unshare");
    must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave");
    attach(pod->root, AT_FDCWD, "/mnt");
    int root = must(open("/mnt", O_PATH | O_DIRECTORY | O_CLOEXEC), "/mnt");
    mount_all(root);
    must(fchdir(root), "fchdir");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    setsid();
    drop_privileges();
    char *arguments[] = {"/program", NULL};
    execv(arguments[0], arguments);
    _exit(127);
}

static void start(struct pod *pod) {
    int done[2];
    must(pipe2(done, O_CLOEXEC), "pipe");
    struct clone_args arguments = {.flags = CLONE_NEWPID | CLONE_NEWNS, .exit_signal = SIGCHLD};
    pod->process = must(syscall(SYS_clone3, &arguments, sizeof arguments), "clone3");
    if (pod->process == 0)
        child(pod);
    close(done[1]);
    char byte;
    if (read(done[0], &byte, 1) != 0)
        fail("the pipe of the child");
    close(done[0]);
}

/* ---- ExecSync: another process in the container, until it has been reaped ---- */

static void execute(const struct pod *pod) {
    int done[2], status;
    int container = must(syscall(SYS_pidfd_open, pod->process, 0), "pidfd_open");
    must(pipe2(done, O_CLOEXEC), "pipe");
    must(setns(container, CLONE_NEWPID), "setns");
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    pid_t process = must(syscall(SYS_clone3, &arguments, sizeof arguments), "clone3");
    if (process == 0) {
        for (int i = 0; i < hierarchy_count; i++)
            must(write(pod->tasks[i], "0", 1), "tasks");
        must(setns(container, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP), "setns");
        setsid();
        drop_privileges();
        char *words[] = {"/program", NULL};
        execv(words[0], words);
        _exit(127);
    }
    must(setns(host_pid, CLONE_NEWPID), "setns");
    close(container);
    close(done[1]);
    char byte;
    if (read(done[0], &byte, 1) != 0)
        fail("the pipe of the child");
    close(done[0]);
    must(kill(process, SIGKILL), "kill");
    must(waitpid(process, &status, __WALL), "waitpid");
    if (!WIFSIGNALED(status))
        fail("the command ended by itself");
}

/* ---- and back ---- */

static void take_away(struct pod *pod) {
    char path[600];
    int status;
    must(kill(pod->process, SIGKILL), "kill");
    must(waitpid(pod->process, &status, __WALL), "waitpid");
    if (!WIFSIGNALED(status))
        fail("the container ended by itself");
    close(pod->root);
    for (int i = 0; i < hierarchy_count; i++) {
        close(pod->tasks[i]);
        group_path(path, sizeof path, i, pod, "/c");
        while (rmdir(path) < 0 && errno == EBUSY)
            sched_yield();
        group_path(path, sizeof path, i, pod, "");
        must(rmdir(path), path);
    }
    close(pod->net);
    close(pod->ipc);
    close(pod->uts);
    const char *files[] = {"hosts", "hostname", "resolv.conf", "record", "container"};
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "/dev/shm/%s-%s", pod->name, files[i]);
        unlink(path);
    }
    const char *directories[] = {"upper",      "work/work/incompat/volatile/dirty", "work/work/incompat/volatile", "work/work/incompat",
                                 "work/work",  "work",                              ""};
    for (unsigned i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, sizeof path, "%s/%s", pod->directory, directories[i]);
        remove(path);
    }
}

/* ---- measuring ---- */

struct sample {
    uint64_t up, exec, down;
};

/* Links die late: no name may come twice in one process. */
static void measure(int worker, int count, struct sample *samples) {
    static unsigned sequence;
    for (int i = 0; i < count; i++) {
        struct pod pod;
        unsigned number = ++sequence + (unsigned)worker * 5000u;
        snprintf(pod.name, sizeof pod.name, "f%x-%x", (unsigned)getpid() & 0xfffff, sequence);
        snprintf(pod.directory, sizeof pod.directory, "%s/pod-%s", base, pod.name);
        uint64_t begin = nanoseconds();
        run(&pod, number);
        create(&pod);
        start(&pod);
        uint64_t up = nanoseconds();
        execute(&pod);
        uint64_t executed = nanoseconds();
        take_away(&pod);
        samples[i] = (struct sample){up - begin, executed - up, nanoseconds() - executed};
    }
}

static void print_row(const char *name, const struct sample *samples, int count, size_t offset) {
    printf("\"%s\":[", name);
    for (int i = 0; i < count; i++)
        printf("%s%llu", i ? "," : "", (unsigned long long)*(const uint64_t *)((const char *)&samples[i] + offset));
    printf("]");
}

int main(int count, char **words) {
    if (count != 5) {
        fprintf(stderr, "usage: floor DIRECTORY PROGRAM SAMPLES WORKERS\n");
        return 2;
    }
    int samples = atoi(words[3]), workers = atoi(words[4]), each = samples / workers;
    snprintf(base, sizeof base, "%s/floor-%d", words[1], getpid());
    must(mkdir(base, 0755), base);
    read_hierarchies();
    make_groups();
    make_layers(words[2]);
    make_filter();
    host_net = must(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "net");
    host_ipc = must(open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC), "ipc");
    host_uts = must(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC), "uts");
    host_pid = must(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), "pid");
    bridge = netlink_bridge("floor0");
    size_t size = sizeof(struct sample) * (size_t)samples + sizeof(atomic_int);
    struct sample *results = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED)
        fail("mmap");
    atomic_int *ready = (atomic_int *)(results + samples);
    for (int worker = 0; worker < workers; worker++) {
        if (must(fork(), "fork") != 0)
            continue;
        struct sample warm[2];
        measure(worker, 2, warm);
        atomic_fetch_add(ready, 1);
        while (atomic_load(ready) < workers)
            sched_yield();
        measure(worker, each, results + worker * each);
        _exit(0);
    }
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    remove_groups();
    netlink_remove("floor0");
    if (failed)
        return 1;
    printf("{");
    print_row("up", results, each * workers, offsetof(struct sample, up));
    printf(",");
    print_row("exec", results, each * workers, offsetof(struct sample, exec));
    printf(",");
    print_row("down", results, each * workers, offsetof(struct sample, down));
    printf("}\n");
    return 0;
}
