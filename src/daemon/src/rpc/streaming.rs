//! Exec, Attach and PortForward: each is judged, and gets a URL that its client connects to.

use super::convert;
use super::status::{failed, not_kept, refused};
use cringle_proto_cri::v1;
use cringle_service::Service;
use cringle_streaming::Urls;
use std::sync::Arc;
use tonic::{Response, Status};

/// Gives out URLs for what the use cases allow.
#[derive(Debug)]
pub(crate) struct StreamingRpc {
    service: Arc<Service>,
    urls: Urls,
}

type Answer<T> = Result<Response<T>, Status>;

impl StreamingRpc {
    /// URLs of this server, for these use cases.
    pub(crate) fn new(service: Arc<Service>, urls: Urls) -> Self {
        Self { service, urls }
    }

    pub(super) fn exec(&self, request: v1::ExecRequest) -> Answer<v1::ExecResponse> {
        let (id, request) = convert::exec_request(request).map_err(|refusal| refused(&refusal))?;
        let id = self.service.check_exec(&id, &request).map_err(|error| failed(&error))?;
        let url = self.urls.exec(id, request).map_err(|error| not_kept(&error))?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    pub(super) fn attach(&self, request: v1::AttachRequest) -> Answer<v1::AttachResponse> {
        let (id, request) =
            convert::attach_request(request).map_err(|refusal| refused(&refusal))?;
        let id = self.service.check_attach(&id, &request).map_err(|error| failed(&error))?;
        let url = self.urls.attach(id, request).map_err(|error| not_kept(&error))?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    pub(super) fn port_forward(
        &self,
        request: v1::PortForwardRequest,
    ) -> Answer<v1::PortForwardResponse> {
        let (pod, ports) =
            convert::port_forward_request(request).map_err(|refusal| refused(&refusal))?;
        let pod = self.service.check_port_forward(&pod).map_err(|error| failed(&error))?;
        let url = self.urls.port_forward(pod, ports).map_err(|error| not_kept(&error))?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }
}
