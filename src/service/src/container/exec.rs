//! ExecSync: a program in a running container, its output and its exit code.

use super::Container;
use super::stillness::Elapsed;
use crate::bundle::{self, BundleError};
use crate::supervisor::{ExecBounds, ExecError, ExecOutput, Supervisor};
use crate::{Service, ServiceError};
use cringle_domain::container::ContainerPhase;
use cringle_domain::refusal::Refusal;
use oci_spec::runtime::Process;
use std::sync::Arc;
use std::time::Duration;

/// What is kept of each output stream, so that the whole answer stays under the client's 16 MiB.
const OUTPUT_LIMIT: usize = 8 * 1024 * 1024 - 64 * 1024;
/// How many commands run at once on the whole node; others wait for as long as their own time allows.
const AT_ONCE: usize = 512;
/// How many of them may keep much output: 128 MiB in all.
const WITH_MUCH_OUTPUT: usize = 8;

/// The bounds of this node. They are of use only where memory that was kept goes back when the answers have left.
pub(crate) fn bounds() -> ExecBounds {
    ExecBounds::new(OUTPUT_LIMIT, AT_ONCE, WITH_MUCH_OUTPUT)
}

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
        let process = self.further_process(&container, command)?;
        let executed = match container.stillness.over(timeout).await {
            Ok(left) => supervisor.exec_sync(&process, left, &self.exec_bounds).await,
            Err(Elapsed) => Err(ExecError::TimedOut),
        };
        executed.map_err(|source| ServiceError::Exec {
            container: container.container_id().clone(),
            source,
        })
    }

    /// A further process of a container, which runs and so has a bundle that stays as it is.
    pub(crate) fn further_process(
        &self,
        container: &Container,
        command: Vec<String>,
    ) -> Result<Process, BundleError> {
        let bundle = self.layout.bundle(container.container_id());
        let first = match container.first_process.get() {
            Some(known) => known,
            None => {
                let read = bundle::first_process(&bundle)?;
                container.first_process.get_or_init(|| read)
            }
        };
        bundle::exec_process(&bundle, first, command)
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
