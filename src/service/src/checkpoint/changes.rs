//! What a container wrote to its root: files that are new or different, as an archive, and paths that are gone.
//!
//! Read from the upper directory of its overlay (Documentation/filesystems/overlayfs.rst): a character device 0/0 stands for
//! a name that is gone, and a directory marked opaque hides all that the image has below it. The container is frozen, but others
//! of its pod may reach its files: see [`found`]. Links are told and never followed.

mod found;

use super::CheckpointError;
use super::archive::header_of;
use cringle_domain::namespaces::IdMapping;
use cringle_domain::snapshot::Active;
use found::{Found, Tree};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Marks of overlayfs that make a file mean something else than it is.
const OPAQUE: &CStr = c"trusted.overlay.opaque";
const ELSEWHERE: [(&CStr, &str); 2] = [
    (c"trusted.overlay.redirect", "its name in the image is another one"),
    (c"trusted.overlay.metacopy", "its content is in the image"),
];
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
        let lower = self.active.lower.iter().map(|layer| Tree::open(layer));
        let mut walk = Walk {
            root: self,
            upper: Tree::open(&self.active.upper)?,
            lower: lower.collect::<Result<_, _>>()?,
            archive: Builder::new(output),
            links: HashMap::new(),
            gone: BTreeSet::new(),
            ahead: Vec::new(),
        };
        walk.all()?;
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
    upper: Tree,
    lower: Vec<Tree>,
    archive: Builder<W>,
    /// The first name of files that have more than one.
    links: HashMap<(u64, u64), PathBuf>,
    gone: BTreeSet<PathBuf>,
    /// What is still to be looked at, the next one last. No recursion: the container says how deep its directories are.
    ahead: Vec<(PathBuf, Below)>,
}

impl<W: Write> Walk<'_, W> {
    fn all(&mut self) -> Result<(), CheckpointError> {
        let top = self.upper.find(Path::new(""))?;
        self.directory(Path::new(""), &top, Below::Shows)?;
        while let Some((path, below)) = self.ahead.pop() {
            self.entry(&path, below)?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        path: &Path,
        found: &Found,
        below: Below,
    ) -> Result<(), CheckpointError> {
        let is_opaque = found.attribute(OPAQUE)?.as_deref() == Some(b"y");
        let below = if is_opaque { Below::Hidden } else { below };
        let names = self.upper.names(path);
        let names = names.map_err(CheckpointError::file("list", &found.place))?;
        if below == Below::Hidden {
            self.hide(path, &names);
        }
        self.ahead.extend(names.iter().rev().map(|name| (path.join(name), below)));
        Ok(())
    }

    /// What the image has in a directory and the container has not.
    fn hide(&mut self, path: &Path, names: &[OsString]) {
        for lower in &self.lower {
            // A layer that has no such directory has nothing in it; one that has a link there neither.
            let Ok(hidden) = lower.names(path) else { continue };
            let hidden = hidden.into_iter().filter(|name| names.binary_search(name).is_err());
            self.gone.extend(hidden.map(|name| path.join(name)));
        }
    }

    fn entry(&mut self, path: &Path, below: Below) -> Result<(), CheckpointError> {
        let found = self.upper.find(path)?;
        if found.metadata.file_type().is_char_device() && found.metadata.rdev() == 0 {
            self.gone.insert(path.to_owned());
            return Ok(());
        }
        if self.root.is_mount(path) {
            return Ok(());
        }
        for (mark, problem) in ELSEWHERE {
            if found.attribute(mark)?.is_some() {
                return Err(CheckpointError::Changes { path: found.place, problem });
            }
        }
        self.append(path, &found)?;
        if found.metadata.is_dir() { self.directory(path, &found, below) } else { Ok(()) }
    }

    fn append(&mut self, path: &Path, found: &Found) -> Result<(), CheckpointError> {
        let fails = || CheckpointError::file("archive", &found.place);
        let metadata = &found.metadata;
        let kind = metadata.file_type();
        if kind.is_socket() {
            // No archive has sockets; whoever binds one makes it anew.
            return Ok(());
        }
        let (user, group) = self.root.inside(metadata.uid(), metadata.gid());
        let mut header = header_of(metadata, user, group);
        if !kind.is_dir() && metadata.nlink() > 1 {
            match self.links.entry((metadata.dev(), metadata.ino())) {
                Entry::Occupied(first) => {
                    header.set_entry_type(EntryType::Link);
                    header.set_size(0);
                    let linked = self.archive.append_link(&mut header, path, first.get());
                    return linked.map_err(fails());
                }
                Entry::Vacant(first) => drop(first.insert(path.to_owned())),
            }
        }
        let mut records = found.attributes()?;
        if kind.is_symlink() {
            let target = found.target().map_err(fails())?;
            // As it is, to the letter: a path of the archive would be made plain.
            if header.set_link_name_literal(&target).is_err() {
                records.push((LONG_TARGET.to_owned(), target));
            }
        }
        let records = records.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(records).map_err(fails())?;
        if kind.is_file() {
            return self.append_content(path, found, &mut header);
        }
        self.archive.append_data(&mut header, path, io::empty()).map_err(fails())
    }

    /// As many bytes as the header says: others of the pod may write to the file.
    fn append_content(
        &mut self,
        path: &Path,
        found: &Found,
        header: &mut Header,
    ) -> Result<(), CheckpointError> {
        let file = found.open().map_err(CheckpointError::file("open", &found.place))?;
        let mut content = file.take(found.metadata.len());
        let appended = self.archive.append_data(header, path, &mut content);
        appended.map_err(CheckpointError::file("archive", &found.place))?;
        if content.limit() == 0 {
            return Ok(());
        }
        let problem = "it became shorter while it was read";
        Err(CheckpointError::Changes { path: found.place.clone(), problem })
    }
}

#[cfg(test)]
mod tests;
