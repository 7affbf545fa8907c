//! ExecSync: a program in a running container, its output and its exit code.

use super::Container;
use crate::supervisor::{ExecOutput, Supervisor};
use crate::{Service, ServiceError};
use cringle_domain::container::ContainerPhase;
use cringle_domain::refusal::Refusal;
use std::sync::Arc;
use std::time::Duration;

/// What is kept of each output stream, so that the whole answer stays under the client's 16 MiB.
const OUTPUT_LIMIT: usize = 8 * 1024 * 1024 - 64 * 1024;

impl Service {
    /// Runs `command` in a container and waits for it, at most `timeout` if there is one.
    ///
    /// # Errors
    /// If the container does not run, the program cannot be executed, or it does not end in time; then its whole process
    /// tree is killed.
    pub async fn exec_sync(
        self: &Arc<Self>,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, ServiceError> {
        if command.is_empty() {
            return Err(Refusal::invalid("cmd", "is empty").into());
        }
        let container = self.containers.find(id)?;
        let supervisor = self.running_supervisor(&container)?;
        let bundle = self.layout.bundle(container.container_id());
        let process = crate::bundle::exec_process(&bundle, command)?;
        supervisor.exec_sync(&process, timeout, OUTPUT_LIMIT).await.map_err(|source| {
            ServiceError::Exec { container: container.container_id().clone(), source }
        })
    }

    /// The shim of a container that runs.
    pub(crate) fn running_supervisor(
        &self,
        container: &Container,
    ) -> Result<Supervisor, ServiceError> {
        let runs = matches!(container.record().phase, ContainerPhase::Running { .. });
        let supervisor = container.supervisor().filter(|_| runs);
        supervisor.ok_or_else(|| ServiceError::NotRunning(container.container_id().clone()))
    }
}
