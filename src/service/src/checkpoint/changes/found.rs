//! Files of a container by descriptors. A container of the same pod may change names while this one stands still, and an
//! image may have links where the container has directories: neither leads out of the tree, and what is told of a file and
//! what is read from it is the same file's.

use crate::checkpoint::CheckpointError;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Attributes with these names are the overlay's and the host's; the others belong to the file.
const NOT_THE_FILES: [&[u8]; 2] = [b"trusted.", b"security.selinux"];

/// A directory with all that is below it.
#[derive(Debug)]
pub(super) struct Tree {
    directory: OwnedFd,
    place: PathBuf,
}

impl Tree {
    /// That at `place`, a path of our own.
    pub(super) fn open(place: &Path) -> Result<Self, CheckpointError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(place, flags, Mode::empty());
        let directory = directory.map_err(|error| failed("open", place)(error.into()))?;
        Ok(Self { directory, place: place.to_owned() })
    }

    /// Where a path below is, for messages.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.place.join(path)
    }

    /// The names in a directory, sorted. It is an error if a link is on the way.
    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let directory =
            self.beneath(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let mut names = Vec::new();
        for entry in Dir::new(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What is at a path; a link is found, not followed.
    pub(super) fn find(&self, path: &Path) -> Result<Found, CheckpointError> {
        let place = self.place(path);
        let fails = || failed("look at", &place);
        let file =
            File::from(self.beneath(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(fails())?);
        let metadata = file.metadata().map_err(fails())?;
        Ok(Found { file, metadata, place })
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve)?)
    }
}

/// A file that was found, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct Found {
    /// Opened by path only: nothing of it is waited for.
    file: File,
    pub(super) metadata: Metadata,
    /// Where it was found, for messages.
    pub(super) place: PathBuf,
}

impl Found {
    /// Opens a regular file to be read.
    pub(super) fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::open(self.by_descriptor(), flags, Mode::empty())?))
    }

    /// Where a link leads.
    pub(super) fn target(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.file, c"", Vec::new())?.into_bytes())
    }

    /// The value of an attribute, if it has that.
    pub(super) fn attribute(&self, name: &CStr) -> Result<Option<Vec<u8>>, CheckpointError> {
        match whole(|buffer| rustix::fs::getxattr(self.by_descriptor(), name, buffer)) {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("read the attributes of", &self.place)(error)),
        }
    }

    /// The file's own attributes, as records that go before it in an archive.
    pub(super) fn attributes(&self) -> Result<Vec<(String, Vec<u8>)>, CheckpointError> {
        let fails = || failed("read the attributes of", &self.place);
        let path = self.by_descriptor();
        let list = whole(|buffer| rustix::fs::listxattr(&path, buffer)).map_err(fails())?;
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut records = Vec::new();
        for name in names.filter(|name| !NOT_THE_FILES.iter().any(|one| name.starts_with(one))) {
            // Names of attributes that are no text can't be told.
            let Ok(text) = std::str::from_utf8(name) else { continue };
            let name = OsStr::from_bytes(name);
            let value = whole(|buffer| rustix::fs::getxattr(&path, name, buffer));
            records.push((format!("SCHILY.xattr.{text}"), value.map_err(fails())?));
        }
        Ok(records)
    }

    /// A name of the descriptor, which leads to the file itself, a link too (proc_pid_fd(5)).
    fn by_descriptor(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

fn failed(action: &'static str, place: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    CheckpointError::file(action, place)
}

fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::NODATA, Errno::NOTSUP];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// An answer of the kernel's whose length is not known before. No attribute is longer than this (`XATTR_SIZE_MAX`).
fn whole(ask: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let length = ask(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}
