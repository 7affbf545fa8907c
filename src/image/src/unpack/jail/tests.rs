//! Attempts to break out. Each succeeds outside the jail, or it would prove nothing, and fails inside.

use super::{Seal, calls, enter};
use cringle_kernel::mount::{self, Depth};
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::process;
use cringle_kernel::seccomp;
use rustix::fs::{self, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::Pid;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// One way to do harm, to that other process for instance, by name.
type Attempt = (&'static str, fn(Pid) -> io::Result<()>);

const ATTEMPTS: &[Attempt] = &[
    ("open a file of the host", |_| File::open("/proc/self/status").map(drop)),
    ("go up from the root", |_| {
        let path = "../../../../../../../../etc/passwd";
        Ok(fs::openat(CWD, path, OFlags::RDONLY, Mode::empty()).map(drop)?)
    }),
    ("open a device that the layer has", |_| {
        let zero = fs::makedev(1, 5);
        match fs::mknodat(CWD, "zero", FileType::CharacterDevice, Mode::RUSR, zero) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        File::open("zero").map(drop)
    }),
    ("make a network socket", |_| {
        Ok(rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).map(drop)?)
    }),
    ("make a local socket", |_| {
        Ok(rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).map(drop)?)
    }),
    ("start a program", |_| {
        let mut child = std::process::Command::new("/bin/true").spawn()?;
        child.wait().map(drop)
    }),
    ("start a thread", |_| std::thread::Builder::new().spawn(|| ()).map(drop)),
    ("signal another process", |other| Ok(rustix::process::test_kill_process(other)?)),
    ("take hold of another process", |other| {
        process::open(other.as_raw_nonzero().get()).map(drop).map_err(|error| error.source)
    }),
    ("clone a mount", |_| {
        mount::clone_path(c"/", Depth::One).map(drop).map_err(|error| error.source)
    }),
    ("make a namespace", |_| namespace::unshare(Namespaces::UTS).map_err(|error| error.source)),
    ("change the root", |_| Ok(rustix::process::chroot("/")?)),
    ("gain capabilities", |_| {
        let sets = rustix::thread::capabilities(None)?;
        if sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
            return Ok(());
        }
        let more = rustix::thread::CapabilitySets {
            effective: sets.effective | rustix::thread::CapabilitySet::SYS_ADMIN,
            ..sets
        };
        Ok(rustix::thread::set_capabilities(None, more)?)
    }),
];

/// The names of the attempts that succeed in that directory, once the thread has made itself ready.
fn successes(place: &Path, prepare: impl FnOnce() + Send) -> Vec<&'static str> {
    let parent = rustix::process::getppid().expect("a parent");
    // A thread of its own: nothing of what it gives up is missing to other tests.
    let attempts = || {
        namespace::unshare(Namespaces::MOUNT).expect("a working directory of its own");
        rustix::process::chdir(place).expect("the directory is entered");
        prepare();
        ATTEMPTS
            .iter()
            .filter(|(_, attempt)| attempt(parent).is_ok())
            .map(|(name, _)| *name)
            .collect()
    };
    std::thread::scope(|scope| scope.spawn(attempts).join().expect("the thread ends well"))
}

#[test]
fn nothing_but_the_layer_is_within_reach() {
    let place = tempfile::tempdir().expect("a directory");
    let all: Vec<&str> = ATTEMPTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(successes(place.path(), || ()), all, "outside the jail");
    let seal = Seal::new().expect("a seal");
    let jailed = successes(place.path(), || {
        let own: OwnedFd = File::open(".").expect("the directory opens").into();
        let _root = enter(&own).expect("in jail");
        seal.close().expect("sealed");
    });
    assert_eq!(jailed, Vec::<&str>::new(), "inside the jail");
}

#[test]
fn the_walls_hold_without_the_seal() {
    let place = tempfile::tempdir().expect("a directory");
    let jailed = successes(place.path(), || {
        let own: OwnedFd = File::open(".").expect("the directory opens").into();
        let _root = enter(&own).expect("in jail");
    });
    // What is left without a filter of system calls harms nobody: sockets lead nowhere, and what it starts is jailed too.
    for harmful in [
        "open a file of the host",
        "go up from the root",
        "open a device that the layer has",
        "start a program",
        "clone a mount",
        "make a namespace",
        "change the root",
        "gain capabilities",
    ] {
        assert!(!jailed.contains(&harmful), "{jailed:?}");
    }
}

#[test]
fn only_what_files_need_is_allowed() {
    let profile = calls::profile();
    let compiled = seccomp::compile(&profile).expect("a filter");
    assert_eq!(compiled.unknown, Vec::<String>::new());
    for name in [
        "execve",
        "execveat",
        "clone",
        "clone3",
        "fork",
        "vfork",
        "socket",
        "connect",
        "mount",
        "umount2",
        "open_tree",
        "move_mount",
        "fsopen",
        "mount_setattr",
        "pivot_root",
        "chroot",
        "ptrace",
        "kill",
        "tgkill",
        "tkill",
        "pidfd_open",
        "pidfd_getfd",
        "pidfd_send_signal",
        "process_vm_readv",
        "process_vm_writev",
        "setns",
        "unshare",
        "bpf",
        "io_uring_setup",
        "userfaultfd",
        "keyctl",
        "open_by_handle_at",
        "init_module",
        "finit_module",
        "kexec_load",
        "perf_event_open",
        "capset",
        "setuid",
        "ioctl",
        "memfd_create",
        "dup3",
        "prlimit64",
        "setrlimit",
    ] {
        let allowed = profile.rules.iter().any(|rule| rule.names.iter().any(|known| known == name));
        assert!(!allowed, "{name}");
    }
}
