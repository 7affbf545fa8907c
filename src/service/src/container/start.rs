//! StartContainer: from data to a process under its shim.

use super::Container;
use crate::metrics::Stage;
use crate::supervisor::{
    Launch, LogTarget, RootfsMount, Supervisor, SupervisorError, TerminalMode,
};
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerEvent, ContainerPhase, ContainerRefusal};
use cringle_domain::namespaces::IdMapping;
use cringle_domain::process::{Exit, ProcessIdentity};
use cringle_domain::spec::Terminal;
use std::sync::Arc;

impl Service {
    /// Starts a created container.
    ///
    /// # Errors
    /// If it is not in that phase, its pod is not ready, or the program cannot be started; then it is exited, and its
    /// status says why.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), ServiceError> {
        let container = self.containers.find(id)?;
        let service = Arc::clone(self);
        crate::detached::detached(async move { service.start_found_container(&container).await })
            .await
    }

    async fn start_found_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), ServiceError> {
        let _operation = container.operation.lock().await;
        let record = container.record();
        if !matches!(record.phase, ContainerPhase::Created) {
            let (container, phase) = (record.id.clone(), record.phase.name());
            return Err(ServiceError::ContainerPhase(ContainerRefusal { container, phase }));
        }
        let pod = self.pods.find(record.pod.as_str())?;
        let _open = pod.gate.read().await;
        // Behind the gate, for a stop may have gone through it before us.
        self.find_ready_pod(record.pod.as_str())?;
        match self.launch(container).await {
            Ok((supervisor, process)) => {
                let started = ContainerEvent::Started(process, self.clock.now());
                container.supervise(Some(supervisor.clone()));
                if let Err(error) = container.tracked.advance(started).await {
                    // A process that no record knows must not stay.
                    container.supervise(None);
                    self.end_shim(&record.id).await?;
                    return Err(error.into());
                }
                self.follow(container, supervisor);
                Ok(())
            }
            Err(source) => {
                let failed = ServiceError::Start { container: record.id.clone(), source };
                self.note_failed_start(container, &failed).await?;
                Err(failed)
            }
        }
    }

    async fn launch(
        &self,
        container: &Container,
    ) -> Result<(Supervisor, ProcessIdentity), SupervisorError> {
        let launch = self.launch_of(container);
        let watch = self.stages.watch(Stage::ContainerShim);
        let supervisor = Supervisor::launch(&self.shim, &launch).await?;
        drop(watch);
        let _watch = self.stages.watch(Stage::ContainerProcess);
        supervisor.create(&launch).await?;
        let process = supervisor.start().await?;
        Ok((supervisor, process))
    }

    fn launch_of(&self, container: &Container) -> Launch {
        let record = container.record();
        let pod = self.pods.find(record.pod.as_str()).ok().map(|pod| pod.record());
        let mapping = pod.as_ref().and_then(|pod| pod.spec.namespaces.users.mapping());
        let directory = pod.and_then(|pod| pod.spec.log_directory.clone());
        let stdout = match directory {
            Some(directory) if !record.spec.log_path.is_empty() => {
                LogTarget::CriLog(directory.join(&record.spec.log_path))
            }
            Some(_) | None => LogTarget::Attached,
        };
        Launch {
            bundle: self.layout.bundle(&record.id),
            id: record.id.to_string(),
            stdout,
            terminal: match record.spec.terminal {
                Terminal::Present => TerminalMode::Present,
                Terminal::Absent => TerminalMode::Absent,
            },
            input: record.spec.input,
            rootfs: self.rootfs_of(&record, mapping),
        }
    }

    fn rootfs_of(
        &self,
        record: &cringle_domain::container::ContainerRecord,
        mapping: Option<IdMapping>,
    ) -> Vec<RootfsMount> {
        let active = self.images.snapshots().active(&record.id, &record.layers);
        vec![RootfsMount::overlay(&active, self.settings.writes, mapping)]
    }

    async fn note_failed_start(
        &self,
        container: &Container,
        error: &ServiceError,
    ) -> Result<(), ServiceError> {
        let record = container.record();
        self.end_shim(&record.id).await?;
        let cause = std::error::Error::source(error).map_or_else(String::new, crate::error::chain);
        let failed = ContainerEvent::StartFailed(cause, self.clock.now());
        container.tracked.advance(failed).await?;
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
                Ok(()) => drop(supervisor.acknowledge_exit().await),
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
