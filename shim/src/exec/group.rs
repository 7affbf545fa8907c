//! A cgroup of its own for each exec, below the container's in the unified hierarchy: one write kills it with everything that
//! ever came of it, however it tried to get away. Where there is no such hierarchy there is no such group.
//!
//! A group in which somebody is left cannot be removed: what is being killed takes a moment, and a daemon that an exec
//! started may live for long. Its name is kept, and it is tried again with each exec that follows.

use crate::engine::Running;
use crate::{chain, note};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// The group. To be given to [`LeftOver::remove`].
#[derive(Debug)]
pub(super) struct Group {
    parent: OwnedFd,
    name: String,
    directory: OwnedFd,
}

impl Group {
    /// Makes the group, if the host has what it takes.
    pub(super) fn make(running: &Running) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let parent = match running.cgroup().v2_directory() {
            Ok(parent) => parent?,
            Err(error) => {
                note(&format!("failed to open the container's cgroup: {}", chain(&error)));
                return None;
            }
        };
        let name = format!("exec-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)).and_then(|()| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, &name, flags, Mode::empty())
        });
        match made {
            Ok(directory) => Some(Self { parent, name, directory }),
            Err(errno) => {
                note(&format!("failed to make cgroup {name}: {errno}"));
                None
            }
        }
    }

    /// Where its first process is born.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Kills everything in it.
    ///
    /// # Errors
    /// The kernel refuses, or is older than 5.14.
    pub(super) fn kill(&self) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, "cgroup.kill", flags, Mode::empty())?;
        rustix::io::write(&file, b"1").map(drop)
    }
}

/// Names of groups in which somebody was left. What is in them when the container ends goes with it.
#[derive(Debug, Default)]
pub(super) struct LeftOver(Vec<String>);

impl LeftOver {
    /// Removes a group and those left over from before, or keeps their names.
    pub(super) fn remove(&mut self, group: Group) {
        let Group { parent, name, directory } = group;
        // A directory that is open is removed all the same, but why keep it.
        drop(directory);
        self.0.push(name);
        self.0.retain(|name| {
            let removed = rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
            matches!(removed, Err(Errno::BUSY))
        });
    }
}
