//! What a container wrote to its root: files that are new or different, as an archive, and paths that are gone.
//!
//! Read from the upper directory of its overlay (Documentation/filesystems/overlayfs.rst): a character device 0/0 stands for
//! a name that is gone, and a directory marked opaque hides all that the image has below it. The container is frozen, so that
//! nobody changes what is walked; links in it are told and never followed.

use super::CheckpointError;
use super::archive::header_of;
use cringle_domain::namespaces::IdMapping;
use cringle_domain::snapshot::Active;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, OsStr};
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType};

/// Marks of overlayfs that make a file mean something else than it is.
const OPAQUE: &CStr = c"trusted.overlay.opaque";
const ELSEWHERE: [(&CStr, &str); 2] = [
    (c"trusted.overlay.redirect", "its name in the image is another one"),
    (c"trusted.overlay.metacopy", "its content is in the image"),
];
/// Attributes with these names are the overlay's and the host's; the others belong to the file.
const NOT_THE_FILES: [&[u8]; 2] = [b"trusted.", b"security.selinux"];

/// The record of a link's target that is too long for its header (pax(1)).
const LONG_TARGET: &str = "linkpath";

/// A root filesystem whose changes are told.
#[derive(Debug)]
pub(crate) struct Root<'a> {
    /// Its directories.
    pub(crate) active: &'a Active,
    /// Which ids of the host the container's are, if they are not the same.
    pub(crate) mapping: Option<IdMapping>,
    /// Paths that are mounts: what is below them is the mount point's, and no change.
    pub(crate) mounts: &'a [PathBuf],
}

impl Root<'_> {
    /// Writes what is new or different to `output`, with names below the root and without a leading slash. The answer is
    /// what is gone, with a leading slash.
    ///
    /// # Errors
    /// A file cannot be read, or the overlay says of one that its content is not here.
    pub(crate) fn write(&self, output: impl Write) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut walk = Walk {
            root: self,
            archive: Builder::new(output),
            links: HashMap::new(),
            gone: BTreeSet::new(),
        };
        walk.directory(Path::new(""), Below::Shows)?;
        let upper = &self.active.upper;
        walk.archive.finish().map_err(CheckpointError::file("archive", upper))?;
        Ok(walk.gone.into_iter().map(|path| Path::new("/").join(path)).collect())
    }

    fn is_mount(&self, path: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.strip_prefix("/").is_ok_and(|point| point == path))
    }

    /// An id as the container sees it; one that is none of its own stays.
    fn inside(&self, user: u32, group: u32) -> (u32, u32) {
        let Some(IdMapping { users, groups }) = self.mapping else { return (user, group) };
        let inside = |id: u32, first: u32, length: u32| match id.checked_sub(first) {
            Some(inside) if inside < length => inside,
            Some(_) | None => id,
        };
        (
            inside(user, users.first(), users.length()),
            inside(group, groups.first(), groups.length()),
        )
    }
}

/// Whether the image's files below a directory can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    Shows,
    Hidden,
}

struct Walk<'a, W: Write> {
    root: &'a Root<'a>,
    archive: Builder<W>,
    /// The first name of files that have more than one.
    links: HashMap<(u64, u64), PathBuf>,
    gone: BTreeSet<PathBuf>,
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, path: &Path, below: Below) -> Result<(), CheckpointError> {
        let place = self.root.active.upper.join(path);
        let below =
            if attribute(&place, OPAQUE)?.as_deref() == Some(b"y") { Below::Hidden } else { below };
        let mut names: Vec<_> = std::fs::read_dir(&place)
            .and_then(|entries| entries.map(|entry| entry.map(|one| one.file_name())).collect())
            .map_err(CheckpointError::file("list", &place))?;
        names.sort_unstable();
        if below == Below::Hidden {
            self.hide(path, &names);
        }
        for name in names {
            self.entry(&path.join(name), below)?;
        }
        Ok(())
    }

    /// What the image has in a directory and the container has not.
    fn hide(&mut self, path: &Path, names: &[std::ffi::OsString]) {
        for lower in &self.root.active.lower {
            // A layer that has no such directory has nothing in it.
            let Ok(entries) = std::fs::read_dir(lower.join(path)) else { continue };
            let hidden = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
            let hidden = hidden.filter(|name| names.binary_search(name).is_err());
            self.gone.extend(hidden.map(|name| path.join(name)));
        }
    }

    fn entry(&mut self, path: &Path, below: Below) -> Result<(), CheckpointError> {
        let place = self.root.active.upper.join(path);
        let found = place.symlink_metadata().map_err(CheckpointError::file("look at", &place))?;
        if found.file_type().is_char_device() && found.rdev() == 0 {
            self.gone.insert(path.to_owned());
            return Ok(());
        }
        if self.root.is_mount(path) {
            return Ok(());
        }
        for (mark, problem) in ELSEWHERE {
            if attribute(&place, mark)?.is_some() {
                return Err(CheckpointError::Changes { path: place, problem });
            }
        }
        self.append(path, &place, &found)?;
        if found.is_dir() { self.directory(path, below) } else { Ok(()) }
    }

    fn append(
        &mut self,
        path: &Path,
        place: &Path,
        found: &Metadata,
    ) -> Result<(), CheckpointError> {
        let fails = || CheckpointError::file("archive", place);
        let kind = found.file_type();
        let (user, group) = self.root.inside(found.uid(), found.gid());
        let mut header = header_of(found, user, group);
        if kind.is_socket() {
            // No archive has sockets; whoever binds one makes it anew.
            return Ok(());
        }
        if !kind.is_dir()
            && found.nlink() > 1
            && let Some(first) = self.links.get(&(found.dev(), found.ino()))
        {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return self.archive.append_link(&mut header, path, first).map_err(fails());
        }
        self.links.insert((found.dev(), found.ino()), path.to_owned());
        let mut records = attributes(place)?;
        if kind.is_symlink() {
            let target = std::fs::read_link(place).map_err(fails())?.into_os_string().into_vec();
            // As it is, to the letter: a path of the archive would be made plain.
            if header.set_link_name_literal(&target).is_err() {
                records.push((LONG_TARGET.to_owned(), target));
            }
        }
        let records = records.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(records).map_err(fails())?;
        if kind.is_file() {
            let file = open(place).map_err(CheckpointError::file("open", place))?;
            return self.archive.append_data(&mut header, path, file).map_err(fails());
        }
        self.archive.append_data(&mut header, path, io::empty()).map_err(fails())
    }
}

/// The file's own attributes, as records that go before it.
fn attributes(place: &Path) -> Result<Vec<(String, Vec<u8>)>, CheckpointError> {
    let fails = || CheckpointError::file("read the attributes of", place);
    let list = whole(|buffer| rustix::fs::llistxattr(place, buffer)).map_err(fails())?;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut records = Vec::new();
    for name in names.filter(|name| !NOT_THE_FILES.iter().any(|one| name.starts_with(one))) {
        // Names of attributes that are no text can't be told.
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let name = OsStr::from_bytes(name);
        let value = whole(|buffer| rustix::fs::lgetxattr(place, name, buffer)).map_err(fails())?;
        records.push((format!("SCHILY.xattr.{text}"), value));
    }
    Ok(records)
}

/// Opens a file that is no link; what is not read to its end does not wait for anybody.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn attribute(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>, CheckpointError> {
    match whole(|buffer| rustix::fs::lgetxattr(path, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(CheckpointError::file("read the attributes of", path)(error)),
    }
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

#[cfg(test)]
mod tests;
