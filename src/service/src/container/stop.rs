//! StopContainer: an order to the shim, which owns the timer; then waiting for the exit.

use super::Container;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerEvent, ContainerPhase};
use cringle_domain::id::ContainerId;
use cringle_domain::process::{Exit, Outcome};
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
        self.end_shim(&record.id).await?;
        let seen = self.exit_on_record(&record.id).unwrap_or_else(|| {
            let why = "the shim did not answer; ended through the cgroup".to_owned();
            Exit { outcome: Outcome::Unseen(why), at: self.clock.now() }
        });
        container.tracked.advance(ContainerEvent::Exited(seen)).await?;
        Ok(())
    }

    async fn ends_within(&self, container: &Container, patience: Duration) -> bool {
        let mut published = container.tracked.watch();
        let ended =
            published.wait_for(|record| !matches!(record.phase, ContainerPhase::Running { .. }));
        tokio::time::timeout(patience, ended).await.is_ok()
    }

    /// Ends what is left of a container's shim and processes, and has its hooks for that run; success if nothing is.
    pub(crate) async fn end_shim(&self, id: &ContainerId) -> Result<(), ServiceError> {
        crate::supervisor::end_with_hooks(&self.shim, &self.layout.bundle(id))
            .await
            .map_err(|source| ServiceError::Supervisor { container: id.to_string(), source })?;
        // What the shim had no time to note, our record names.
        match self.containers.find(id.as_str()) {
            Ok(container) => self.remove_cgroup(&container.record().cgroup),
            Err(_never_recorded) => Ok(()),
        }
    }

    /// The exit that the shim left on record, if it did.
    pub(crate) fn exit_on_record(&self, id: &ContainerId) -> Option<Exit> {
        crate::supervisor::read_exit_record(&self.layout.bundle(id))
    }

    /// The end of a container whose shim is gone: on record, or unseen after its processes are ended. An unsupervised
    /// process has no log and no reaper, so it does not stay.
    pub(crate) async fn lost_shim(&self, container: &Arc<Container>) -> Exit {
        let id = container.container_id();
        if let Some(exit) = self.exit_on_record(id) {
            return exit;
        }
        if let Err(error) = self.end_shim(id).await {
            tracing::error!(container = %id, error = crate::error::chain(&error), "not ended");
        }
        let why = "the shim is gone".to_owned();
        Exit { outcome: Outcome::Unseen(why), at: self.clock.now() }
    }
}

fn is_running(container: &Container) -> bool {
    matches!(container.record().phase, ContainerPhase::Running { .. })
}
