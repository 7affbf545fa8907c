//! Opening the store: what a crash left is put away, and the rest is read.
//!
//! | found | do |
//! |---|---|
//! | anything in `ingest/` | throw away |
//! | a layer without facts or files | throw away |
//! | a name without a record | forget the name: the image was removed while the disk was full |
//! | a name whose record can't be read | forget the name, set the record aside |
//! | a record that misses a layer | forget it and its names: the client will pull it again |
//! | a record or blob that no name leads to | remove |
//! | new names that were not put in place | remove |
//! | a snapshot | keep it and its layers; whoever knows the containers sweeps |
//! | a layer that nothing needs | removed by the sweeper |

use crate::error::OpenError;
use crate::layout::{self, Layout};
use crate::settings::ImageSettings;
use crate::state::{Layer, LayerFacts, Place, State, Store};
use crate::sweeper::Sweeper;
use crate::trash::{self, Trash};
use cringle_domain::image::ImageRecord;
use cringle_domain::reference::{Digest, Reference};
use cringle_domain::snapshot::SnapshotKey;
use cringle_store::{atomic, format, quarantine};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Opens the store below that directory, which is made if it's not there.
pub(crate) fn open(root: &Path, settings: ImageSettings) -> Result<Arc<Store>, OpenError> {
    let layout = Layout::new(root);
    make_directories(&layout)?;
    let state = read(&layout)?;
    let (sweeper, orders) = Sweeper::new();
    let store = Arc::new(Store::new(layout, settings, sweeper, state));
    orders.serve(&store).map_err(OpenError::Sweeper)?;
    store.sweeper.wake();
    Ok(store)
}

fn make_directories(layout: &Layout) -> Result<(), OpenError> {
    let private = [
        layout.root().to_owned(),
        layout.records(),
        layout.blobs(),
        layout.layers(),
        layout.ingest(),
        layout.snapshots(),
        layout.trash(),
    ];
    for path in private {
        atomic::private_directory(&path).map_err(failed("make directory", &path))?;
    }
    // Containers see this one as their root's lower directory.
    let empty = layout.empty();
    make_public_directory(&empty).map_err(failed("make directory", &empty))
}

/// A directory that containers will see; mode 0755 whatever the umask.
pub(crate) fn make_public_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::DirBuilder::new().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

fn read(layout: &Layout) -> Result<State, OpenError> {
    let trash = Trash::new(layout.trash());
    clear(&layout.ingest(), &trash)?;
    let layers = read_layers(layout, &trash)?;
    let names = read_names(layout);
    let mut state = State::default();
    state.layers = layers;
    state.snapshots = read_snapshots(layout)?;
    let ids: HashSet<Digest> = names.values().cloned().collect();
    for id in ids {
        if let Some(record) = read_record(layout, &id, &state) {
            state.records.insert(id, Arc::new(record));
        }
    }
    state.names = names.into_iter().filter(|(_, id)| state.records.contains_key(id)).collect();
    remove_orphans(layout, &state)?;
    remove_drafts(layout)?;
    Ok(state)
}

fn clear(directory: &Path, trash: &Trash) -> Result<(), OpenError> {
    for name in trash::list(directory).map_err(failed("list", directory))? {
        let path = directory.join(name);
        trash.throw(&path).map_err(failed("throw away", &path))?;
    }
    Ok(())
}

fn read_layers(layout: &Layout, trash: &Trash) -> Result<HashMap<Digest, Layer>, OpenError> {
    let directory = layout.layers();
    let mut layers = HashMap::new();
    for name in trash::list(&directory).map_err(failed("list", &directory))? {
        let path = directory.join(&name);
        let diff_id = name.to_str().and_then(Digest::from_file_name);
        let facts = format::load::<LayerFacts>(&layout::facts_in(&path)).ok();
        match (diff_id, facts) {
            (Some(diff_id), Some(facts)) if layout::files_in(&path).is_dir() => {
                layers.insert(diff_id, Layer { facts, place: Place::Committed });
            }
            _ => {
                tracing::warn!(path = %path.display(), "removing a damaged layer");
                trash.throw(&path).map_err(failed("throw away", &path))?;
            }
        }
    }
    Ok(layers)
}

fn read_names(layout: &Layout) -> BTreeMap<Reference, Digest> {
    let path = layout.names();
    if !path.exists() {
        return BTreeMap::new();
    }
    match format::load(&path) {
        Ok(names) => names,
        Err(error) => {
            set_aside(layout, &path, &error);
            BTreeMap::new()
        }
    }
}

fn read_record(layout: &Layout, id: &Digest, state: &State) -> Option<ImageRecord> {
    let path = layout.record(id);
    if !path.exists() {
        tracing::warn!(image = %id, "a name leads to no record and is forgotten");
        return None;
    }
    let record: ImageRecord = match format::load(&path) {
        Ok(record) => record,
        Err(error) => {
            set_aside(layout, &path, &error);
            return None;
        }
    };
    let missing = record.layers.iter().find(|layer| !state.layers.contains_key(layer.key()));
    if let Some(layer) = missing {
        tracing::warn!(image = %id, layer = %layer.diff_id, "an image misses a layer and is forgotten");
        return None;
    }
    (record.id == *id).then_some(record)
}

fn read_snapshots(layout: &Layout) -> Result<HashMap<SnapshotKey, Vec<Digest>>, OpenError> {
    let directory = layout.snapshots();
    let mut snapshots = HashMap::new();
    for name in trash::list(&directory).map_err(failed("list", &directory))? {
        let Some(key) = name.to_str().and_then(|name| SnapshotKey::try_from(name.to_owned()).ok())
        else {
            continue;
        };
        // One that can't say what it stands on was cut short while it was made, and no container has it.
        let parents = format::load(&layout::parents_in(&layout.snapshot(&key))).unwrap_or_default();
        snapshots.insert(key, parents);
    }
    Ok(snapshots)
}

/// Records and blobs that no image leads to.
fn remove_orphans(layout: &Layout, state: &State) -> Result<(), OpenError> {
    let records = state.records.values();
    let known: HashSet<_> = records
        .flat_map(|record| {
            [layout.record(&record.id), layout.blob(&record.id), layout.blob(&record.manifest)]
        })
        .collect();
    for directory in [layout.records(), layout.blobs()] {
        for name in trash::list(&directory).map_err(failed("list", &directory))? {
            let path = directory.join(name);
            if !known.contains(&path) {
                atomic::remove(&path).map_err(failed("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// What a crash left beside the names that it was to replace: files of the same name between dots.
fn remove_drafts(layout: &Layout) -> Result<(), OpenError> {
    let names = layout.names();
    let name = names.file_name().unwrap_or_default().as_encoded_bytes();
    let begin = [b".", name, b"."].concat();
    for found in trash::list(layout.root()).map_err(failed("list", layout.root()))? {
        if found.as_encoded_bytes().starts_with(&begin) {
            let path = layout.root().join(found);
            atomic::remove(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

fn set_aside(layout: &Layout, path: &Path, problem: &format::FormatError) {
    let moved = quarantine::set_aside(path, &layout.aside());
    match moved {
        Ok(aside) => tracing::error!(%problem, aside = %aside.display(), "a record was set aside"),
        Err(error) => tracing::error!(%problem, %error, "a record can't be read nor set aside"),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Directory { action, path: path.to_owned(), source }
}
