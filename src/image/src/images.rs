//! The images of one daemon: what the rest of it calls.

use crate::commit;
use crate::error::{OpenError, PullError, PullFailure};
use crate::open;
use crate::overlay::{self, Snapshots};
use crate::pull;
use crate::registry::Credentials;
use crate::settings::ImageSettings;
use crate::state::Store;
use cringle_domain::image::{Image, ImageRecord};
use cringle_domain::reference::{Digest, Reference};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

type SharedPull = Shared<BoxFuture<'static, Result<Digest, PullError>>>;
type WeakPull = WeakShared<BoxFuture<'static, Result<Digest, PullError>>>;

/// All images, and the writable layers on top of them.
pub struct Images {
    store: Arc<Store>,
    snapshots: Snapshots,
    /// Pulls under way; who wants the same with the same credentials joins.
    pulls: Mutex<HashMap<(Reference, Option<Credentials>), WeakPull>>,
}

/// An image to be pulled.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The name, as the client wrote it.
    pub reference: String,
    /// Who wants it.
    pub credentials: Option<Credentials>,
}

/// What the images take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// A path on the file system that they are on.
    pub mountpoint: PathBuf,
    /// Bytes, about.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
}

impl Images {
    /// Opens the store below a directory, which is made if it isn't there. One process at a time: the instance's lock is the
    /// caller's.
    ///
    /// # Errors
    /// Directories can't be made or read.
    pub fn open(root: &Path, settings: ImageSettings) -> Result<Arc<Self>, OpenError> {
        let store = open::open(root, settings)?;
        let snapshots = Snapshots::new(Arc::clone(&store));
        Ok(Arc::new(Self { store, snapshots, pulls: Mutex::new(HashMap::new()) }))
    }

    /// Pulls an image and returns its id. The image is visible when this returns. Dropping the future ends the pull, unless
    /// someone else waits for the same.
    ///
    /// # Errors
    /// See [`crate::PullErrorKind`].
    pub async fn pull(&self, request: &PullRequest) -> Result<Digest, PullError> {
        let reference: Reference = request.reference.parse().map_err(PullFailure::from)?;
        self.join(reference, request.credentials.clone()).await
    }

    /// The image that a text means: a name with tag, digest, both or neither, an id, or the beginning of one.
    #[must_use]
    pub fn resolve(&self, text: &str) -> Option<Arc<Image>> {
        let state = self.store.state();
        let id = state.find(text)?;
        state.image(id, &self.store.settings).map(Arc::new)
    }

    /// All images, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Image>> {
        let state = self.store.state();
        let images = state.records.keys().filter_map(|id| state.image(id, &self.store.settings));
        images.map(Arc::new).collect()
    }

    /// Removes the image that a text means, with all its names in all repositories. It's gone when this returns, its space
    /// soon after; layers that containers use stay as long as they do. No such image is as good.
    ///
    /// # Errors
    /// The names table can't be written.
    pub async fn remove(&self, text: &str) -> io::Result<()> {
        let (store, text) = (Arc::clone(&self.store), text.to_owned());
        let task = tokio::task::spawn_blocking(move || commit::remove(&store, &text));
        task.await.map_err(io::Error::other)?
    }

    /// What the images take now, from what was counted when they were unpacked.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let state = self.store.state();
        let layers = state.layers.values().map(|layer| layer.facts);
        let (bytes, inodes) = layers.fold((0_u64, 0_u64), |(bytes, inodes), facts| {
            (bytes.saturating_add(facts.bytes), inodes.saturating_add(facts.inodes))
        });
        Usage { mountpoint: self.store.layout.root().to_owned(), bytes, inodes }
    }

    /// The layers of an image as directories, the topmost first, as overlayfs wants them.
    #[must_use]
    pub fn lower_directories(&self, record: &ImageRecord) -> Vec<PathBuf> {
        let keys: Vec<_> = record.layers.iter().map(|layer| layer.key().clone()).collect();
        overlay::lower_directories(&self.store.layout, &keys)
    }

    /// The same for an image that is only read: at least two, which is what overlayfs wants then.
    #[must_use]
    pub fn volume_directories(&self, record: &ImageRecord) -> Vec<PathBuf> {
        let mut directories = self.lower_directories(record);
        let empty = self.store.layout.empty();
        if !directories.contains(&empty) {
            directories.push(empty);
        }
        directories
    }

    /// The configuration of an image as the registry sent it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn raw_config(&self, record: &ImageRecord) -> io::Result<Vec<u8>> {
        std::fs::read(self.store.layout.blob(&record.id))
    }

    /// What identifies the files of an image: its layers, each on those below.
    #[must_use]
    pub fn chain_id(&self, record: &ImageRecord) -> Option<Digest> {
        pull::chains(record).pop()
    }

    /// Whether a text is the beginning of more than one id, and no name.
    #[must_use]
    pub fn is_ambiguous(&self, text: &str) -> bool {
        self.store.state().is_ambiguous(text)
    }

    /// The writable layers of containers.
    #[must_use]
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Waits until everything that nobody needs is deleted. For tests and for an orderly end.
    pub fn finish_sweep(&self) {
        self.store.sweeper.finish();
    }

    fn join(&self, reference: Reference, credentials: Option<Credentials>) -> SharedPull {
        let key = (reference, credentials);
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, pull| pull.upgrade().is_some_and(|pull| pull.peek().is_none()));
        if let Some(pull) = pulls.get(&key).and_then(WeakShared::upgrade) {
            return pull;
        }
        let (reference, credentials) = key.clone();
        let work = pull::pull(Arc::clone(&self.store), reference, credentials);
        let pull = work.map(|result| result.map_err(PullError::from)).boxed().shared();
        pulls.extend(pull.downgrade().map(|weak| (key, weak)));
        pull
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Images")
            .field("root", &self.store.layout.root())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
