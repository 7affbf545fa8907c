//! Checkpoints of containers and pods.

use super::instrument::client_deadline;
use super::status::{failed, refused};
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1;
use cringle_service::Service;
use cringle_service::pod::checkpoint::PodCheckpoint;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use tracing::Span;

/// The part of RuntimeService that makes checkpoints.
#[derive(Debug)]
pub(super) struct CheckpointRpc {
    service: Arc<Service>,
}

type Answer<T> = Result<Response<T>, Status>;

impl CheckpointRpc {
    /// This part on top of the use cases.
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    /// CheckpointContainer. A time of zero seconds is what is configured.
    pub(super) async fn container(
        &self,
        request: v1::CheckpointContainerRequest,
    ) -> Answer<v1::CheckpointContainerResponse> {
        Span::current().record("container", &request.container_id);
        let timeout = match u64::try_from(request.timeout) {
            Ok(0) => None,
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_negative) => {
                let problem = format!("{} is less than no time", request.timeout);
                return Err(refused(&Refusal::invalid("timeout", problem)));
            }
        };
        let (id, location) = (&request.container_id, &request.location);
        let made = self.service.checkpoint_container(id, location, timeout).await;
        made.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::CheckpointContainerResponse {}))
    }

    /// CheckpointPod. Who asks has to say how long it waits: the containers stand still no longer than that.
    pub(super) async fn pod(
        &self,
        request: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        let deadline = client_deadline(&request.metadata().clone().into_headers());
        let request = request.into_inner();
        Span::current().record("pod", &request.pod_sandbox_id);
        self.service.require_checkpoints().map_err(|error| failed(&error))?;
        let Some(deadline) = deadline else {
            return Err(refused(&Refusal::invalid("grpc-timeout", "the call has no deadline")));
        };
        refuse_options(&request.options)?;
        let wanted = PodCheckpoint {
            pod: request.pod_sandbox_id,
            output: request.output_path,
            containers: request.container_ids,
            // They are to go on before the client stops waiting.
            timeout: deadline - (deadline / 10).min(Duration::from_secs(5)),
        };
        self.service.checkpoint_pod(wanted).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::CheckpointPodResponse {}))
    }

    /// RestorePod.
    pub(super) fn restore() -> Status {
        refused(&Refusal::Unsupported("making a pod of a checkpoint".to_owned()))
    }
}

/// There are no options.
fn refuse_options(options: &HashMap<String, String>) -> Result<(), Status> {
    match options.keys().next() {
        Some(key) => {
            let problem = format!("\"{key}\" is not known; there are none");
            Err(refused(&Refusal::invalid("options", problem)))
        }
        None => Ok(()),
    }
}
