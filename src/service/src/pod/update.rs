//! UpdatePodSandboxResources: what a whole pod may use from now on.
//!
//! The cgroup that holds a pod to it is the client's, who has resized it already. Here the values are kept, so that whoever
//! looks at the pod sees those in force, also after a restart of the daemon.

use crate::{Service, ServiceError};
use cringle_domain::pod::PodEvent;
use cringle_domain::resources::PodResourcesChange;
use std::sync::Arc;

impl Service {
    /// Keeps the values that `change` names, if no plugin minds.
    ///
    /// # Errors
    /// If the pod is not ready, a plugin refuses, or its record can't be written; then the old ones are kept.
    pub async fn update_pod(
        self: &Arc<Self>,
        id: &str,
        change: PodResourcesChange,
    ) -> Result<(), ServiceError> {
        let pod = self.pods.find(self.pod(id)?.id.as_str())?;
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            service.tell_pod_resizes(&pod.record(), &change).await?;
            pod.tracked.advance(PodEvent::Resized(Box::new(change))).await?;
            service.tell_pod_resized(&pod.record()).await;
            Ok(())
        })
        .await
    }
}
