//! What a worker may not or cannot do to a layer: marks that hide lower directories, attributes of directories that the layer
//! only implies, and files of lower layers that it links to.
//!
//! The worker has ended when this runs, so nobody changes the tree; its paths are resolved inside the layer and through no
//! link all the same.

use crate::commit::{self, Candidate};
use crate::copy_up::copy_up;
use crate::error::{PullErrorKind, PullFailure};
use crate::layout;
use crate::merged::Merged;
use crate::state::{Layer, Place, Store};
use crate::unpack::{EncodedPath, LowerLink};
use cringle_domain::image::Layer as LayerRecord;
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

/// The links of a report in plain bytes.
pub(crate) fn decode_links(links: &[LowerLink]) -> io::Result<Vec<Link>> {
    let decode = |link: &LowerLink| {
        Ok(Link { target: decoded(&link.target)?, names: decode_all(&link.names)? })
    };
    links.iter().map(decode).collect()
}

/// A file of a lower layer, and what it is called in this one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) target: Vec<u8>,
    pub(crate) names: Vec<Vec<u8>>,
}

/// Gives staged layers what they have from those below: to directories that they only imply the attributes, and files that they
/// link to. A layer that many images share is settled with the first of them; one with such links is shared by those only that
/// have the same layers below.
pub(crate) fn settle(store: &Store, candidate: &Candidate) -> Result<(), PullFailure> {
    let mut below: Vec<PathBuf> = Vec::new();
    for record in &candidate.record.layers {
        // The lease keeps it here; if it were not, the rename would say so.
        let Some(layer) = store.state().layers.get(record.key()).cloned() else { continue };
        let files = match &layer.place {
            Place::Staged { directory, implied, links } => {
                let files = layout::files_in(directory);
                settle_layer(&files, implied, &below)
                    .map_err(PullFailure::store("settle layer", &files))?;
                if !links.is_empty() {
                    let bytes = copy_links(store, candidate, record, &layer, &below)?;
                    note_links(store, record, &layer, bytes)?;
                }
                files
            }
            Place::Committed => store.layout.layer_files(record.key()),
        };
        below.push(files);
    }
    Ok(())
}

/// Puts the files of lower layers that a layer links to in their places; how much that was.
fn copy_links(
    store: &Store,
    candidate: &Candidate,
    record: &LayerRecord,
    layer: &Layer,
    below: &[PathBuf],
) -> Result<u64, PullFailure> {
    let Place::Staged { directory, links, .. } = &layer.place else { return Ok(0) };
    let files = layout::files_in(directory);
    let failed = |kind, detail| PullFailure::Layer {
        layer: record.blob.clone(),
        reference: candidate.called(),
        kind,
        detail,
    };
    let merged = Merged::open(&files, below).map_err(PullFailure::store("open", &files))?;
    let mut bytes = 0_u64;
    for Link { target, names } in links {
        let entry = names.first().map(|name| name.escape_ascii().to_string()).unwrap_or_default();
        let target_text = target.escape_ascii().to_string();
        let step = |error: io::Error| {
            let action = "copy from a lower layer to";
            let mut path = files.clone();
            path.push(&entry);
            PullFailure::store(action, path)(error)
        };
        let Some(found) = merged.find_below(target).map_err(step)? else {
            let problem = format!(
                "entry \"{entry}\": it links to \"{target_text}\", which no layer below has"
            );
            return Err(failed(PullErrorKind::Corrupt, problem));
        };
        bytes = bytes.saturating_add(u64::try_from(found.stat.st_size).unwrap_or_default());
        if layer.facts.bytes.saturating_add(bytes) > store.settings.layer_limits.bytes {
            let problem =
                format!("with what entry \"{entry}\" links to it has more bytes than allowed");
            return Err(failed(PullErrorKind::TooLarge, problem));
        }
        copy_up(&found, merged.top(), names).map_err(step)?;
    }
    Ok(bytes)
}

/// Notes that a layer has its links, so that it isn't done again.
fn note_links(
    store: &Store,
    record: &LayerRecord,
    layer: &Layer,
    bytes: u64,
) -> Result<(), PullFailure> {
    let Place::Staged { directory, implied, .. } = &layer.place else { return Ok(()) };
    let mut facts = layer.facts;
    facts.bytes = facts.bytes.saturating_add(bytes);
    commit::write_facts(directory, facts)
        .map_err(PullFailure::store("write facts in", directory))?;
    let place =
        Place::Staged { directory: directory.clone(), implied: implied.clone(), links: Vec::new() };
    if let Some(noted) = store.state().layers.get_mut(record.key()) {
        *noted = Layer { facts, place };
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

#[cfg(test)]
mod tests;
