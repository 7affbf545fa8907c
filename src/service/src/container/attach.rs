//! Attach: the streams of a running container's first process, for one more client.

use crate::streams::{AttachRequest, Session, Wanted};
use crate::{Service, ServiceError};
use cringle_domain::id::ContainerId;
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::{Input, Terminal};
use cringle_proto_shim::control::WantedInput;
use std::sync::Arc;

impl Service {
    /// Judges an attachment before its client connects; gives the full id.
    ///
    /// # Errors
    /// If the container does not run, has a terminal where none was thought of or the other way round, or the streams do
    /// not go together.
    pub fn check_attach(
        &self,
        id: &str,
        request: &AttachRequest,
    ) -> Result<ContainerId, ServiceError> {
        request.streams.check(request.terminal)?;
        let container = self.containers.find(id)?;
        match (container.record().spec.terminal, request.terminal) {
            (Terminal::Present, Terminal::Absent) => {
                return Err(Refusal::invalid("tty", "is false, but the container has one").into());
            }
            (Terminal::Absent, Terminal::Present) => {
                return Err(Refusal::invalid("tty", "is true, but the container has none").into());
            }
            (Terminal::Present, Terminal::Present) | (Terminal::Absent, Terminal::Absent) => {}
        }
        self.running_supervisor(&container)?;
        Ok(container.container_id().clone())
    }

    /// Attaches to a container: what it says from now on, and its input if it has one. Input that is meant for one client
    /// ends with the first attachment that has it.
    ///
    /// # Errors
    /// If the container does not run, or its shim refuses.
    pub async fn open_attach(
        self: &Arc<Self>,
        id: &ContainerId,
        request: AttachRequest,
    ) -> Result<Session, ServiceError> {
        self.check_attach(id.as_str(), &request)?;
        let container = self.containers.find(id.as_str())?;
        let supervisor = self.running_supervisor(&container)?;
        let input = match (request.streams.input, container.record().spec.input) {
            (Wanted::No, _) | (Wanted::Yes, Input::Closed) => WantedInput::Unwanted,
            (Wanted::Yes, Input::Open) => WantedInput::Shared,
            (Wanted::Yes, Input::Once) => WantedInput::Whole,
        };
        match supervisor.open_attach(request.streams, input).await {
            Ok(opened) => Ok(Session::new(id.clone(), opened)),
            Err(source) => Err(ServiceError::Attach { container: id.clone(), source }),
        }
    }
}
