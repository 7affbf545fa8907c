//! One layer: found, waited for, or fetched and unpacked while it streams.

use crate::commit;
use crate::error::{PullErrorKind, PullFailure};
use crate::layout;
use crate::open::make_public_directory;
use crate::registry::Stage;
use crate::registry::session::Session;
use crate::settle;
use crate::state::{Layer, LayerFacts, Lease, Place, Staged, Store};
use crate::unpack::{FailureKind, Report, Taken, Unpacked, Worker, WorkerError};
use cringle_domain::image::Layer as LayerRecord;
use cringle_domain::reference::Digest;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A worker that takes nothing for so long is stuck with the disk.
const WORKER_PATIENCE: Duration = Duration::from_secs(300);

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A layer to be fetched for an image.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) store: Arc<Store>,
    pub(crate) session: Arc<Session>,
    pub(crate) reference: String,
    pub(crate) layer: LayerRecord,
    /// The digest of it and all layers below: what it is kept by if it has files of theirs.
    pub(crate) chain: Digest,
}

/// A directory that a layer is unpacked into. It is thrown away unless it is staged.
#[derive(Debug)]
struct Ingest {
    store: Arc<Store>,
    directory: Option<PathBuf>,
}

impl Wanted {
    /// Makes sure that the layer is here; the lease keeps it.
    pub(crate) async fn fetch(self) -> Result<Lease, PullFailure> {
        let door = self.store.layer_door(&self.layer.diff_id);
        let _inside = door.lock().await;
        let here = self.store.lease(&self.layer.diff_id).or_else(|| self.store.lease(&self.chain));
        match here {
            Some(lease) => Ok(lease),
            None => self.fetch_and_unpack().await,
        }
    }

    async fn fetch_and_unpack(&self) -> Result<Lease, PullFailure> {
        let ingest = Ingest::make(&self.store)?;
        let files = layout::files_in(ingest.path());
        let opened = File::open(&files).map_err(PullFailure::store("open", &files))?;
        let settings = &self.store.settings;
        let worker = Worker::start(&settings.unpack_program, opened, settings.layer_limits)
            .map_err(|source| self.worker_failed(source))?;
        let unpacked = self.pump(worker).await?;
        if unpacked.diff_id != self.layer.diff_id {
            let detail = format!("its content is {}, not {}", unpacked.diff_id, self.layer.diff_id);
            return Err(self.failed(PullErrorKind::DigestMismatch, detail));
        }
        if unpacked.dropped_xattrs > 0 {
            let dropped = unpacked.dropped_xattrs;
            tracing::info!(layer = %self.layer.diff_id, dropped, "attributes that layers may not have were left off");
        }
        let store = Arc::clone(&self.store);
        let key = self.key(&unpacked)?.clone();
        tokio::task::spawn_blocking(move || ingest.stage(&store, &key, &unpacked))
            .await
            .map_err(PullFailure::Lost)?
    }

    /// What the layer is kept by.
    fn key(&self, unpacked: &Unpacked) -> Result<&Digest, PullFailure> {
        if unpacked.marks.links.is_empty() {
            return Ok(&self.layer.diff_id);
        }
        // Of the first layer both are the same.
        if self.chain == self.layer.diff_id {
            let detail = "it has hard links to what it doesn't have, and no layer is below it";
            return Err(self.failed(PullErrorKind::Corrupt, detail.to_owned()));
        }
        Ok(&self.chain)
    }

    /// Moves the blob from the registry to the worker.
    async fn pump(&self, mut worker: Worker) -> Result<Unpacked, PullFailure> {
        let mut blob = self.session.blob(Stage::Layer, &self.layer.blob, self.layer.size);
        let mut taken = Taken::Yes;
        while taken == Taken::Yes
            && let Some(piece) = blob.next().await?
        {
            let start = Instant::now();
            taken = patiently(worker.write(&piece))
                .await
                .map_err(|source| self.worker_failed(source))?;
            blob.extend(start.elapsed());
        }
        let report =
            patiently(worker.finish()).await.map_err(|source| self.worker_failed(source))?;
        match report {
            Report::Unpacked(unpacked) => Ok(unpacked),
            Report::Failed { kind, detail } => {
                // What the registry garbled is its fault and not the layer's: only the rest of the blob can tell.
                if kind == FailureKind::Corrupt {
                    while blob.next().await?.is_some() {}
                }
                Err(self.failed(kind.into(), detail))
            }
        }
    }

    fn failed(&self, kind: PullErrorKind, detail: String) -> PullFailure {
        PullFailure::Layer {
            layer: self.layer.blob.clone(),
            reference: self.reference.clone(),
            kind,
            detail,
        }
    }

    fn worker_failed(&self, source: WorkerError) -> PullFailure {
        PullFailure::Worker { layer: self.layer.blob.clone(), source }
    }
}

impl Ingest {
    fn make(store: &Arc<Store>) -> Result<Self, PullFailure> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let directory = store.layout.ingest().join(serial.to_string());
        let failed = || PullFailure::store("make directory", &directory);
        std::fs::DirBuilder::new().create(&directory).map_err(failed())?;
        let ingest = Self { store: Arc::clone(store), directory: Some(directory.clone()) };
        make_public_directory(&layout::files_in(&directory)).map_err(failed())?;
        Ok(ingest)
    }

    fn path(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new(""))
    }

    /// Completes the layer and adds it to the store.
    fn stage(
        mut self,
        store: &Arc<Store>,
        key: &Digest,
        unpacked: &Unpacked,
    ) -> Result<Lease, PullFailure> {
        let facts = LayerFacts { bytes: unpacked.bytes, inodes: unpacked.inodes };
        let complete = || -> io::Result<Place> {
            settle::mark_opaque(self.path(), &unpacked.marks.opaque)?;
            commit::write_facts(self.path(), facts)?;
            let implied = settle::decode_all(&unpacked.marks.implied)?;
            let links = settle::decode_links(&unpacked.marks.links)?;
            Ok(Place::Staged(Staged { directory: self.path().to_owned(), implied, links }))
        };
        let place = complete().map_err(PullFailure::store("complete layer", self.path()))?;
        // It is the store's now.
        self.directory = None;
        Ok(store.stage(key, Layer { facts, place }))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        if let Err(error) = self.store.trash.throw(&directory) {
            tracing::warn!(path = %directory.display(), %error, "failed to remove an ingest; the next start will");
        }
        self.store.sweeper.wake();
    }
}

impl From<FailureKind> for PullErrorKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Corrupt => Self::Corrupt,
            FailureKind::TooLarge => Self::TooLarge,
            FailureKind::DiskFull => Self::DiskFull,
            FailureKind::System => Self::Internal,
        }
    }
}

pub(crate) async fn patiently<T>(
    work: impl Future<Output = Result<T, WorkerError>>,
) -> Result<T, WorkerError> {
    timeout(WORKER_PATIENCE, work).await.unwrap_or_else(|_elapsed| {
        Err(WorkerError::Write(io::Error::from(io::ErrorKind::TimedOut)))
    })
}
