//! The end of a container without the help of its shim: one that hangs, waits for its disk, or is gone.

use super::Container;
use crate::supervisor::SupervisorError;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerEvent, ContainerPhase};
use cringle_domain::id::ContainerId;
use cringle_domain::process::{Exit, Outcome};
use std::sync::Arc;
use std::time::Duration;

/// How long a shim that has reaped its container may take to write and to tell its end.
const DISK_PATIENCE: Duration = Duration::from_secs(15);
/// How long one may take to reap its container, which is seen to have ended: what it tells is more than what is seen.
const REAP_PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// Kills the container through its cgroup. Its shim is ended only if it does not say how that went: one that waits for
    /// its disk knows the end already and is about to tell it.
    pub(super) async fn end_by_force(&self, container: &Container) -> Result<(), ServiceError> {
        let record = container.record();
        let ContainerPhase::Running { process, .. } = record.phase else { return Ok(()) };
        let mut seen = None;
        if container.supervisor().is_some_and(|supervisor| supervisor.is_alive()) {
            seen = crate::supervisor::kill(&self.layout.bundle(&record.id), process)
                .await
                .map_err(|source| supervisor_error(&record.id, source))?;
            let patience = if seen.is_none() { DISK_PATIENCE } else { REAP_PATIENCE };
            if self.ends_within(container, patience).await {
                return Ok(());
            }
        }
        // What is known goes on record first: whoever follows the shim would call it lost.
        if let Some(outcome) = seen.take() {
            self.note_exit(container, outcome).await?;
        }
        self.end_shim(&record.id).await?;
        if let Some(exit) = self.exit_on_record(&record.id) {
            container.tracked.advance(ContainerEvent::Exited(exit)).await?;
            return Ok(());
        }
        let why = "the shim did not answer; ended through the cgroup".to_owned();
        self.note_exit(container, Outcome::Unseen(why)).await
    }

    async fn note_exit(&self, container: &Container, outcome: Outcome) -> Result<(), ServiceError> {
        let exit = Exit { outcome, at: self.clock.now() };
        container.tracked.advance(ContainerEvent::Exited(exit)).await?;
        Ok(())
    }

    /// Ends what is left of a container's shim and processes, and has its hooks for that run; success if nothing is.
    pub(crate) async fn end_shim(&self, id: &ContainerId) -> Result<(), ServiceError> {
        crate::supervisor::end_with_hooks(&self.shim, &self.layout.bundle(id))
            .await
            .map_err(|source| supervisor_error(id, source))?;
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

fn supervisor_error(id: &ContainerId, source: SupervisorError) -> ServiceError {
    ServiceError::Supervisor { container: id.to_string(), source }
}
