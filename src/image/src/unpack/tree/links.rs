//! Hard links: to what the layer has, and to what only a layer below has.
//!
//! The worker sees no other layer than its own. In the place of a link to a lower file it leaves a socket, which no archive can
//! ask for, and tells the daemon, which puts the file there when all layers are known. Until then the socket is linked,
//! replaced and removed like any file.

use super::{FileName, LayerPath, Parent, Tree, attributes, failed};
use crate::unpack::archive::Entry;
use crate::unpack::report::{EncodedPath, LowerLink, UnpackError};
use rustix::fs::{self, AtFlags, FileType, Mode, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// Notes on links to what the layer doesn't have.
#[derive(Debug, Default)]
pub(super) struct LowerLinks {
    /// The sockets by inode, with the path in lower layers that each stands for.
    targets: BTreeMap<u64, Vec<u8>>,
    /// The first name of the socket for a target.
    places: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names that the sockets were given. Some may be replaced by now.
    names: BTreeSet<Vec<u8>>,
}

/// Where the target of a hard link is.
enum Target {
    Here {
        directory: OwnedFd,
        stat: Stat,
    },
    /// Not in this layer, and not hidden by it.
    Below,
}

impl LowerLinks {
    /// How many names there are notes on.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

impl Tree {
    pub(super) fn add_link(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
    ) -> Result<(), UnpackError> {
        let target = LayerPath::parse(&entry.link, self.limits.depth)
            .map_err(|problem| UnpackError::entry(&entry.path, problem))?;
        let Some(name) = target.name() else {
            return Err(UnpackError::entry(&entry.path, "it links to the root"));
        };
        match self.find_target(entry, &target, name)? {
            Target::Here { directory, stat } => {
                if self.links.targets.contains_key(&stat.st_ino) && is_socket(&stat) {
                    self.links.names.insert(path.joined());
                }
                self.link(entry, path, parent, (&directory, name))
            }
            Target::Below => self.add_lower_link(entry, path, parent, &target),
        }
    }

    /// The notes on those sockets that are still there.
    pub(super) fn lower_links(&self) -> Result<Vec<LowerLink>, UnpackError> {
        let mut names: BTreeMap<&[u8], Vec<EncodedPath>> = BTreeMap::new();
        for name in &self.links.names {
            let target = self.stat(name).filter(is_socket);
            let target = target.and_then(|stat| self.links.targets.get(&stat.st_ino));
            if let Some(target) = target {
                names.entry(target).or_default().push(EncodedPath::new(name));
            }
        }
        let link = |(target, names)| LowerLink { target: EncodedPath::new(target), names };
        Ok(names.into_iter().map(link).collect())
    }

    fn find_target(
        &self,
        entry: &Entry,
        target: &LayerPath,
        name: FileName<'_>,
    ) -> Result<Target, UnpackError> {
        let missing = || UnpackError::entry(&entry.path, "it links to what this layer hides");
        let directory = match self.open_directory(target.parent(), ResolveFlags::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return self.below(target).ok_or_else(missing),
            Err(_no_directory) => return Err(missing()),
        };
        match fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if attributes::is_whiteout(&stat) => Err(missing()),
            Ok(stat) => Ok(Target::Here { directory, stat }),
            Err(Errno::NOENT) => self.below(target).ok_or_else(missing),
            Err(errno) => Err(UnpackError::system("find the target of", &entry.path, errno)),
        }
    }

    /// The layers below, unless a directory on the way hides what they have.
    fn below(&self, target: &LayerPath) -> Option<Target> {
        let is_hidden = self.opaque.contains(&b""[..])
            || target.ancestors().any(|(ancestor, _)| self.opaque.contains(ancestor));
        (!is_hidden).then_some(Target::Below)
    }

    fn link(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
        (directory, name): (&OwnedFd, FileName<'_>),
    ) -> Result<(), UnpackError> {
        let identity = |directory: &OwnedFd, name: FileName<'_>| {
            fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| (stat.st_dev, stat.st_ino))
        };
        let target = identity(directory, name).map_err(failed("find the target of", entry))?;
        if identity(&parent.directory, path.file_name()) == Ok(target) {
            return Ok(());
        }
        self.replacing(path, parent, |parent, new| {
            fs::linkat(directory, name, parent, new, AtFlags::empty())
        })
        .map_err(failed("link", entry))
    }

    fn add_lower_link(
        &mut self,
        entry: &Entry,
        path: &LayerPath,
        parent: &Parent,
        target: &LayerPath,
    ) -> Result<(), UnpackError> {
        let key = target.joined();
        self.links.names.insert(path.joined());
        if let Some(place) = self.place_of(&key)
            && let Some(name) = place.name()
        {
            let directory = self
                .open_directory(place.parent(), ResolveFlags::empty())
                .map_err(failed("link", entry))?;
            return self.link(entry, path, parent, (&directory, name));
        }
        self.replacing(path, parent, |parent, name| {
            fs::mknodat(parent, name, FileType::Socket, Mode::empty(), 0)
        })
        .map_err(failed("link", entry))?;
        let made = fs::statat(&parent.directory, path.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("link", entry))?;
        self.links.targets.insert(made.st_ino, key.clone());
        self.links.places.insert(key, path.joined());
        Ok(())
    }

    /// Where the socket for that target is, if it is still there.
    fn place_of(&self, target: &[u8]) -> Option<LayerPath> {
        let place = self.links.places.get(target)?;
        let stat = self.stat(place).filter(is_socket)?;
        let is_its = self.links.targets.get(&stat.st_ino).is_some_and(|other| other == target);
        is_its.then(|| LayerPath::parse(place, self.limits.depth).ok())?
    }

    fn stat(&self, path: &[u8]) -> Option<Stat> {
        let path = LayerPath::parse(path, self.limits.depth).ok()?;
        let directory = self.open_directory(path.parent(), ResolveFlags::empty()).ok()?;
        fs::statat(&directory, path.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}

fn is_socket(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Socket
}
