//! StartContainer: from data to a process under its shim.

use super::Container;
use super::launch::Launched;
use crate::supervisor::Supervisor;
use crate::{Service, ServiceError};
use cringle_domain::container::{
    ContainerEvent, ContainerPhase, ContainerRecord, ContainerRefusal,
};
use cringle_domain::process::{Exit, Outcome};
use std::sync::Arc;

impl Service {
    /// Starts a created container. The same request again joins the one in flight, or finds that it runs, which is
    /// success. One that ended is not started again: only who had no answer to its start is told that it was started.
    ///
    /// # Errors
    /// If it ended, its pod is not ready, or the program cannot be started; then it is exited, and its status says why.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), ServiceError> {
        let container = self.containers.find(id)?;
        let (service, found) = (Arc::clone(self), Arc::clone(&container));
        let started = || async move { service.start_found_container(&found).await };
        let started = self.start_claims.carry_out(container.container_id(), (), started).await;
        started.unwrap_or_else(|so_far| Err(ServiceError::Busy { name: id.to_owned(), so_far }))?;
        container.tell_start();
        Ok(())
    }

    async fn start_found_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), ServiceError> {
        let _operation = container.operation.lock().await;
        let record = container.record();
        if let Some(before) = started_before(container, &record) {
            return before;
        }
        let pod = self.pods.find(record.pod.as_str())?;
        let _open = pod.gate.read().await;
        // Behind the gate, for a stop may have gone through it before us.
        self.find_ready_pod(record.pod.as_str())?;
        let _steady = self.steady().await;
        if let Err(error) = self.tell_container_starts(&record).await {
            self.note_failed_start(container, crate::error::chain(&error)).await?;
            return Err(error);
        }
        match self.launch_while_ready(container, &pod).await {
            Ok(Launched { supervisor, process, at }) => {
                let started = ContainerEvent::Started(process, at);
                container.supervise(Some(supervisor.clone()));
                if let Err(error) = container.tracked.advance(started).await {
                    // A process that no record knows must not stay.
                    container.supervise(None);
                    self.end_shim(&record.id).await?;
                    return Err(error.into());
                }
                container.keep_start();
                self.drop_checkpoint(container);
                self.follow(container, supervisor);
                self.tell_container_started(container).await;
                Ok(())
            }
            Err(source) => {
                self.note_failed_start(container, crate::error::chain(&source)).await?;
                Err(ServiceError::Start { container: record.id.clone(), source })
            }
        }
    }

    async fn note_failed_start(
        &self,
        container: &Container,
        cause: String,
    ) -> Result<(), ServiceError> {
        let record = container.record();
        self.end_shim(&record.id).await?;
        let failed = ContainerEvent::StartFailed(cause, self.clock.now());
        container.tracked.advance(failed).await?;
        self.drop_checkpoint(container);
        self.tell_container_ended(container).await;
        Ok(())
    }

    /// Waits for the end of a running container and records it. The task ends with the container, with its shim, or with
    /// the runtime.
    pub(crate) fn follow(self: &Arc<Self>, container: &Arc<Container>, supervisor: Supervisor) {
        let service = Arc::clone(self);
        let container = Arc::clone(container);
        tokio::spawn(async move {
            let exit = match supervisor.exited().await {
                Some(exit) => exit,
                None => service.lost_shim(&container).await,
            };
            match service.record_exit(&container, exit).await {
                // Our record is kept, so the shim may forget its own; if it is gone already it has.
                Ok(()) => {
                    drop(supervisor.acknowledge_exit().await);
                    service.tell_container_ended(&container).await;
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::error!(container = %container.container_id(), error, "exit not recorded");
                }
            }
        });
    }

    async fn record_exit(&self, container: &Container, exit: Exit) -> Result<(), ServiceError> {
        container.tracked.advance(ContainerEvent::Exited(exit)).await?;
        Ok(())
    }
}

/// What an earlier start came to; none if there was none.
fn started_before(
    container: &Container,
    record: &ContainerRecord,
) -> Option<Result<(), ServiceError>> {
    let id = record.id.clone();
    match &record.phase {
        ContainerPhase::Created => None,
        ContainerPhase::Running { .. } => Some(Ok(())),
        ContainerPhase::Exited {
            exit: Exit { outcome: Outcome::NeverStarted(why), .. }, ..
        } => Some(Err(ServiceError::NeverStarted { container: id, why: why.clone() })),
        ContainerPhase::Exited { .. } if container.tell_start() => Some(Ok(())),
        ContainerPhase::Creating | ContainerPhase::Exited { .. } | ContainerPhase::Removing => {
            let refusal = ContainerRefusal { container: id, phase: record.phase.name() };
            Some(Err(ServiceError::ContainerPhase(refusal)))
        }
    }
}
