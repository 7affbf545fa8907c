//! Making an image visible, and invisible.
//!
//! ```text
//! record and blobs written -> file system synced -> layers renamed -> names table replaced, durably -> published
//! ```
//!
//! Whatever comes before the names table is unreachable without it, so a crash at any step leaves the images as they were;
//! what it leaves besides is swept. Nothing here awaits: a client that leaves can't cut it in half.

use crate::error::{PullFailure, is_full};
use crate::layout;
use crate::settle;
use crate::state::{Place, Staged, Store};
use cringle_domain::image::ImageRecord;
use cringle_domain::reference::{Digest, Reference};
use cringle_store::{atomic, format};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An image whose layers are all unpacked, and what it's called.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) record: Arc<ImageRecord>,
    pub(crate) names: Vec<Reference>,
    /// Configuration and manifest with their digests.
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
}

impl Candidate {
    /// What the client called it.
    pub(crate) fn called(&self) -> String {
        self.names.last().map(ToString::to_string).unwrap_or_default()
    }
}

/// Makes an image visible under these names. The caller has leases on its layers.
pub(crate) fn commit(store: &Store, candidate: &Candidate) -> Result<(), PullFailure> {
    let _door = store.door();
    let record = &candidate.record;
    let is_known = store.state().records.get(&record.id) == Some(record);
    if !is_known {
        let written = write_files(store, candidate).and_then(|()| commit_layers(store, candidate));
        written.inspect_err(|_failure| take_back(store, candidate))?;
    }
    let names = {
        let state = store.state();
        let mut names = state.names.clone();
        names.extend(candidate.names.iter().map(|name| (name.clone(), record.id.clone())));
        if is_known && names == state.names {
            return Ok(());
        }
        names
    };
    if let Err(error) = write_names(store, &names) {
        take_back(store, candidate);
        return Err(PullFailure::store("write", store.layout.names())(error));
    }
    let nameless = {
        let mut state = store.state();
        state.records.insert(record.id.clone(), Arc::clone(record));
        state.names = names;
        state.take_nameless()
    };
    remove_files(store, &nameless);
    Ok(())
}

/// Removes an image with all its names, if the text means one.
pub(crate) fn remove(store: &Store, text: &str) -> io::Result<()> {
    let _door = store.door();
    let (id, names) = {
        let state = store.state();
        let Some(id) = state.find(text) else { return Ok(()) };
        let rest = state.names.iter().filter(|(_, named)| *named != id);
        (id.clone(), rest.map(|(name, id)| (name.clone(), id.clone())).collect())
    };
    match write_names(store, &names) {
        Err(error) if is_full(&error) => remove_record(store, &id)?,
        other => other?,
    }
    let nameless = {
        let mut state = store.state();
        state.names = names;
        state.take_nameless()
    };
    remove_files(store, &nameless);
    store.sweeper.wake();
    Ok(())
}

/// Removes an image where there is no space to write the names without it. A name that leads to no record is none, so this is
/// as final; the table is written by whoever changes it next, when there is space again.
fn remove_record(store: &Store, id: &Digest) -> io::Result<()> {
    tracing::warn!(image = %id, "no space is left to write the names table; the image is removed without");
    atomic::remove(&store.layout.record(id))?;
    atomic::sync_directory(&store.layout.records())
}

/// Takes back what a failed commit wrote. What stays because of an error is no image, and is removed at the next start.
fn take_back(store: &Store, candidate: &Candidate) {
    let old = store.state().records.get(&candidate.record.id).cloned();
    let Some(old) = old else {
        return remove_files(store, std::slice::from_ref(&candidate.record));
    };
    if old != candidate.record
        && let Err(error) = write_record(store, &old)
    {
        tracing::warn!(image = %old.id, %error, "failed to write the record of an image again");
    }
}

fn write_files(store: &Store, candidate: &Candidate) -> Result<(), PullFailure> {
    for (digest, bytes) in &candidate.blobs {
        let path = store.layout.blob(digest);
        atomic::replace(&path, bytes).map_err(PullFailure::store("write", &path))?;
    }
    let path = store.layout.record(&candidate.record.id);
    write_record(store, &candidate.record).map_err(PullFailure::store("write", path))
}

fn write_record(store: &Store, record: &ImageRecord) -> io::Result<()> {
    let content = format::encode(record).map_err(io::Error::other)?;
    atomic::replace(&store.layout.record(&record.id), &content)
}

/// Gives staged layers their final names, once their content is on disk.
fn commit_layers(store: &Store, candidate: &Candidate) -> Result<(), PullFailure> {
    settle::settle(store, candidate)?;
    let root = store.layout.root();
    sync(root).map_err(PullFailure::store("sync", root))?;
    for layer in &candidate.record.layers {
        let place = store.state().layers.get(layer.key()).map(|layer| layer.place.clone());
        let Some(Place::Staged(Staged { directory, .. })) = place else { continue };
        let path = store.layout.layer(layer.key());
        std::fs::rename(&directory, &path).map_err(PullFailure::store("commit layer", &path))?;
        if let Some(layer) = store.state().layers.get_mut(layer.key()) {
            layer.place = Place::Committed;
        }
    }
    let layers = store.layout.layers();
    atomic::sync_directory(&layers).map_err(PullFailure::store("sync", layers))
}

fn sync(root: &Path) -> io::Result<()> {
    let root = std::fs::File::open(root)?;
    Ok(rustix::fs::syncfs(root)?)
}

fn write_names(store: &Store, names: &BTreeMap<Reference, Digest>) -> io::Result<()> {
    let content = format::encode(names).map_err(io::Error::other)?;
    atomic::replace_durably(&store.layout.names(), &content)
}

/// Files of images that are gone. What stays because of an error is removed at the next start.
fn remove_files(store: &Store, gone: &[Arc<ImageRecord>]) {
    for record in gone {
        let paths = [
            store.layout.record(&record.id),
            store.layout.blob(&record.id),
            store.layout.blob(&record.manifest),
        ];
        for path in paths {
            if let Err(error) = atomic::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to remove a file of an image");
            }
        }
    }
}

/// Writes the facts about a layer into its ingest directory.
pub(crate) fn write_facts(directory: &Path, facts: crate::state::LayerFacts) -> io::Result<()> {
    let content = format::encode(&facts).map_err(io::Error::other)?;
    atomic::replace(&layout::facts_in(directory), &content)
}
