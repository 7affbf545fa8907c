//! StopContainer: an order to the shim, which owns the timer; then waiting for the exit.

use super::Container;
use crate::{Service, ServiceError};
use cringle_domain::container::ContainerPhase;
use std::sync::Arc;
use std::time::Duration;

/// How long after the stop deadline a shim may take to report before the container is ended through its cgroup (D16).
const SHIM_PATIENCE: Duration = Duration::from_secs(2);

impl Service {
    /// Stops a container: its stop signal, after `grace` SIGKILL. An unknown or stopped one is stopped. A second call
    /// with an earlier deadline brings the deadline forward.
    ///
    /// # Errors
    /// If it will not end.
    pub async fn stop_container(
        self: &Arc<Self>,
        id: &str,
        grace: Duration,
    ) -> Result<(), ServiceError> {
        let container = match self.containers.find(id) {
            Ok(container) => container,
            Err(ServiceError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let service = Arc::clone(self);
        crate::detached::detached(
            async move { service.stop_found_container(&container, grace).await },
        )
        .await
    }

    pub(crate) async fn stop_found_container(
        &self,
        container: &Container,
        grace: Duration,
    ) -> Result<(), ServiceError> {
        self.end_container(container, grace).await?;
        if matches!(container.record().phase, ContainerPhase::Exited { .. }) {
            self.tell_container_ended(container).await;
        }
        Ok(())
    }

    async fn end_container(
        &self,
        container: &Container,
        grace: Duration,
    ) -> Result<(), ServiceError> {
        if !is_running(container) {
            return Ok(());
        }
        container.stillness.stop().await;
        let record = container.record();
        if let Some(supervisor) = container.supervisor() {
            match supervisor.stop(record.stop_signal, grace).await {
                Ok(()) if self.ends_within(container, grace + SHIM_PATIENCE).await => return Ok(()),
                Ok(()) => {}
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(container = %record.id, error, "stop order not taken by the shim");
                    // It may have ended between our look and the order.
                    if self.ends_within(container, Duration::from_millis(100)).await {
                        return Ok(());
                    }
                }
            }
        }
        self.end_by_force(container).await
    }

    pub(super) async fn ends_within(&self, container: &Container, patience: Duration) -> bool {
        let mut published = container.tracked.watch();
        let ended =
            published.wait_for(|record| !matches!(record.phase, ContainerPhase::Running { .. }));
        tokio::time::timeout(patience, ended).await.is_ok()
    }
}

fn is_running(container: &Container) -> bool {
    matches!(container.record().phase, ContainerPhase::Running { .. })
}
