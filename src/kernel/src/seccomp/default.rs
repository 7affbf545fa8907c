//! Our own profile: a list of what programs need, group by group with the reason, and nothing else.
//!
//! What is not listed fails with EPERM: among others io_uring, userfaultfd, keyrings, kexec, and every way to new
//! namespaces or mounts without CAP_SYS_ADMIN. Sockets can be made only of listed families, as most families nobody uses
//! are kernel modules loaded on demand, and the source of many a privilege escalation.

use super::{Architecture, Comparison, Condition, Profile, Rule, Verdict};
use crate::capability::{Capability, CapabilitySet};

/// The version of the profile: raised with every change of a verdict.
pub const VERSION: u32 = 1;

/// The profile for a process with these capabilities.
#[must_use]
pub fn default_profile(capabilities: CapabilitySet) -> Profile {
    let mut rules = vec![rule(ALWAYS.iter().flat_map(|group| group.calls), &[])];
    for (capability, calls) in BY_CAPABILITY {
        if capabilities.contains(*capability) {
            rules.push(rule(*calls, &[]));
        }
    }
    rules.extend(threads(capabilities));
    rules.extend(personalities());
    rules.extend(sockets(capabilities));
    Profile {
        default: Verdict::Errno(super::EPERM),
        architectures: vec![Architecture::X86_64, Architecture::I386, Architecture::Aarch64],
        rules,
        flags: Vec::new(),
    }
}

fn rule<'a>(names: impl IntoIterator<Item = &'a &'a str>, conditions: &[Condition]) -> Rule {
    Rule {
        names: names.into_iter().map(|name| (*name).to_owned()).collect(),
        verdict: Verdict::Allow,
        conditions: conditions.to_vec(),
    }
}

/// Calls that every process may make, and why.
struct Group {
    #[cfg_attr(not(test), expect(dead_code, reason = "documents the group; tests read it"))]
    reason: &'static str,
    calls: &'static [&'static str],
}

#[rustfmt::skip]
const ALWAYS: &[Group] = &[
    Group { reason: "reading and writing open files", calls: &[
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "preadv2", "pwritev", "pwritev2",
        "lseek", "_llseek", "sendfile", "sendfile64", "copy_file_range", "splice", "tee", "vmsplice", "readahead",
        "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "fallocate", "truncate", "truncate64",
        "ftruncate", "ftruncate64", "fadvise64", "fadvise64_64", "cachestat", "ioctl", "fcntl", "fcntl64", "flock",
    ]},
    Group { reason: "descriptors and pipes", calls: &[
        "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2",
    ]},
    Group { reason: "names in file systems; the kernel checks each against ownership and mode", calls: &[
        "access", "faccessat", "faccessat2", "chdir", "fchdir", "getcwd", "umask",
        "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown",
        "lchown32", "link", "linkat", "symlink", "symlinkat", "readlink", "readlinkat", "unlink", "unlinkat",
        "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "getdents",
        "getdents64", "utime", "utimes", "futimesat", "utimensat", "utimensat_time64", "name_to_handle_at",
    ]},
    Group { reason: "what a file is", calls: &[
        "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "newfstatat", "fstatat64", "statx", "statfs",
        "statfs64", "fstatfs", "fstatfs64",
    ]},
    Group { reason: "extended attributes", calls: &[
        "getxattr", "lgetxattr", "fgetxattr", "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
        "listxattr", "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr",
        "removexattrat",
    ]},
    Group { reason: "watching files", calls: &[
        "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
    ]},
    Group { reason: "own memory", calls: &[
        "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync", "mlock", "mlock2",
        "mlockall", "munlock", "munlockall", "membarrier", "memfd_create", "memfd_secret", "mseal", "pkey_alloc",
        "pkey_free", "pkey_mprotect", "remap_file_pages", "map_shadow_stack", "process_madvise",
        "process_mrelease",
    ]},
    Group { reason: "processes and threads; clone has a rule of its own", calls: &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "getpid",
        "getppid", "gettid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "prctl", "arch_prctl",
        "set_tid_address", "set_thread_area", "get_thread_area", "modify_ldt", "set_robust_list",
        "get_robust_list", "rseq", "uname", "sysinfo", "getcpu", "pidfd_open", "pidfd_send_signal", "uretprobe",
        "uprobe",
    ]},
    Group { reason: "debuggers, within the container: since Linux 4.8 a tracer can't lift the filter", calls: &[
        "ptrace", "process_vm_readv", "process_vm_writev",
    ]},
    Group { reason: "giving up rights", calls: &[
        "capget", "capset", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
        "lsm_get_self_attr", "lsm_list_modules",
    ]},
    Group { reason: "users and groups; changes take capabilities", calls: &[
        "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid",
        "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid",
        "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32", "setresgid",
        "setresgid32", "setgroups", "setgroups32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32",
    ]},
    Group { reason: "limits and scheduling; raising takes capabilities", calls: &[
        "getrlimit", "ugetrlimit", "setrlimit", "prlimit64", "getrusage", "times", "getpriority", "setpriority",
        "nice", "ioprio_get", "ioprio_set", "sched_yield", "sched_getaffinity", "sched_setaffinity",
        "sched_getparam", "sched_setparam", "sched_getscheduler", "sched_setscheduler", "sched_getattr",
        "sched_setattr", "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
        "sched_rr_get_interval_time64",
    ]},
    Group { reason: "signals", calls: &[
        "kill", "tkill", "tgkill", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending",
        "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
        "sigaltstack", "signalfd", "signalfd4", "sigreturn", "sigaction", "sigprocmask", "pause", "alarm",
        "restart_syscall",
    ]},
    Group { reason: "time; setting the clock takes a capability", calls: &[
        "time", "gettimeofday", "nanosleep", "clock_gettime", "clock_gettime64", "clock_getres",
        "clock_getres_time64", "clock_nanosleep", "clock_nanosleep_time64", "adjtimex", "getitimer", "setitimer",
        "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
        "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
        "timerfd_settime64",
    ]},
    Group { reason: "waiting", calls: &[
        "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64", "epoll_create",
        "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "futex",
        "futex_time64", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue",
    ]},
    Group { reason: "asynchronous input and output of the old kind, for databases", calls: &[
        "io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_cancel",
        "io_destroy",
    ]},
    Group { reason: "sockets once they are made; socket and socketcall have rules of their own", calls: &[
        "socketpair", "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt",
        "setsockopt", "shutdown", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg",
        "recvmmsg", "recvmmsg_time64",
    ]},
    Group { reason: "System V and POSIX interprocess communication, in the pod's own namespace", calls: &[
        "ipc", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semtimedop", "semtimedop_time64",
        "semctl", "shmget", "shmat", "shmdt", "shmctl", "mq_open", "mq_unlink", "mq_timedsend",
        "mq_timedsend_time64", "mq_timedreceive", "mq_timedreceive_time64", "mq_notify", "mq_getsetattr",
    ]},
    Group { reason: "randomness", calls: &["getrandom"] },
];

/// Calls that come with a capability: without it the kernel refuses them anyway, or all that matters of them.
#[rustfmt::skip]
const BY_CAPABILITY: &[(Capability, &[&str])] = &[
    (Capability::SysAdmin, &[
        "bpf", "clone", "clone3", "fanotify_init", "fanotify_mark", "fsconfig", "fsmount", "fsopen", "fspick",
        "listmount", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
        "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
        "statmount", "syslog", "umount", "umount2", "unshare",
    ]),
    (Capability::Bpf, &["bpf"]),
    (Capability::DacReadSearch, &["open_by_handle_at"]),
    (Capability::Perfmon, &["perf_event_open"]),
    (Capability::SysBoot, &["reboot"]),
    (Capability::SysChroot, &["chroot"]),
    (Capability::SysModule, &["init_module", "finit_module", "delete_module"]),
    (Capability::SysNice, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (Capability::SysPacct, &["acct"]),
    (Capability::SysPtrace, &["kcmp", "pidfd_getfd"]),
    (Capability::SysRawio, &["ioperm", "iopl"]),
    (Capability::SysTime, &[
        "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64", "settimeofday", "stime",
    ]),
    (Capability::SysTtyConfig, &["vhangup"]),
    (Capability::Syslog, &["syslog"]),
];

/// Without CAP_SYS_ADMIN threads and processes are cloned, but not into new namespaces. clone3 has its flags in memory,
/// out of a filter's sight; told that it does not exist, the C libraries use clone.
fn threads(capabilities: CapabilitySet) -> Vec<Rule> {
    /// NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. (NEWTIME is not a flag of clone.)
    const NEW_NAMESPACES: u64 = 0x7e02_0000;
    if capabilities.contains(Capability::SysAdmin) {
        return Vec::new();
    }
    let none = condition(0, Comparison::MaskedEqual { mask: NEW_NAMESPACES, value: 0 });
    let absent = Rule {
        names: vec!["clone3".to_owned()],
        verdict: Verdict::Errno(super::ENOSYS),
        conditions: Vec::new(),
    };
    vec![rule(&["clone"], &[none]), absent]
}

/// The plain Linux personality, its 32-bit one, both with the version number of old, and the question.
fn personalities() -> impl Iterator<Item = Rule> {
    const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let allow = |persona| rule(&["personality"], &[condition(0, Comparison::Equal(persona))]);
    PERSONALITIES.into_iter().map(allow)
}

/// A socket family that comes with a capability, or with none.
const FAMILIES: &[(u64, Option<Capability>)] = &[
    (AF_UNIX, None),
    (2, None),                        // AF_INET
    (10, None),                       // AF_INET6
    (15, Some(Capability::NetAdmin)), // AF_KEY
    (17, Some(Capability::NetRaw)),   // AF_PACKET
    (29, Some(Capability::NetAdmin)), // AF_CAN
    (44, Some(Capability::NetRaw)),   // AF_XDP
];
const AF_UNIX: u64 = 1;
const AF_NETLINK: u64 = 16;

/// Netlink for everyone: routes (every resolver asks), socket diagnosis (`ss`), device events (udev's library).
const NETLINK: &[u64] = &[0, 4, 15];
const NETLINK_AUDIT: u64 = 9;

fn sockets(capabilities: CapabilitySet) -> Vec<Rule> {
    let family = |number| condition(0, Comparison::Equal(number));
    let protocol = |number| condition(2, Comparison::Equal(number));
    let granted = |needed: &Option<Capability>| needed.is_none_or(|one| capabilities.contains(one));
    let mut rules: Vec<Rule> = FAMILIES
        .iter()
        .filter(|(_, needed)| granted(needed))
        .map(|(number, _)| rule(&["socket"], &[family(*number)]))
        .collect();
    if capabilities.contains(Capability::NetAdmin) {
        rules.push(rule(&["socket"], &[family(AF_NETLINK)]));
    } else {
        let netlink = |number: &u64| rule(&["socket"], &[family(AF_NETLINK), protocol(*number)]);
        rules.extend(NETLINK.iter().map(netlink));
        rules.push(audit(capabilities, &[family(AF_NETLINK), protocol(NETLINK_AUDIT)]));
    }
    rules.push(socketcall());
    rules
}

/// Account tools give up unless the audit socket opens, or fails as on a kernel without auditing.
fn audit(capabilities: CapabilitySet, conditions: &[Condition]) -> Rule {
    const EPROTONOSUPPORT: u16 = 93;
    let audits = capabilities.contains(Capability::AuditWrite)
        || capabilities.contains(Capability::AuditControl);
    let verdict = if audits { Verdict::Allow } else { Verdict::Errno(EPROTONOSUPPORT) };
    Rule { names: vec!["socket".to_owned()], verdict, conditions: conditions.to_vec() }
}

/// The old way to all socket calls on 32-bit x86. Its arguments are out of a filter's sight, so it can't be used to make
/// a socket; what is done with one afterwards is harmless.
fn socketcall() -> Rule {
    const SYS_SOCKET: u64 = 1;
    rule(&["socketcall"], &[condition(0, Comparison::Greater(SYS_SOCKET))])
}

const fn condition(argument: u8, comparison: Comparison) -> Condition {
    Condition { argument, comparison }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{compile, numbers};
    use std::collections::BTreeSet;

    #[test]
    fn at_most_330_calls_are_always_allowed_each_once_and_each_real() {
        let all: Vec<&str> = ALWAYS.iter().flat_map(|group| group.calls).copied().collect();
        let unique: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), unique.len(), "a call is listed twice");
        assert!(ALWAYS.iter().all(|group| !group.reason.is_empty()));
        let on_one = |architecture| {
            unique.iter().filter(|name| numbers::number(architecture, name).is_some()).count()
        };
        // 32-bit x86 has many calls twice, for wider numbers of users and seconds.
        for (architecture, most) in
            [(Architecture::X86_64, 330), (Architecture::Aarch64, 330), (Architecture::I386, 360)]
        {
            let count = on_one(architecture);
            assert!(count <= most, "{architecture:?}: {count}");
        }
        let compiled = compile(&default_profile(CapabilitySet::EMPTY)).unwrap();
        assert!(compiled.unknown.is_empty(), "{:?}", compiled.unknown);
    }

    #[test]
    fn nothing_that_comes_with_a_capability_is_always_allowed() {
        let always: BTreeSet<&str> = ALWAYS.iter().flat_map(|group| group.calls).copied().collect();
        for (capability, calls) in BY_CAPABILITY {
            let both: Vec<_> = calls.iter().filter(|name| always.contains(*name)).collect();
            assert!(both.is_empty(), "{capability}: {both:?}");
        }
    }

    #[test]
    fn what_attackers_reach_for_is_not_in_the_list() {
        let everything = default_profile(CapabilitySet::all());
        let listed: BTreeSet<&str> =
            everything.rules.iter().flat_map(|rule| &rule.names).map(String::as_str).collect();
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "userfaultfd",
            "keyctl",
            "add_key",
            "request_key",
            "kexec_load",
            "kexec_file_load",
            "swapon",
            "swapoff",
            "nfsservctl",
            "uselib",
            "move_pages",
            "migrate_pages",
            "vm86",
        ] {
            assert!(!listed.contains(name), "{name}");
        }
    }
}
