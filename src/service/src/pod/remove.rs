//! RemovePodSandbox: a pod and its containers gone. Success on a pod that is gone.

use super::Pod;
use crate::{Service, ServiceError};
use cringle_domain::pod::{PodEvent, PodPhase};
use std::sync::Arc;

impl Service {
    /// Stops and removes a pod with its containers. An unknown one is removed.
    ///
    /// # Errors
    /// If something would not go; then the pod is still there, and the next call goes on.
    pub async fn remove_pod(self: &Arc<Self>, id: &str) -> Result<(), ServiceError> {
        let pod = match self.pods.find(id) {
            Ok(pod) => pod,
            Err(ServiceError::NoSuchPod(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let service = Arc::clone(self);
        crate::detached::detached(async move { service.remove_found_pod(&pod).await }).await
    }

    pub(crate) async fn remove_found_pod(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
    ) -> Result<(), ServiceError> {
        self.stop_found_pod(pod).await?;
        for container in self.containers_of(pod.pod_id()) {
            self.remove_found_container(&container).await?;
        }
        // One at a time: who comes second has nothing new to tell.
        let told = pod.end_told.lock().await;
        let before = pod.record();
        pod.tracked.advance(PodEvent::RemoveOrdered).await?;
        if before.phase != PodPhase::Removing {
            self.tell_pod_removed(&before).await;
        }
        drop(told);
        self.forget_pod(pod)
    }

    /// Deletes the record of a pod that holds nothing any more.
    pub(crate) fn forget_pod(&self, pod: &Pod) -> Result<(), ServiceError> {
        pod.tracked
            .forget()
            .map_err(|source| ServiceError::file("remove record", pod.tracked.path(), source))?;
        self.pods.remove(pod);
        self.tidy_parents();
        Ok(())
    }
}
