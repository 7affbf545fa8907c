//! Exec: a program in a container, for one client.

use crate::remote_command::{Opening, Status};
use cringle_domain::id::ContainerId;
use cringle_service::streams::{ExecRequest, Session, Size};
use cringle_service::{Service, ServiceError};
use std::sync::Arc;

/// A program that will be executed.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Who executes it.
    pub(crate) service: Arc<Service>,
    /// Where.
    pub(crate) container: ContainerId,
    /// What.
    pub(crate) request: ExecRequest,
}

impl Opening for Exec {
    type Peer = Session;

    async fn open(self, size: Option<Size>) -> Result<Session, ServiceError> {
        self.service.open_exec(&self.container, self.request, size).await
    }

    fn failed(error: &ServiceError) -> Status {
        Status::failure("error executing command in container", error)
    }
}
