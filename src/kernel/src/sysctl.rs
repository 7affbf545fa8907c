//! Kernel parameters below `/proc/sys`: names, which namespace they belong to, and setting them.
//!
//! A parameter is set in the namespaces of the calling thread. One that belongs to no namespace is the host's, and
//! nothing here sets it. Names are taken apart before they become paths, and the file is opened without leaving a
//! procfs that is checked to be one, so neither `..` nor a symbolic link nor a mount leads elsewhere.

use crate::error::{Result, SystemError};
use crate::proc;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::io;

/// The namespace that a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The network namespace.
    Network,
    /// The IPC namespace.
    Ipc,
    /// The UTS namespace.
    Uts,
}

/// The namespace that the parameter belongs to; none if it is the host's, or the name is malformed.
#[must_use]
pub fn owner(name: &str) -> Option<Owner> {
    let path = path(name)?;
    match path.as_str() {
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => Some(Owner::Ipc),
        "kernel/hostname" | "kernel/domainname" => Some(Owner::Uts),
        other if other.starts_with("net/") => Some(Owner::Network),
        other if other.starts_with("fs/mqueue/") => Some(Owner::Ipc),
        _ => None,
    }
}

/// The path of a parameter below `/proc/sys`. Both forms of names are known: `net.ipv4.conf.eth0/1.forwarding` and
/// `net/ipv4/conf/eth0.1/forwarding`; the separator that comes first is the one that separates.
///
/// None for names with an empty component, `.` or `..`, or any character but letters, digits and `-_.:@/`.
#[must_use]
pub fn path(name: &str) -> Option<String> {
    let separator = name.find(['.', '/']).and_then(|at| name.get(at..=at))?;
    let path: String = match separator {
        "." => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@/".contains(c);
    let is_clean = path.chars().all(is_plain)
        && path.split('/').all(|component| !matches!(component, "" | "." | ".."));
    is_clean.then_some(path)
}

const fn swap(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

/// Sets a parameter of a namespace that the calling thread is in.
///
/// # Errors
/// EINVAL if the name is malformed, the parameter is the host's, or the value has a line break or NUL; else what the
/// kernel answers: ENOENT if it doesn't know the parameter.
pub fn write(name: &str, value: &str) -> Result<()> {
    let object = || format!("sysctl \"{name}\"");
    let refuse = |errno: rustix::io::Errno| SystemError::new("openat2", object(), errno);
    let path = path(name).filter(|_| owner(name).is_some());
    let path = path.ok_or_else(|| refuse(rustix::io::Errno::INVAL))?;
    if value.contains(['\n', '\0']) {
        return Err(SystemError::new("write", object(), rustix::io::Errno::INVAL));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, "/proc/sys", flags, Mode::empty()).map_err(refuse)?;
    if !proc::is_procfs(&root)? {
        let other = io::Error::other("what is mounted at /proc is no procfs");
        return Err(SystemError::new("openat2", object(), other));
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), within).map_err(refuse)?;
    rustix::io::write(&file, value.as_bytes())
        .map(drop)
        .map_err(|errno| SystemError::new("write", object(), errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_child;
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    #[test]
    fn both_forms_of_a_name_lead_to_the_same_path() {
        let expected = Some("net/ipv4/conf/eth0.1/forwarding".to_owned());
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), expected);
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), expected);
    }

    #[test]
    fn names_that_could_lead_elsewhere_have_no_path() {
        for name in [
            "",
            "net",
            ".",
            "..",
            "net..ipv4",
            "net.",
            ".net.x",
            "/net/x",
            "net/../kernel/core_pattern",
            "net/./x",
            "net.ipv4.x+kernel.y",
            "net.ipv4.x=1",
            "net.ipv4.x\nkernel.core_pattern",
            "net.ipv4.x\0",
            "net.ipv4.x y",
        ] {
            assert_eq!(path(name), None, "{name:?}");
        }
        // Dots and slashes swapped: the component is one dot.
        assert_eq!(path("net./.x"), None);
    }

    #[test]
    fn only_namespaced_parameters_have_an_owner() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", Some(Owner::Network)),
            ("net/core/somaxconn", Some(Owner::Network)),
            ("kernel.shmmax", Some(Owner::Ipc)),
            ("fs.mqueue.msg_max", Some(Owner::Ipc)),
            ("kernel.domainname", Some(Owner::Uts)),
            ("kernel.core_pattern", None),
            ("kernel.shm_next_id", None),
            ("vm.swappiness", None),
            ("fs.file-max", None),
            ("network.x", None),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }

    #[test]
    fn a_parameter_is_set_in_the_own_namespace_and_the_hosts_is_not() {
        let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        let before = std::fs::read_to_string(file).unwrap();
        assert!(in_child(|| {
            // SAFETY: no descriptor table is unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWIPC) }.unwrap();
            write("net.ipv4.ip_unprivileged_port_start", "77").unwrap();
            write("kernel.shmmni", "99").unwrap();
            std::fs::read_to_string(file).unwrap().trim() == "77"
                && std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap().trim() == "99"
        }));
        assert_eq!(std::fs::read_to_string(file).unwrap(), before);
    }

    #[test]
    fn what_must_not_be_set_is_refused_before_the_kernel_sees_it() {
        for (name, value) in [
            ("kernel.core_pattern", "|/bin/x"),
            ("vm.swappiness", "1"),
            ("net.ipv4.ip_forward", "1\n1"),
            ("net/../kernel/core_pattern", "x"),
        ] {
            let refused = write(name, value).unwrap_err();
            assert_eq!(refused.errno(), Some(libc::EINVAL), "{name}");
        }
        let unknown = write("net.ipv4.no_such_parameter", "1").unwrap_err();
        assert_eq!(unknown.errno(), Some(libc::ENOENT));
        assert_eq!(unknown.to_string(), "openat2 sysctl \"net.ipv4.no_such_parameter\"");
    }
}
