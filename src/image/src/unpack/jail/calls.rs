//! The system calls that unpacking makes. Every other one fails with EPERM.

use cringle_kernel::seccomp::{Comparison, Condition, Profile, Rule, Verdict};

/// `PROT_EXEC`: memory that holds programs.
const EXECUTABLE: u64 = 4;
/// `PR_SET_NAME`: what a new thread calls itself.
const SET_NAME: u64 = 15;

/// Content and the report. Descriptors are all there from the start, so nothing is said here about which.
const STREAMS: &[&str] =
    &["read", "write", "writev", "pread64", "pwrite64", "lseek", "ftruncate", "close", "fcntl"];
/// The tree; what their paths can lead to is up to root and Landlock.
const TREE: &[&str] = &[
    "openat",
    "openat2",
    "getdents64",
    "fstat",
    "newfstatat",
    "statx",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "linkat",
    "unlinkat",
    "fchmod",
    "fchown",
    "fchownat",
    "fsetxattr",
    "utimensat",
];
/// What a program does without being told. No new threads, no signals but returning from one.
const LIFE: &[&str] = &[
    "brk",
    "munmap",
    "mremap",
    "madvise",
    "futex",
    "sched_yield",
    "sched_getaffinity",
    "gettid",
    "getpid",
    "getrandom",
    "clock_gettime",
    "set_robust_list",
    "rseq",
    "sigaltstack",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "restart_syscall",
    "exit",
    "exit_group",
];

/// Only those calls, by the native architecture only.
pub(super) fn profile() -> Profile {
    let plain = [STREAMS, TREE, LIFE].concat();
    // Memory can be asked for, but not to run what was put there.
    let no_execution = Comparison::MaskedEqual { mask: EXECUTABLE, value: 0 };
    let rules = vec![
        allow(&plain, Vec::new()),
        allow(&["mmap", "mprotect"], vec![Condition { argument: 2, comparison: no_execution }]),
        allow(&["prctl"], vec![Condition { argument: 0, comparison: Comparison::Equal(SET_NAME) }]),
    ];
    Profile { default: Verdict::Errno(1), architectures: Vec::new(), rules, flags: Vec::new() }
}

fn allow(names: &[&str], conditions: Vec<Condition>) -> Rule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Rule { names, verdict: Verdict::Allow, conditions }
}
