//! Checkpoints of containers and pods.

use super::convert;
use super::instrument::client_deadline;
use super::status::{failed, refused};
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1;
use cringle_service::Service;
use cringle_service::checkpoint::wanted::PodRestore;
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
            timeout: before(deadline),
        };
        self.service.checkpoint_pod(wanted).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::CheckpointPodResponse {}))
    }

    /// RestorePod.
    pub(super) async fn restore(
        &self,
        request: Request<v1::RestorePodRequest>,
    ) -> Answer<v1::RestorePodResponse> {
        let deadline = client_deadline(&request.metadata().clone().into_headers());
        let request = request.into_inner();
        self.service.require_restores().map_err(|error| failed(&error))?;
        refuse_options(&request.options)?;
        let sandbox = v1::RunPodSandboxRequest {
            config: request.config.clone(),
            runtime_handler: request.runtime_handler,
        };
        let pod = convert::pod_spec(sandbox).map_err(|refusal| refused(&refusal))?;
        let config = request.config.as_ref();
        let containers = request.container_configs.into_iter();
        let containers = containers.map(|one| convert::container_spec_in(one, config));
        let containers = containers.collect::<Result<Vec<_>, Refusal>>();
        let wanted = PodRestore {
            checkpoint: request.checkpoint_path,
            pod,
            containers: containers.map_err(|refusal| refused(&refusal))?,
        };
        let restored = self.service.restore_pod(wanted, deadline.map(before)).await;
        let restored = restored.map_err(|error| failed(&error))?;
        Span::current().record("pod", restored.pod.as_str());
        let containers = restored.containers.into_iter();
        Ok(Response::new(v1::RestorePodResponse {
            pod_sandbox_id: restored.pod.to_string(),
            restored_containers: containers
                .map(|(name, id)| v1::RestoredContainer { name, container_id: id.to_string() })
                .collect(),
        }))
    }
}

/// A while before a deadline: what was begun is to be undone by then.
fn before(deadline: Duration) -> Duration {
    deadline - (deadline / 10).min(Duration::from_secs(5))
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
