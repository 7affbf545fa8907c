//! RemoveContainer: a container gone, its log file kept. Success on one that is gone.

use super::Container;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerEvent, ContainerPhase};
use cringle_domain::snapshot::SnapshotKey;
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Stops a container at once if it runs, and removes it. An unknown one is removed.
    ///
    /// # Errors
    /// If something would not go; then it is still there, and the next call goes on.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<(), ServiceError> {
        let container = match self.containers.find(id) {
            Ok(container) => container,
            Err(ServiceError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let service = Arc::clone(self);
        crate::detached::detached(async move { service.remove_found_container(&container).await })
            .await
    }

    pub(crate) async fn remove_found_container(
        &self,
        container: &Arc<Container>,
    ) -> Result<(), ServiceError> {
        let _operation = container.operation.lock().await;
        self.stop_found_container(container, Duration::ZERO).await?;
        self.tell_container_ended(container).await;
        let before = container.record();
        container.tracked.advance(ContainerEvent::RemoveOrdered).await?;
        // Who comes second goes on where the first gave up, and has nothing new to tell.
        if before.phase != ContainerPhase::Removing {
            self.tell_container_removed(&before).await;
        }
        self.dissolve(container).await
    }

    /// Takes away everything that the record of a container names, then the record. Idempotent.
    pub(crate) async fn dissolve(&self, container: &Container) -> Result<(), ServiceError> {
        let id = container.container_id();
        if let Some(supervisor) = container.supervisor() {
            if let Err(error) = supervisor.delete().await {
                let error = crate::error::chain(&error);
                tracing::warn!(container = %id, error, "shim did not delete; ended by force");
            }
            container.supervise(None);
        }
        self.end_shim(id).await?;
        tokio::task::block_in_place(|| self.remove_files(container))?;
        self.containers.remove(container);
        Ok(())
    }

    fn remove_files(&self, container: &Container) -> Result<(), ServiceError> {
        let id = container.container_id();
        crate::teardown::remove_tree(&self.layout.bundle(id))?;
        crate::teardown::remove_tree(&self.layout.container_volumes(id))?;
        crate::teardown::remove_tree(&self.layout.restore(id))?;
        self.images.snapshots().remove(&SnapshotKey::from(id)).map_err(|source| {
            ServiceError::Images {
                action: format!("remove the writable layer of container {id}"),
                source,
            }
        })?;
        container
            .tracked
            .forget()
            .map_err(|source| ServiceError::file("remove record", container.tracked.path(), source))
    }
}
