//! StopPodSandbox: ends what runs in a pod and gives back what it holds. Success on a pod that is stopped or gone.

use super::Pod;
use crate::{Service, ServiceError};
use cringle_domain::pod::PodEvent;
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Stops a pod. An unknown one is stopped.
    ///
    /// # Errors
    /// If something would not go; the next stop goes on where this one ended.
    pub async fn stop_pod(self: &Arc<Self>, id: &str) -> Result<(), ServiceError> {
        let pod = match self.pods.find(id) {
            Ok(pod) => pod,
            Err(ServiceError::NoSuchPod(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let service = Arc::clone(self);
        crate::detached::detached(async move { service.stop_found_pod(&pod).await }).await
    }

    pub(crate) async fn stop_found_pod(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
    ) -> Result<(), ServiceError> {
        let before = pod.record();
        // Before the first effect, so that a crash cannot show a dead network as ready.
        pod.tracked.advance(PodEvent::StopOrdered(self.clock.now())).await?;
        let _alone = pod.gate.write().await;
        self.stop_containers(pod).await?;
        self.tell_pod_stops(pod, &before).await;
        self.tear_down(pod).await
    }

    /// Ends all containers of a pod side by side; the caller keeps new ones away.
    pub(crate) async fn stop_containers(self: &Arc<Self>, pod: &Pod) -> Result<(), ServiceError> {
        let stops = self.containers_of(pod.pod_id()).into_iter().map(|container| {
            let service = Arc::clone(self);
            async move { service.stop_found_container(&container, Duration::ZERO).await }
        });
        futures::future::join_all(stops).await.into_iter().collect()
    }
}
