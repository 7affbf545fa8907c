//! What plugins are told of pods.

use super::{describe, limits};
use crate::pod::Pod;
use crate::{Service, ServiceError};
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::resources::PodResourcesChange;
use cringle_nri::Hook;
use cringle_proto_nri::v1alpha1::{
    PodSandbox, PostUpdatePodSandboxRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StopPodSandboxRequest, UpdatePodSandboxRequest,
};
use std::net::IpAddr;

impl Service {
    /// Tells of a pod that has everything and that nobody sees yet.
    ///
    /// # Errors
    /// A plugin refuses; then all were told that the pod is gone again.
    pub(crate) async fn tell_pod_runs(
        &self,
        record: &PodRecord,
        addresses: &[IpAddr],
    ) -> Result<(), ServiceError> {
        if !self.nri.has_plugins() {
            return Ok(());
        }
        let pod = describe::pod(record, &self.pinned(record), addresses);
        let request = RunPodSandboxRequest { pod: Some(pod) };
        let told = Box::pin(self.nri.tell(&request)).await;
        if let Err(error) = told {
            self.tell_pod_undone(record).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Tells what a pod shall be allowed from now on.
    ///
    /// # Errors
    /// A plugin refuses.
    pub(crate) async fn tell_pod_resizes(
        &self,
        record: &PodRecord,
        change: &PodResourcesChange,
    ) -> Result<(), ServiceError> {
        if !self.nri.has_plugins() || !matches!(record.phase, PodPhase::Ready { .. }) {
            return Ok(());
        }
        let request = UpdatePodSandboxRequest {
            pod: Some(self.described_pod(record)),
            overhead_linux_resources: change.overhead.as_ref().map(limits::to_nri),
            linux_resources: change.containers.as_ref().map(limits::to_nri),
        };
        Ok(Box::pin(self.nri.tell(&request)).await?)
    }

    /// Tells that a pod is allowed what its record says.
    pub(crate) async fn tell_pod_resized(&self, record: &PodRecord) {
        self.inform_of_pod(record, |pod| PostUpdatePodSandboxRequest { pod }).await;
    }

    /// Tells that a pod that was told to run does not.
    pub(crate) async fn tell_pod_undone(&self, record: &PodRecord) {
        self.inform_of_pod(record, |pod| StopPodSandboxRequest { pod }).await;
        self.inform_of_pod(record, |pod| RemovePodSandboxRequest { pod }).await;
    }

    /// Tells, once, that a pod stops: its containers have ended, its network is still there. `record` is how it was before.
    pub(crate) async fn tell_pod_stops(&self, pod: &Pod, record: &PodRecord) {
        let mut told = pod.end_told.lock().await;
        if !*told {
            self.inform_of_pod(record, |pod| StopPodSandboxRequest { pod }).await;
        }
        *told = true;
    }

    /// Tells that a pod is removed. `record` is how it was before.
    pub(crate) async fn tell_pod_removed(&self, record: &PodRecord) {
        self.inform_of_pod(record, |pod| RemovePodSandboxRequest { pod }).await;
    }

    async fn inform_of_pod<Q: Hook>(
        &self,
        record: &PodRecord,
        request: impl FnOnce(Option<PodSandbox>) -> Q,
    ) {
        if self.nri.has_plugins() {
            self.inform(&request(Some(self.described_pod(record)))).await;
        }
    }
}
