//! Paths inside a root that somebody else controls: looked up by the kernel, never by us, and never out of the root.
//!
//! Every answer is a descriptor; no path text is used twice. Symbolic links are followed inside the root, as the container
//! would (an absolute one starts at the root), except magic links of procfs, which are always refused.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Result, SystemError};

/// A directory that paths are resolved in.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// Whether symbolic links on the way are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are, inside the root.
    Follow,
    /// A link anywhere in the path is an error.
    Refuse,
}

/// How often a look-up that a concurrent rename disturbed is tried again.
const RETRIES: usize = 128;

/// How many symbolic links one look-up may pass, as in the kernel.
const LINKS: usize = 40;

impl Root {
    /// Opens a directory of the host as a root.
    ///
    /// # Errors
    /// It is missing or no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(|directory| Self { directory })
            .map_err(|error| SystemError::new("open", format!("{path:?}"), error))
    }

    /// Takes an open directory, or a mount, as a root.
    #[must_use]
    pub fn from_descriptor(directory: OwnedFd) -> Self {
        Self { directory }
    }

    /// Opens an existing path as a mere place (`O_PATH`).
    ///
    /// # Errors
    /// There is no such path inside the root.
    pub fn place(&self, path: &Path, links: Links) -> Result<OwnedFd> {
        self.lookup(path, OFlags::PATH, links)
            .map_err(|error| SystemError::new("openat2", format!("{path:?}"), error))
    }

    /// Opens an existing path for input or output.
    ///
    /// # Errors
    /// There is no such path inside the root, or it can't be opened like that.
    pub fn file(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.lookup(path, flags | OFlags::NOCTTY, Links::Follow)
            .map_err(|error| SystemError::new("openat2", format!("{path:?}"), error))
    }

    /// Opens the directory at a path as a place, and makes what is missing of it.
    ///
    /// # Errors
    /// Something on the way is no directory, or a directory can't be made.
    pub fn directory(&self, path: &Path, links: Links) -> Result<OwnedFd> {
        match self.lookup(path, OFlags::PATH | OFlags::DIRECTORY, links) {
            Err(Errno::NOENT) => {}
            found => {
                return found
                    .map_err(|error| SystemError::new("openat2", format!("{path:?}"), error));
            }
        }
        let walk = Walk { links, last: Last::Directory };
        walk.from(self, path)
            .map_err(|error| SystemError::new("mkdirat", format!("{path:?}"), error))
    }

    /// Opens what is at a path, of whatever kind, as a place; if there is nothing, makes an empty file, with the directories
    /// that lead to it. A symbolic link that leads nowhere gets its target made.
    ///
    /// # Errors
    /// Something on the way is no directory, or the file can't be made.
    pub fn file_or_existing(&self, path: &Path) -> Result<OwnedFd> {
        match self.lookup(path, OFlags::PATH, Links::Follow) {
            Err(Errno::NOENT) => {}
            found => {
                return found
                    .map_err(|error| SystemError::new("openat2", format!("{path:?}"), error));
            }
        }
        let walk = Walk { links: Links::Follow, last: Last::File };
        walk.from(self, path)
            .map_err(|error| SystemError::new("openat", format!("{path:?}"), error))
    }

    fn lookup(
        &self,
        path: &Path,
        flags: OFlags,
        links: Links,
    ) -> std::result::Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let mut tries = 0;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < RETRIES => tries += 1,
                answer => return answer,
            }
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The file type of an open path.
///
/// # Errors
/// The kernel refused.
pub fn kind(place: impl AsFd) -> Result<FileType> {
    let status = rustix::fs::fstat(place).map_err(|error| SystemError::new("fstat", "", error))?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

/// What the last component of a path shall be if it has to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Directory,
    File,
}

/// The slow way through a path, one component at a time, that makes what is missing. `done` holds real directories only, so
/// that ".." may drop its last one; each step looks `done` up again without following any link, so that a name exchanged
/// meanwhile is an error and not a way out.
struct Walk {
    links: Links,
    last: Last,
}

impl Walk {
    fn from(&self, root: &Root, path: &Path) -> std::result::Result<OwnedFd, Errno> {
        let mut done = PathBuf::from(".");
        let mut todo: VecDeque<OsString> = components(path).collect();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                done = done
                    .parent()
                    .filter(|_| done != Path::new("."))
                    .unwrap_or(Path::new("."))
                    .into();
                continue;
            }
            let directory = root.lookup(&done, OFlags::PATH | OFlags::DIRECTORY, Links::Refuse)?;
            if let Some(link) = read_link(&directory, &name)? {
                links += 1;
                if links > LINKS || self.links == Links::Refuse {
                    return Err(Errno::LOOP);
                }
                if link.is_absolute() {
                    done = PathBuf::from(".");
                }
                for component in components(&link).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(component);
                }
                continue;
            }
            if todo.is_empty() && self.last == Last::File {
                return make_file(&directory, &name);
            }
            match rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => done.push(name),
                Err(error) => return Err(error),
            }
        }
        let flags = match self.last {
            Last::Directory => OFlags::PATH | OFlags::DIRECTORY,
            Last::File => OFlags::PATH,
        };
        root.lookup(&done, flags, Links::Refuse)
    }
}

fn components(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

/// The target of a symbolic link; nothing if there is something else, or nothing.
fn read_link(directory: &OwnedFd, name: &OsStr) -> std::result::Result<Option<PathBuf>, Errno> {
    match rustix::fs::readlinkat(directory, name, Vec::new()) {
        Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an empty file, or takes what is there as long as it is no link, and never opens it for more than its place.
fn make_file(directory: &OwnedFd, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o644);
    match rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let place = rustix::fs::openat(
        directory,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let status = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    Ok(place)
}

/// The error of a path that is not what it has to be.
#[must_use]
pub fn mismatch(call: &'static str, object: String) -> SystemError {
    SystemError::new(call, object, io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests;
