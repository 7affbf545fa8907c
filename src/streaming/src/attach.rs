//! Attach: the streams of a container's first process, for one more client.

use crate::remote_command::{Opening, Peer, Status};
use cringle_domain::id::ContainerId;
use cringle_service::streams::{AttachRequest, Session, Size};
use cringle_service::{Service, ServiceError};
use std::sync::Arc;

/// A container that will be attached to.
#[derive(Debug)]
pub(crate) struct Attach {
    /// Who attaches.
    pub(crate) service: Arc<Service>,
    /// To what.
    pub(crate) container: ContainerId,
    /// With which streams.
    pub(crate) request: AttachRequest,
}

impl Opening for Attach {
    type Peer = Session;

    async fn open(self, size: Option<Size>) -> Result<Session, ServiceError> {
        let session = self.service.open_attach(&self.container, self.request).await?;
        if let Some(size) = size {
            Peer::resize(&session, size);
        }
        Ok(session)
    }

    fn failed(error: &ServiceError) -> Status {
        Status::failure("error attaching to container", error)
    }
}
