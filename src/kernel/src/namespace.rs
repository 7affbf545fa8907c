//! Namespaces: open, join, make and pin them.
//!
//! A thread that joins a namespace stays in it. The daemon calls these only on a thread made for it that ends afterwards;
//! the shim has one thread and calls them in a child, except for the PID namespace, which concerns children only.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::error::{Result, SystemError};

/// A set of kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(i32);

/// `NS_GET_NSTYPE` of `linux/nsfs.h`: the `CLONE_NEW*` flag of a namespace descriptor.
const GET_TYPE: libc::Ioctl = 0xb703;

impl Namespaces {
    /// No namespace at all.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID);
    /// Network.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET);
    /// System V and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS);
    /// Cgroup roots.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP);
    /// User and group ids.
    pub const USER: Self = Self(libc::CLONE_NEWUSER);
    /// Clocks that count from the start (time_namespaces(7), since Linux 5.6).
    pub const TIME: Self = Self(libc::CLONE_NEWTIME);

    /// The `CLONE_NEW*` bits.
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set less the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in this set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The name below `/proc/PID/ns` of a set of exactly one kind.
    #[must_use]
    pub const fn file(self) -> Option<&'static str> {
        match self {
            Self::MOUNT => Some("mnt"),
            Self::PID => Some("pid"),
            Self::NETWORK => Some("net"),
            Self::IPC => Some("ipc"),
            Self::UTS => Some("uts"),
            Self::CGROUP => Some("cgroup"),
            Self::USER => Some("user"),
            Self::TIME => Some("time"),
            Self(_) => None,
        }
    }
}

/// Opens a namespace by the path of its pin or of its file in `/proc`, and makes sure that it is one, and of that kind.
///
/// # Errors
/// The path can't be opened, or it is no namespace of that kind.
pub fn open(path: &Path, kind: Namespaces) -> Result<OwnedFd> {
    let name = || format!("{path:?}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| SystemError::new("open", name(), error))?;
    // SAFETY: the request takes no argument and only asks; on a descriptor that is no namespace it fails with ENOTTY.
    let found = unsafe { libc::ioctl(fd.as_raw_fd(), GET_TYPE) };
    if found != kind.0 {
        return Err(SystemError::new("ioctl", name(), io::Error::from_raw_os_error(libc::EINVAL)));
    }
    Ok(fd)
}

/// Opens the namespace of that kind the calling thread is in.
///
/// # Errors
/// `/proc` is not there.
pub fn own(kind: Namespaces) -> Result<OwnedFd> {
    open(&own_path(kind)?, kind)
}

/// Moves the calling thread into a namespace that was opened. A PID namespace takes effect for its children only.
///
/// # Errors
/// The kernel refused, or the namespace is of another kind.
pub fn join(namespace: BorrowedFd<'_>, kind: Namespaces) -> Result<()> {
    set(namespace, kind)
}

/// Moves the calling thread into several namespaces of the process the pidfd refers to, in one call: all or none.
///
/// # Errors
/// The kernel refused, or the process is gone.
pub fn join_process(pidfd: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    set(pidfd, kinds)
}

/// Puts the calling thread into new namespaces of these kinds.
///
/// # Errors
/// The kernel refused.
pub fn unshare(kinds: Namespaces) -> Result<()> {
    // SAFETY: none of the flags a set can hold shares or unshares memory or descriptors.
    let answer = unsafe { libc::unshare(kinds.0) };
    if answer < 0 {
        return Err(SystemError::last("unshare", format!("{kinds:?}")));
    }
    Ok(())
}

/// Keeps the calling thread's namespace of that kind alive at `target`, an empty file that is made if it is missing.
///
/// # Errors
/// The file can't be made or the mount was refused; the file stays, for `unpin` to remove.
pub fn pin(kind: Namespaces, target: &Path) -> Result<()> {
    pin_path(&own_path(kind)?, target)
}

/// Keeps an open namespace alive at `target`, an empty file that is made if it is missing.
///
/// # Errors
/// The file can't be made or the mount was refused; the file stays, for `unpin` to remove.
pub fn pin_open(namespace: BorrowedFd<'_>, target: &Path) -> Result<()> {
    pin_path(Path::new(&format!("/proc/self/fd/{}", namespace.as_raw_fd())), target)
}

fn pin_path(namespace: &Path, target: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(target, flags, Mode::RUSR)
        .map_err(|error| SystemError::new("open", format!("{target:?}"), error))?;
    drop(file);
    rustix::mount::mount_bind(namespace, target)
        .map_err(|error| SystemError::new("mount", format!("{target:?}"), error))
}

/// Gives a pin back: success if it is gone already, in whole or in part.
///
/// # Errors
/// The mount or the file would not go.
pub fn unpin(target: &Path) -> Result<()> {
    use rustix::io::Errno;
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(SystemError::new("umount2", format!("{target:?}"), error)),
    }
    match rustix::fs::unlink(target) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(SystemError::new("unlink", format!("{target:?}"), error)),
    }
}

/// Opens a namespace of the process with that id.
///
/// # Errors
/// The process is gone, or the set is not of exactly one kind.
pub fn of(pid: i32, kind: Namespaces) -> Result<OwnedFd> {
    open(&path_of(&pid.to_string(), kind)?, kind)
}

fn own_path(kind: Namespaces) -> Result<PathBuf> {
    path_of("thread-self", kind)
}

fn path_of(process: &str, kind: Namespaces) -> Result<PathBuf> {
    let Some(file) = kind.file() else {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(SystemError::new("open", format!("{kind:?}"), source));
    };
    Ok(Path::new("/proc").join(process).join("ns").join(file))
}

fn set(fd: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    // SAFETY: the descriptor is borrowed for the call; joining changes no memory of this process.
    let answer = unsafe { libc::setns(fd.as_raw_fd(), kinds.0) };
    if answer < 0 {
        return Err(SystemError::last("setns", kinds.file().unwrap_or("of process")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_what_it_holds() {
        let set = Namespaces::IPC.with(Namespaces::UTS);
        assert!(set.has(Namespaces::IPC) && !set.has(Namespaces::PID));
        assert_eq!(set.without(Namespaces::IPC), Namespaces::UTS);
        assert_eq!(set.file(), None);
        assert_eq!(Namespaces::NETWORK.file(), Some("net"));
    }

    #[test]
    fn a_file_that_is_no_namespace_or_of_another_kind_is_refused() {
        open(Path::new("/dev/null"), Namespaces::NETWORK).unwrap_err();
        open(Path::new("/proc/self/ns/ipc"), Namespaces::NETWORK).unwrap_err();
        open(Path::new("/proc/self/ns/net"), Namespaces::NETWORK).unwrap();
    }
}
