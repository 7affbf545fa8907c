//! What a worker may not or cannot do to a layer: marks that hide lower directories, and attributes of directories that the
//! layer only implies.
//!
//! The worker has ended when this runs, so nobody changes the tree; its paths are resolved inside the layer and through no
//! link all the same.

use crate::error::PullFailure;
use crate::layout;
use crate::state::{Place, Store};
use crate::unpack::EncodedPath;
use cringle_domain::image::ImageRecord;
use rustix::fs::{
    self, CWD, Mode, OFlags, RawMode, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Marks directories of a layer as hiding what is below them.
pub(crate) fn mark_opaque(layer: &Path, paths: &[EncodedPath]) -> io::Result<()> {
    let root = open_root(&layout::files_in(layer))?;
    for path in paths {
        let directory = open_in(&root, &decoded(path)?)?;
        fs::fsetxattr(&directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
    }
    Ok(())
}

/// The paths in plain bytes.
pub(crate) fn decode_all(paths: &[EncodedPath]) -> io::Result<Vec<Vec<u8>>> {
    paths.iter().map(decoded).collect()
}

/// Gives the directories that staged layers only imply the attributes that they have in the image below. A layer that many
/// images share is settled with the first of them.
pub(crate) fn settle(store: &Store, record: &ImageRecord) -> Result<(), PullFailure> {
    let mut below: Vec<PathBuf> = Vec::new();
    for layer in &record.layers {
        let place = store.state().layers.get(&layer.diff_id).map(|layer| layer.place.clone());
        let files = match place {
            Some(Place::Staged { directory, implied }) => {
                let files = layout::files_in(&directory);
                settle_layer(&files, &implied, &below)
                    .map_err(PullFailure::store("settle layer", &files))?;
                files
            }
            Some(Place::Committed) => store.layout.layer_files(&layer.diff_id),
            // The lease keeps it here; if it were not, the rename would say so.
            None => continue,
        };
        below.push(files);
    }
    Ok(())
}

fn settle_layer(files: &Path, implied: &[Vec<u8>], below: &[PathBuf]) -> io::Result<()> {
    if implied.is_empty() || below.is_empty() {
        return Ok(());
    }
    let root = open_root(files)?;
    // The nearest layer has the say.
    let lower: Vec<OwnedFd> =
        below.iter().rev().map(|path| open_root(path)).collect::<Result<_, _>>()?;
    for path in implied {
        let found = lower.iter().find_map(|lower| open_in(lower, path).ok());
        let Some(found) = found else { continue };
        let stat = fs::fstat(&found)?;
        copy_attributes(&stat, &open_in(&root, path)?)?;
    }
    Ok(())
}

fn copy_attributes(stat: &Stat, directory: &OwnedFd) -> io::Result<()> {
    let (uid, gid) = (fs::Uid::from_raw(stat.st_uid), fs::Gid::from_raw(stat.st_gid));
    fs::fchown(directory, Some(uid), Some(gid))?;
    fs::fchmod(directory, Mode::from_raw_mode(stat.st_mode & RawMode::from(0o7777_u16)))?;
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    };
    Ok(fs::futimens(directory, &times)?)
}

fn decoded(path: &EncodedPath) -> io::Result<Vec<u8>> {
    path.decode()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a path that is not base 64"))
}

fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open_in(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    match fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // A layer that is being renamed elsewhere on the machine can make this happen; it doesn't last.
        Err(Errno::AGAIN) => fs::openat2(root, path, flags, Mode::empty(), resolve),
        other => other,
    }
}
