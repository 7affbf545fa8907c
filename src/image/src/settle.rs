//! What a worker may not or cannot do to a layer: marks that hide lower directories, attributes of directories that the layer
//! only implies, and files of lower layers that it links to.
//!
//! The worker has ended when this runs, so nobody changes the tree; its paths are resolved inside the layer and through no
//! link all the same.

use crate::commit::{self, Candidate};
use crate::copy_up::{copy_up, mode_of, owner_of, times_of};
use crate::error::{PullErrorKind, PullFailure};
use crate::layout;
use crate::merged::{Merged, open_root};
use crate::state::{Layer, LayerFacts, Place, Staged, Store};
use crate::unpack::{EncodedPath, LowerLink};
use cringle_domain::image::Layer as LayerRecord;
use rustix::fs::{self, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
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
            Place::Staged(staged) => {
                let files = layout::files_in(&staged.directory);
                settle_layer(&files, &staged.implied, &below)
                    .map_err(PullFailure::store("settle layer", &files))?;
                if !staged.links.is_empty() {
                    let part = Part { store, record, staged, facts: layer.facts };
                    let bytes = part.copy_links(candidate, &below)?;
                    part.note_links(bytes)?;
                }
                files
            }
            Place::Committed => store.layout.layer_files(record.key()),
        };
        below.push(files);
    }
    Ok(())
}

/// A staged layer that links to files of lower layers.
struct Part<'a> {
    store: &'a Store,
    record: &'a LayerRecord,
    staged: &'a Staged,
    facts: LayerFacts,
}

impl Part<'_> {
    /// Puts the files of lower layers in their places; how much that was.
    fn copy_links(&self, candidate: &Candidate, below: &[PathBuf]) -> Result<u64, PullFailure> {
        let files = layout::files_in(&self.staged.directory);
        let failed = |kind, detail| PullFailure::Layer {
            layer: self.record.blob.clone(),
            reference: candidate.called(),
            kind,
            detail,
        };
        let merged = Merged::open(&files, below).map_err(PullFailure::store("open", &files))?;
        let mut bytes = 0_u64;
        for Link { target, names } in &self.staged.links {
            let entry =
                names.first().map(|name| name.escape_ascii().to_string()).unwrap_or_default();
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
            if self.facts.bytes.saturating_add(bytes) > self.store.settings.layer_limits.bytes {
                let problem =
                    format!("with what entry \"{entry}\" links to it has more bytes than allowed");
                return Err(failed(PullErrorKind::TooLarge, problem));
            }
            copy_up(&found, merged.top(), names).map_err(step)?;
        }
        Ok(bytes)
    }

    /// Notes that the layer has its links, so that it isn't done again.
    fn note_links(&self, bytes: u64) -> Result<(), PullFailure> {
        let directory = &self.staged.directory;
        let facts = LayerFacts { bytes: self.facts.bytes.saturating_add(bytes), ..self.facts };
        commit::write_facts(directory, facts)
            .map_err(PullFailure::store("write facts in", directory))?;
        let place = Place::Staged(Staged { links: Vec::new(), ..self.staged.clone() });
        if let Some(noted) = self.store.state().layers.get_mut(self.record.key()) {
            *noted = Layer { facts, place };
        }
        Ok(())
    }
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
    let (uid, gid) = owner_of(stat);
    fs::fchown(directory, Some(uid), Some(gid))?;
    fs::fchmod(directory, mode_of(stat))?;
    Ok(fs::futimens(directory, &times_of(stat))?)
}

fn decoded(path: &EncodedPath) -> io::Result<Vec<u8>> {
    path.decode()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a path that is not base 64"))
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
