//! Owners, modes, extended attributes and times, set on descriptors or without following links.

use super::{FileName, Parent};
use crate::unpack::archive::{Entry, Mtime};
use crate::unpack::report::UnpackError;
use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, RawMode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Whether attributes that a new file has anyway must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// All of them: the file was there before, or inherits.
    All,
    /// Only those that differ from what the kernel gives a file of root's.
    Unusual,
}

impl Need {
    pub(super) fn of(parent_gives_group: bool) -> Self {
        if parent_gives_group { Self::All } else { Self::Unusual }
    }
}

/// What stands in the place of a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Directory,
    Whiteout,
    Other,
}

pub(super) fn existing(
    directory: &impl AsFd,
    name: FileName<'_>,
    path: &[u8],
) -> Result<Existing, UnpackError> {
    let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| UnpackError::system("examine", path, errno))?;
    Ok(if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        Existing::Directory
    } else if is_whiteout(&stat) {
        Existing::Whiteout
    } else {
        Existing::Other
    })
}

/// Whether it is what overlayfs takes for "nothing here, whatever is below".
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Sets owner, mode and extended attributes of an open file or directory; returns how many attributes were left off.
pub(super) fn set_all(file: &impl AsFd, entry: &Entry, need: Need) -> Result<u64, UnpackError> {
    let failed = |action| move |errno: Errno| UnpackError::system(action, &entry.path, errno);
    if need == Need::All || entry.uid != 0 || entry.gid != 0 {
        let (uid, gid) = owner(entry)?;
        fs::fchown(file, Some(uid), Some(gid)).map_err(failed("set the owner of"))?;
    }
    // After the owner, because a change of owner clears these bits; a new file has the others already.
    if need == Need::All || entry.mode & 0o7000 != 0 {
        fs::fchmod(file, Mode::from_raw_mode(RawMode::from(entry.mode)))
            .map_err(failed("set the mode of"))?;
    }
    // Last, because a change of owner clears file capabilities.
    let mut dropped = 0;
    for (name, value) in &entry.xattrs {
        if !layers_may_have(name) {
            dropped += 1;
            continue;
        }
        match fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            // The file system may have none.
            Err(Errno::OPNOTSUPP) => dropped += 1,
            other => other.map_err(failed("set an attribute of"))?,
        }
    }
    Ok(dropped)
}

/// Sets owner and times of something that isn't opened, such as a link or a device.
pub(super) fn set_by_name(
    parent: &Parent,
    name: FileName<'_>,
    entry: &Entry,
) -> Result<(), UnpackError> {
    let failed = |action| move |errno: Errno| UnpackError::system(action, &entry.path, errno);
    if parent.gives_group || entry.uid != 0 || entry.gid != 0 {
        let (uid, gid) = owner(entry)?;
        fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the owner of"))?;
    }
    fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("set the times of"))
}

pub(super) fn set_mtime(file: &impl AsFd, path: &[u8], mtime: Mtime) -> Result<(), UnpackError> {
    fs::futimens(file, &timestamps(mtime))
        .map_err(|errno| UnpackError::system("set the times of", path, errno))
}

/// Attributes of overlayfs would let a layer redirect others, and those of security modules are the host's to give. File
/// capabilities and what programs keep for themselves are the layer's.
pub(crate) fn layers_may_have(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), UnpackError> {
    // The highest number means "leave as it is" to the kernel.
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(UnpackError::entry(&entry.path, "an impossible owner"));
    }
    Ok((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)))
}

fn timestamps(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}
