//! Exec: a program in a running container with streams for a client.

use crate::streams::{ExecRequest, Session, Size};
use crate::{Service, ServiceError};
use cringle_domain::id::ContainerId;
use cringle_domain::refusal::Refusal;
use std::sync::Arc;

impl Service {
    /// Judges an exec before its client connects; gives the full id.
    ///
    /// # Errors
    /// If the container does not run, there is no command, or the streams do not go together.
    pub fn check_exec(&self, id: &str, request: &ExecRequest) -> Result<ContainerId, ServiceError> {
        if request.command.is_empty() {
            return Err(Refusal::invalid("cmd", "is empty").into());
        }
        request.streams.check(request.terminal)?;
        let container = self.containers.find(id)?;
        self.running_supervisor(&container)?;
        Ok(container.container_id().clone())
    }

    /// Executes a program; `size` is its terminal's before it begins.
    ///
    /// # Errors
    /// If the container does not run, or the program cannot be executed.
    pub async fn open_exec(
        self: &Arc<Self>,
        id: &ContainerId,
        request: ExecRequest,
        size: Option<Size>,
    ) -> Result<Session, ServiceError> {
        self.check_exec(id.as_str(), &request)?;
        let container = self.containers.find(id.as_str())?;
        let supervisor = self.running_supervisor(&container)?;
        let ExecRequest { command, streams, terminal } = request;
        let mut process = self.further_process(&container, command)?;
        crate::bundle::set_terminal(&mut process, terminal, size)?;
        // Without a time of its own, a client waits for as long as it likes.
        drop(container.stillness.over(None).await);
        match supervisor.open_exec(&process, streams).await {
            Ok(opened) => Ok(Session::new(id.clone(), opened)),
            Err(source) => Err(ServiceError::Exec { container: id.clone(), source }),
        }
    }
}
