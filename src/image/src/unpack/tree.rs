//! Writing entries as files below one directory, in the form that overlayfs takes as a layer.
//!
//! Every name is resolved by the kernel inside the directory (`openat2`, in-root) anew for each entry, because any entry may
//! have replaced what an earlier one made; attributes are set on descriptors or without following links. So there is no
//! check that could be outrun and no remembered path that could go stale.
//!
//! Whiteouts become what overlayfs knows: `.wh.name` a character device 0:0 called `name`; `.wh..wh..opq` a mark on the
//! directory, which the daemon sets. They hide lower layers only: what this layer has itself stays.

mod attributes;
mod links;
mod path;
mod remove;

pub(crate) use attributes::{is_whiteout, layers_may_have};
pub(crate) use path::{FileName, LayerPath};

use super::archive::{Archive, Entry, Kind, Mtime};
use super::report::{EncodedPath, Marks, UnpackError};
use crate::settings::LayerLimits;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);
/// Paths in a report; a layer with more of them is no honest one.
const MOST_MARKS: usize = 50_000;
/// What a small file or a directory takes on most file systems.
const UNIT: u64 = 4096;

/// What the files take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    pub(super) dropped_xattrs: u64,
}

/// A directory that is being filled.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    limits: LayerLimits,
    usage: Usage,
    /// Sizes of files, holes included.
    length: u64,
    /// Directories get their times last, because each entry in them changes those.
    times: BTreeMap<Vec<u8>, Mtime>,
    opaque: BTreeSet<Vec<u8>>,
    implied: BTreeSet<Vec<u8>>,
    links: links::LowerLinks,
}

/// The directory that an entry goes into.
#[derive(Debug)]
pub(super) struct Parent {
    directory: OwnedFd,
    /// With set-group-id, what is made in it belongs to its group, so owners must be set.
    gives_group: bool,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, limits: LayerLimits) -> Self {
        Self {
            root,
            limits,
            usage: Usage::default(),
            length: 0,
            times: BTreeMap::new(),
            opaque: BTreeSet::new(),
            implied: BTreeSet::new(),
            links: links::LowerLinks::default(),
        }
    }

    /// Adds an entry, the content of a file taken from the archive.
    pub(super) fn add<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let path = LayerPath::parse(&entry.path, self.limits.depth)
            .map_err(|problem| UnpackError::entry(&entry.path, problem))?;
        let Some(name) = path.name() else { return self.add_root(entry) };
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.add_whiteout(entry, &path, name);
        }
        self.count(entry)?;
        let parent = self.open_parent(&path)?;
        match entry.kind {
            Kind::Directory => self.add_directory(entry, &path, &parent),
            Kind::File => self.add_file(entry, &path, &parent, archive),
            Kind::HardLink => self.add_link(entry, &path, &parent),
            Kind::Symlink => self.add_other(entry, &path, &parent, |parent, name| {
                fs::symlinkat(entry.link.as_slice(), parent, name)
            }),
            Kind::Character => self.add_device(entry, &path, &parent, FileType::CharacterDevice),
            Kind::Block => self.add_device(entry, &path, &parent, FileType::BlockDevice),
            Kind::Fifo => self.add_device(entry, &path, &parent, FileType::Fifo),
        }
    }

    /// Sets the directories' times and says what was made.
    pub(super) fn finish(self) -> Result<(Usage, Marks), UnpackError> {
        for (path, mtime) in &self.times {
            // One that was replaced meanwhile has no times of its own any more.
            if let Ok(directory) = self.open_directory(path, ResolveFlags::NO_SYMLINKS) {
                attributes::set_mtime(&directory, path, *mtime)?;
            }
        }
        let links = self.lower_links()?;
        if self.opaque.len() + self.implied.len() + self.links.len() > MOST_MARKS {
            return Err(UnpackError::Limit("marked directories and links into lower layers"));
        }
        let encode =
            |paths: BTreeSet<Vec<u8>>| paths.iter().map(|path| EncodedPath::new(path)).collect();
        let (opaque, implied) = (encode(self.opaque), encode(self.implied));
        Ok((self.usage, Marks { opaque, implied, links }))
    }

    fn count(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let stored = match &entry.regions {
            Some(regions) => regions.iter().map(|region| region.length).sum(),
            None => entry.size,
        };
        self.usage.bytes = self.usage.bytes.saturating_add(match entry.kind {
            Kind::File => stored.checked_next_multiple_of(UNIT).unwrap_or(u64::MAX),
            Kind::Directory => UNIT,
            Kind::HardLink | Kind::Symlink | Kind::Character | Kind::Block | Kind::Fifo => 0,
        });
        self.count_inode()?;
        self.length = self.length.saturating_add(entry.size);
        if self.length > self.limits.bytes {
            return Err(UnpackError::Limit("bytes"));
        }
        Ok(())
    }

    fn count_inode(&mut self) -> Result<(), UnpackError> {
        self.usage.inodes += 1;
        if self.usage.inodes > self.limits.inodes {
            return Err(UnpackError::Limit("files"));
        }
        Ok(())
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::entry(&entry.path, "the root can only be a directory"));
        }
        self.usage.dropped_xattrs += attributes::set_all(&self.root, entry, attributes::Need::All)?;
        self.times.insert(Vec::new(), entry.mtime);
        Ok(())
    }

    fn add_directory(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
    ) -> Result<(), UnpackError> {
        let name = path.file_name();
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut need = attributes::Need::of(parent.gives_group);
        let made = fs::mkdirat(&parent.directory, name, mode);
        if made == Err(Errno::EXIST) {
            match attributes::existing(&parent.directory, name, &entry.path)? {
                attributes::Existing::Directory => need = attributes::Need::All,
                existing @ (attributes::Existing::Whiteout | attributes::Existing::Other) => {
                    fs::unlinkat(&parent.directory, name, AtFlags::empty())
                        .map_err(failed("replace", entry))?;
                    fs::mkdirat(&parent.directory, name, mode)
                        .map_err(failed("make directory", entry))?;
                    // The directory below was removed and made anew: nothing of it may shine through.
                    if existing == attributes::Existing::Whiteout {
                        self.opaque.insert(path.joined());
                    }
                }
            }
        } else {
            made.map_err(failed("make directory", entry))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::openat(&parent.directory, name, flags, Mode::empty())
            .map_err(failed("open directory", entry))?;
        self.usage.dropped_xattrs += attributes::set_all(&directory, entry, need)?;
        let key = path.joined();
        self.implied.remove(&key);
        self.times.insert(key, entry.mtime);
        Ok(())
    }

    fn add_file<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let file = self
            .replacing(path, parent, |parent, name| fs::openat(parent, name, flags, mode))
            .map_err(failed("create", entry))?;
        let file = File::from(file);
        write_content(&file, entry, archive)?;
        let need = attributes::Need::of(parent.gives_group);
        self.usage.dropped_xattrs += attributes::set_all(&file, entry, need)?;
        attributes::set_mtime(&file, &entry.path, entry.mtime)
    }

    fn add_device(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
        kind: FileType,
    ) -> Result<(), UnpackError> {
        let device = fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode);
        self.add_other(entry, path, parent, |parent, name| {
            fs::mknodat(parent, name, kind, mode, device)
        })
    }

    /// Something that has no content and isn't opened.
    fn add_other(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
        make: impl Fn(&OwnedFd, FileName<'_>) -> rustix::io::Result<()>,
    ) -> Result<(), UnpackError> {
        self.replacing(path, parent, make).map_err(failed("make", entry))?;
        self.usage.dropped_xattrs += u64::try_from(entry.xattrs.len()).unwrap_or(u64::MAX);
        attributes::set_by_name(parent, path.file_name(), entry)
    }

    /// Makes a new file, in the place of what may be there.
    fn replacing<T>(
        &mut self,
        path: &LayerPath,
        parent: &Parent,
        make: impl Fn(&OwnedFd, FileName<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, std::io::Error> {
        let name = path.file_name();
        match make(&parent.directory, name) {
            Err(Errno::EXIST) => {
                remove::remove_at(&parent.directory, name)?;
                self.forget(&path.joined());
                Ok(make(&parent.directory, name)?)
            }
            other => Ok(other?),
        }
    }

    /// Drops the notes on a directory that is gone, and on those that were in it.
    fn forget(&mut self, path: &[u8]) {
        let is_in = |other: &[u8]| {
            other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.opaque.retain(|other| !is_in(other));
        self.implied.retain(|other| !is_in(other));
        // The times are kept: they are set only on what is a directory at the end.
    }

    fn add_whiteout(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        name: FileName<'_>,
    ) -> Result<(), UnpackError> {
        // A whiteout concerns the directory of that very path in lower layers: no link may bend it.
        let is_opaque = name.as_bytes() == OPAQUE;
        if name.as_bytes().starts_with(WHITEOUT_META) && !is_opaque {
            // Bookkeeping of a union file system of old; it hides nothing.
            return Ok(());
        }
        self.count_inode()?;
        self.open_parent(path)?;
        let parent = self
            .open_directory(path.parent(), ResolveFlags::NO_SYMLINKS)
            .map_err(|_link| UnpackError::entry(&entry.path, "a whiteout below a symbolic link"))?;
        if is_opaque {
            self.opaque.insert(path.parent().to_vec());
            return Ok(());
        }
        let hidden = FileName::parse(&name.as_bytes()[WHITEOUT.len()..])
            .ok_or_else(|| UnpackError::entry(&entry.path, "a whiteout of nothing"))?;
        let mode = Mode::empty();
        match fs::mknodat(&parent, hidden, FileType::CharacterDevice, mode, 0) {
            Err(Errno::EXIST) => {
                if attributes::existing(&parent, hidden, &entry.path)?
                    == attributes::Existing::Directory
                {
                    self.opaque.insert(path.sibling(hidden));
                }
                Ok(())
            }
            other => other.map_err(failed("make whiteout", entry)),
        }
    }

    fn open_parent(&mut self, path: &LayerPath) -> Result<Parent, UnpackError> {
        let directory = match self.open_directory(path.parent(), ResolveFlags::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => self.make_parents(path)?,
            Err(errno) => return Err(UnpackError::system("open", path.parent(), errno)),
        };
        let stat = fs::fstat(&directory)
            .map_err(|errno| UnpackError::system("examine", path.parent(), errno))?;
        Ok(Parent { directory, gives_group: stat.st_mode & 0o2000 != 0 })
    }

    /// Makes the directories that the layer implies but does not have.
    fn make_parents(&mut self, path: &LayerPath) -> Result<OwnedFd, UnpackError> {
        let mut directory = self
            .open_directory(b"", ResolveFlags::empty())
            .map_err(|errno| UnpackError::system("open", b"/", errno))?;
        for (ancestor, name) in path.ancestors() {
            let failed = |errno| UnpackError::system("make directory", ancestor, errno);
            directory = match self.open_directory(ancestor, ResolveFlags::empty()) {
                Err(Errno::NOENT) => {
                    fs::mkdirat(&directory, name, IMPLIED_MODE).map_err(failed)?;
                    self.count_inode()?;
                    self.usage.bytes += UNIT;
                    self.implied.insert(ancestor.to_vec());
                    self.open_directory(ancestor, ResolveFlags::empty()).map_err(failed)?
                }
                other => other.map_err(failed)?,
            };
        }
        Ok(directory)
    }

    fn open_directory(&self, path: &[u8], extra: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        fs::openat2(&self.root, path, flags, Mode::empty(), resolve | extra)
    }
}

fn write_content<R: BufRead>(
    file: &File,
    entry: &Entry,
    archive: &mut Archive<R>,
) -> Result<(), UnpackError> {
    let failed = |error| UnpackError::system("write", &entry.path, error);
    let Some(regions) = &entry.regions else {
        let mut file = file;
        loop {
            let piece = archive.content()?;
            if piece.is_empty() {
                return Ok(());
            }
            let length = piece.len();
            std::io::Write::write_all(&mut file, piece).map_err(failed)?;
            archive.consume(length);
        }
    };
    file.set_len(entry.size).map_err(failed)?;
    for region in regions {
        let (mut at, end) = (region.offset, region.offset + region.length);
        while at < end {
            let piece = archive.content()?;
            let length =
                usize::try_from(end - at).map_or(piece.len(), |left| left.min(piece.len()));
            if length == 0 {
                return Err(UnpackError::entry(&entry.path, "its content ends early"));
            }
            file.write_all_at(&piece[..length], at).map_err(failed)?;
            archive.consume(length);
            at += u64::try_from(length).unwrap_or(u64::MAX);
        }
    }
    Ok(())
}

fn failed<E: Into<std::io::Error>>(
    action: &'static str,
    entry: &Entry,
) -> impl Fn(E) -> UnpackError {
    move |error| UnpackError::system(action, &entry.path, error)
}

/// The descriptor of the parent, for attributes set by name.
impl AsFd for Parent {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

#[cfg(test)]
mod tests;
