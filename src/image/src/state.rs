//! What is here, in memory: images, names, layers, and who needs a layer.
//!
//! Readers take the lock for a look and never wait for a disk. Changes to the names table are made one at a time behind the
//! door, which is held while files are written; the state's own lock is taken only to publish.

use crate::layout::Layout;
use crate::platform::Platform;
use crate::settings::ImageSettings;
use crate::settle::Link;
use crate::sweeper::Sweeper;
use crate::trash::Trash;
use cringle_domain::image::{Image, ImageRecord, Layer as LayerRecord, Retention};
use cringle_domain::reference::{Digest, IdPrefix, Reference, Selector};
use cringle_domain::snapshot::SnapshotKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The store that all parts of this crate share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) layout: Layout,
    pub(crate) settings: ImageSettings,
    pub(crate) platform: Platform,
    pub(crate) trash: Trash,
    pub(crate) sweeper: Sweeper,
    state: Mutex<State>,
    /// Whoever changes what is on disk under a final name.
    door: Mutex<()>,
    /// One fetch of a layer at a time.
    layer_doors: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// The content of the store.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) records: BTreeMap<Digest, Arc<ImageRecord>>,
    pub(crate) names: BTreeMap<Reference, Digest>,
    pub(crate) layers: HashMap<Digest, Layer>,
    pub(crate) snapshots: HashMap<SnapshotKey, Vec<Digest>>,
    /// How many pulls need a layer now.
    leases: HashMap<Digest, usize>,
}

/// An unpacked layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) facts: LayerFacts,
    pub(crate) place: Place,
}

/// What is known of a layer's size; kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerFacts {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// Where an unpacked layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Under its own name, for good.
    Committed,
    /// In an ingest directory, until an image that has it is committed.
    Staged(Staged),
}

/// A layer that is unpacked and not yet committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staged {
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// Directories that it implies, whose attributes a lower layer has.
    pub(crate) implied: Vec<Vec<u8>>,
    /// Files of lower layers that it has under names of its own.
    pub(crate) links: Vec<Link>,
}

/// Layers that a pull needs. They stay until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<Store>,
    diff_id: Digest,
}

impl Store {
    pub(crate) fn new(
        layout: Layout,
        settings: ImageSettings,
        sweeper: Sweeper,
        state: State,
    ) -> Self {
        Self {
            trash: Trash::new(layout.trash()),
            layout,
            settings,
            platform: Platform::own(),
            sweeper,
            state: Mutex::new(state),
            door: Mutex::new(()),
            layer_doors: Mutex::new(HashMap::new()),
        }
    }

    /// The content; to be held for a few lines only.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Each change is made in one go, so a panic of its holder leaves nothing half.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to change what is on disk under a final name.
    pub(crate) fn door(&self) -> MutexGuard<'_, ()> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door of one layer: whoever is inside fetches it, the others wait and find it done.
    pub(crate) fn layer_door(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut doors = self.layer_doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|_, door| door.strong_count() > 0);
        if let Some(door) = doors.get(diff_id).and_then(Weak::upgrade) {
            return door;
        }
        let door = Arc::new(tokio::sync::Mutex::new(()));
        doors.insert(diff_id.clone(), Arc::downgrade(&door));
        door
    }

    /// A lease on a layer that is here.
    pub(crate) fn lease(self: &Arc<Self>, diff_id: &Digest) -> Option<Lease> {
        let mut state = self.state();
        state.layers.contains_key(diff_id).then(|| state.lease(self, diff_id))
    }

    /// Adds a layer that was just unpacked, with a lease on it.
    pub(crate) fn stage(self: &Arc<Self>, diff_id: &Digest, layer: Layer) -> Lease {
        let mut state = self.state();
        state.layers.insert(diff_id.clone(), layer);
        state.lease(self, diff_id)
    }

    /// Moves layers that nobody needs into the trash. Called by the sweeper.
    pub(crate) fn collect(&self) {
        let _door = self.door();
        let unneeded = self.state().take_unneeded();
        for (diff_id, layer) in unneeded {
            let path = match layer.place {
                Place::Committed => self.layout.layer(&diff_id),
                Place::Staged(staged) => staged.directory,
            };
            if let Err(error) = self.trash.throw(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to remove a layer; the next start will");
            }
        }
    }
}

impl State {
    /// The image that a client's text means: an id, the beginning of one, or a name.
    pub(crate) fn find(&self, text: &str) -> Option<&Digest> {
        if let Some((id, _)) =
            text.parse().ok().and_then(|id: Digest| self.records.get_key_value(&id))
        {
            return Some(id);
        }
        if let Some(id) = text.parse().ok().and_then(|name: Reference| self.names.get(&name)) {
            return Some(id);
        }
        let prefix = IdPrefix::parse(text)?;
        let mut matching = self.records.keys().filter(|id| prefix.matches(id));
        // One that fits two images means neither.
        matching.next().filter(|_| matching.next().is_none())
    }

    /// Whether a text means nothing because it is the beginning of more than one id.
    pub(crate) fn is_ambiguous(&self, text: &str) -> bool {
        let fits =
            |prefix: IdPrefix| self.records.keys().filter(|id| prefix.matches(id)).nth(1).is_some();
        self.find(text).is_none() && IdPrefix::parse(text).is_some_and(fits)
    }

    /// An image with its names.
    pub(crate) fn image(&self, id: &Digest, settings: &ImageSettings) -> Option<Image> {
        let record = Arc::clone(self.records.get(id)?);
        let names =
            self.names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone());
        let (tags, digests): (Vec<_>, Vec<_>) =
            names.partition(|name| matches!(name.selector(), Selector::Tag(_)));
        let is_pinned = tags.iter().chain(&digests).any(|name| settings.pins(&name.to_string()));
        let retention = if is_pinned { Retention::Pinned } else { Retention::Ordinary };
        Some(Image { record, tags, digests, retention })
    }

    /// Removes images that have no name any more, and says which.
    pub(crate) fn take_nameless(&mut self) -> Vec<Arc<ImageRecord>> {
        let named: HashSet<&Digest> = self.names.values().collect();
        let nameless: Vec<Digest> =
            self.records.keys().filter(|id| !named.contains(id)).cloned().collect();
        nameless.iter().filter_map(|id| self.records.remove(id)).collect()
    }

    fn lease(&mut self, store: &Arc<Store>, diff_id: &Digest) -> Lease {
        *self.leases.entry(diff_id.clone()).or_default() += 1;
        Lease { store: Arc::clone(store), diff_id: diff_id.clone() }
    }

    fn release(&mut self, diff_id: &Digest) {
        if let Some(count) = self.leases.get_mut(diff_id) {
            *count -= 1;
            if *count == 0 {
                self.leases.remove(diff_id);
            }
        }
    }

    fn take_unneeded(&mut self) -> Vec<(Digest, Layer)> {
        let of_images =
            self.records.values().flat_map(|record| &record.layers).map(LayerRecord::key);
        let of_snapshots = self.snapshots.values().flatten();
        let needed: HashSet<&Digest> =
            of_images.chain(of_snapshots).chain(self.leases.keys()).collect();
        let unneeded: Vec<Digest> =
            self.layers.keys().filter(|diff_id| !needed.contains(diff_id)).cloned().collect();
        unneeded.into_iter().filter_map(|diff_id| self.layers.remove_entry(&diff_id)).collect()
    }
}

impl Lease {
    /// What the layer is kept by.
    pub(crate) fn key(&self) -> &Digest {
        &self.diff_id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.state().release(&self.diff_id);
        self.store.sweeper.wake();
    }
}
