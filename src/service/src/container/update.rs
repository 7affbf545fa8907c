//! UpdateContainerResources: new limits for a container that is created or runs, all of them or none.
//!
//! First what is in force changes, then the record: a crash in between leaves a status that says less than was done, so
//! that the client asks again. The other order would have it believe what is not so.

use super::Container;
use crate::{Service, ServiceError, bundle};
use cringle_domain::container::{
    ContainerEvent, ContainerPhase, ContainerRecord, ContainerRefusal,
};
use cringle_domain::resources::Resources;
use std::sync::Arc;

impl Service {
    /// Changes the limits that `change` names. The OOM score is no limit but belongs to each process: it stays what it was.
    ///
    /// # Errors
    /// If the container has ended, or the kernel refuses a limit; then the old ones are in force.
    pub async fn update_container(
        self: &Arc<Self>,
        id: &str,
        change: Resources,
    ) -> Result<(), ServiceError> {
        let container = self.containers.find(id)?;
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            service.update_found_container(&container, change).await
        })
        .await
    }

    async fn update_found_container(
        &self,
        container: &Container,
        change: Resources,
    ) -> Result<(), ServiceError> {
        let record = container.record();
        require_limitable(&record)?;
        let change = self.let_plugins_limit(&record, change).await?;
        let operation = container.operation.lock().await;
        self.set_limits(container, &change).await?;
        drop(operation);
        self.tell_container_limited(&container.record()).await;
        Ok(())
    }

    /// Puts limits in force and on record. The caller holds the container's operation.
    pub(crate) async fn set_limits(
        &self,
        container: &Container,
        change: &Resources,
    ) -> Result<(), ServiceError> {
        let record = container.record();
        let mut wanted = record.resources.merged(change)?;
        wanted.oom_score_adjustment = record.resources.oom_score_adjustment;
        self.put_in_force(container, &record, &wanted).await?;
        let noted = container.tracked.advance(ContainerEvent::Limited(wanted)).await;
        let Err(error) = noted else { return Ok(()) };
        if let Err(error) = self.put_in_force(container, &record, &record.resources).await {
            let error = crate::error::chain(&error);
            tracing::error!(container = %record.id, error, "limits that no record knows stay");
        }
        Err(error.into())
    }

    async fn put_in_force(
        &self,
        container: &Container,
        record: &ContainerRecord,
        limits: &Resources,
    ) -> Result<(), ServiceError> {
        match record.phase {
            ContainerPhase::Running { .. } => {
                let supervisor = self.running_supervisor(container)?;
                let resources = bundle::resources(limits)?;
                supervisor.update(&resources).await.map_err(|source| ServiceError::Supervisor {
                    container: record.id.to_string(),
                    source,
                })
            }
            ContainerPhase::Created => {
                Ok(bundle::rewrite_resources(&self.layout.bundle(&record.id), limits)?)
            }
            ContainerPhase::Creating | ContainerPhase::Exited { .. } | ContainerPhase::Removing => {
                require_limitable(record)
            }
        }
    }
}

/// Only what is created or runs has limits.
fn require_limitable(record: &ContainerRecord) -> Result<(), ServiceError> {
    match record.phase {
        ContainerPhase::Created | ContainerPhase::Running { .. } => Ok(()),
        ContainerPhase::Creating | ContainerPhase::Exited { .. } | ContainerPhase::Removing => {
            let (container, phase) = (record.id.clone(), record.phase.name());
            Err(ServiceError::ContainerPhase(ContainerRefusal { container, phase }))
        }
    }
}
