//! UpdateContainerResources: new limits for a container that is created or runs, all of them or none.

use crate::{Service, ServiceError, bundle};
use cringle_domain::container::{ContainerEvent, ContainerPhase, ContainerRefusal};
use cringle_domain::resources::Resources;
use std::sync::Arc;

impl Service {
    /// Changes the limits that `change` names.
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
            let _operation = container.operation.lock().await;
            let record = container.record();
            let merged = record.resources.merged(&change)?;
            match record.phase {
                ContainerPhase::Running { .. } => {
                    let supervisor = service.running_supervisor(&container)?;
                    let resources = bundle::resources(&merged)?;
                    supervisor.update(&resources).await.map_err(|source| {
                        ServiceError::Supervisor { container: record.id.to_string(), source }
                    })?;
                }
                ContainerPhase::Created => {
                    bundle::rewrite_resources(&service.layout.bundle(&record.id), &merged)?;
                }
                ContainerPhase::Creating
                | ContainerPhase::Exited { .. }
                | ContainerPhase::Removing => {
                    let (container, phase) = (record.id.clone(), record.phase.name());
                    return Err(ServiceError::ContainerPhase(ContainerRefusal {
                        container,
                        phase,
                    }));
                }
            }
            container.tracked.advance(ContainerEvent::Limited(merged)).await?;
            Ok(())
        })
        .await
    }
}
