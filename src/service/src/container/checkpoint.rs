//! CheckpointContainer: the state of a running container as an archive, while it goes on.

use super::{Container, require_running};
use crate::checkpoint::archive::{self, Limit};
use crate::checkpoint::places::file_place;
use crate::checkpoint::work::Note;
use crate::checkpoint::{CheckpointError, CheckpointLevel, Criu};
use crate::{Service, ServiceError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Writes the state of a running container to the file `location`, within `timeout` or what is configured. It stands
    /// still meanwhile and goes on, whatever becomes of the attempt. What was executed in it besides its own processes is
    /// not in the archive.
    ///
    /// # Errors
    /// If checkpoints are off or cannot be made here, the location is no place for a file, the container does not run, or
    /// something of it cannot be kept; then nothing is left.
    pub async fn checkpoint_container(
        self: &Arc<Self>,
        id: &str,
        location: &str,
        timeout: Option<Duration>,
    ) -> Result<(), ServiceError> {
        self.require_checkpoints()?;
        let location = file_place(location)?;
        let container = self.containers.find(id)?;
        let limit = Limit::of(timeout.unwrap_or(self.settings.checkpoint.timeout));
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            service.checkpoint_found_container(&container, &location, limit).await
        })
        .await
    }

    async fn checkpoint_found_container(
        &self,
        container: &Container,
        location: &Path,
        limit: Limit,
    ) -> Result<(), ServiceError> {
        let _operation = container.operation.lock().await;
        require_running(&container.record())?;
        let id = container.container_id();
        let failed = |source| ServiceError::Checkpoint { container: id.clone(), source };
        let criu = self.criu().await.map_err(failed)?;
        let draft = location.with_file_name(format!(".cringle-{}", &id.as_str()[..16]));
        let note = Note { containers: vec![id.clone()], files: vec![draft.clone()] };
        let work = self.begin_checkpoint(id.as_str(), note).map_err(failed)?;
        let made = async {
            let place = tokio::task::block_in_place(|| work.place(id)).map_err(failed)?;
            let frozen = self.freeze(container, limit)?;
            let captured = self.capture(container, &frozen, (&criu, &place, limit)).await;
            drop(frozen);
            captured?;
            write(place, draft, location.to_owned(), limit).await.map_err(failed)
        }
        .await;
        work.end(made)
    }

    /// Refuses if checkpoints are off.
    ///
    /// # Errors
    /// If they are.
    pub fn require_checkpoints(&self) -> Result<(), ServiceError> {
        match self.settings.checkpoint.level {
            CheckpointLevel::None => Err(ServiceError::NoCheckpoints(CheckpointError::Off)),
            CheckpointLevel::CheckpointOnly | CheckpointLevel::CheckpointRestore => Ok(()),
        }
    }

    /// The program, looked for until it is found: it may be installed at any time.
    pub(crate) async fn criu(&self) -> Result<Criu, CheckpointError> {
        let configured = self.settings.checkpoint.criu.as_deref();
        let find = async || Criu::find(configured).await.map_err(CheckpointError::Unfit);
        self.criu.get_or_try_init(find).await.cloned()
    }
}

/// Writes the archive of what was captured.
pub(crate) async fn write(
    place: PathBuf,
    draft: PathBuf,
    location: PathBuf,
    limit: Limit,
) -> Result<(), CheckpointError> {
    let write = move || archive::write(&place, &draft, &location, limit);
    tokio::task::spawn_blocking(write).await.map_err(CheckpointError::Panicked)?
}
