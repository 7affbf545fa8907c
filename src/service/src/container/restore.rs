//! A container that is made of its checkpoint: what comes of the archive, and what its start needs of it.
//!
//! Everything lies in one directory of the container's own, which goes with the container if not before: when it was started,
//! or could not be, nothing needs it any more. The document for the shim is written last, so that a container whose checkpoint
//! was cut short by the end of the daemon is not started as if it had none.

use super::Container;
use crate::Service;
use crate::checkpoint::archive::Limit;
use crate::checkpoint::intake::Intake;
use crate::checkpoint::work::{make, remove};
use crate::checkpoint::{CheckpointError, Criu};
use cringle_domain::container::{ContainerPhase, Origin};
use cringle_domain::id::ContainerId;
use cringle_domain::snapshot::SnapshotKey;
use cringle_proto_shim::record::{
    RESTORE_FILE, RESTORE_IMAGES, RESTORE_WORK, RestoreRecord, VERSION,
};
use cringle_store::atomic;
use std::path::{Path, PathBuf};

impl Service {
    /// Takes an archive in for a container that was just created.
    ///
    /// # Errors
    /// It is no fit archive, or there is no room or time. What is left of it goes with the container.
    pub(crate) async fn take_checkpoint_in(
        &self,
        container: &Container,
        intake: Intake,
        (criu, limit): (&Criu, Limit),
    ) -> Result<(), CheckpointError> {
        let _operation = container.operation.lock().await;
        if !matches!(container.record().phase, ContainerPhase::Created) {
            // Somebody has found and started it already, which cannot have gone well.
            return Err(CheckpointError::Incomplete);
        }
        let id = container.container_id();
        let (directory, path) = (self.layout.restore(id), intake.path.clone());
        let place = directory.clone();
        let taken = tokio::task::spawn_blocking(move || {
            // What an earlier attempt left, whose answer nobody had.
            remove(&place)?;
            make(&place)?;
            make(&place.join(RESTORE_IMAGES))?;
            intake.take(&place, limit)
        });
        let taken = taken.await.map_err(CheckpointError::Panicked)??;
        let record = record(criu, taken.streams.clone());
        let key = SnapshotKey::from(id);
        let fill = self.images.snapshots().fill(&key, taken.layer(), &path);
        let filled = tokio::time::timeout(limit.left()?, fill).await;
        filled
            .map_err(|_elapsed| limit.late())?
            .map_err(|source| CheckpointError::Fill { path, source })?;
        tokio::task::block_in_place(|| write(&directory, &record))
    }

    /// Whether all of a container's checkpoint was taken in.
    pub(crate) fn has_checkpoint(&self, id: &ContainerId) -> bool {
        self.layout.restore(id).join(RESTORE_FILE).exists()
    }

    /// Makes a container's checkpoint ready for the shim. None if it has none to start from.
    ///
    /// # Errors
    /// It was not taken in whole, or CRIU is gone.
    pub(super) async fn prepare_restore(
        &self,
        container: &Container,
    ) -> Result<Option<PathBuf>, CheckpointError> {
        if container.record().origin == Origin::Image {
            return Ok(None);
        }
        let directory = self.layout.restore(container.container_id());
        let criu = self.criu().await?;
        tokio::task::block_in_place(|| {
            let path = directory.join(RESTORE_FILE);
            let text = match std::fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(CheckpointError::Incomplete);
                }
                read => read.map_err(CheckpointError::file("read", &path))?,
            };
            let old: RestoreRecord = serde_json::from_slice(&text)
                .map_err(|error| CheckpointError::file("read", &path)(error.into()))?;
            // An earlier start may have been cut short; its CRIU may be another one.
            let work = directory.join(RESTORE_WORK);
            remove(&work)?;
            make(&work)?;
            write(&directory, &record(&criu, old.streams))?;
            Ok(Some(directory))
        })
    }

    /// Removes the checkpoint of a container that will not be started again. What stays goes with the container.
    pub(super) fn drop_checkpoint(&self, container: &Container) {
        if container.record().origin == Origin::Image {
            return;
        }
        let directory = self.layout.restore(container.container_id());
        if let Err(error) = tokio::task::block_in_place(|| remove(&directory)) {
            let (id, error) = (container.container_id(), crate::error::chain(&error));
            tracing::warn!(container = %id, error, "its checkpoint goes with it");
        }
    }
}

fn record(criu: &Criu, streams: [String; 3]) -> RestoreRecord {
    let (program, path) = (criu.program().to_owned(), Criu::search_path().to_owned());
    RestoreRecord { version: VERSION, program, path, streams }
}

fn write(directory: &Path, record: &RestoreRecord) -> Result<(), CheckpointError> {
    let path = directory.join(RESTORE_FILE);
    let text = serde_json::to_vec(record)
        .map_err(|error| CheckpointError::file("encode", &path)(error.into()))?;
    atomic::replace(&path, &text).map_err(CheckpointError::file("write", path))
}
