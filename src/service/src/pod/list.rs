//! Looking at pods: the last published records, without waiting.

use super::Pod;
use crate::{Service, ServiceError};
use cringle_domain::pod::{PodPhase, PodRecord};
use std::sync::Arc;

impl Service {
    /// The pods that clients may see: not those being made or removed.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<PodRecord>> {
        let records = self.pods.all().into_iter().map(|pod| pod.record());
        records.filter(|record| is_visible(&record.phase)).collect()
    }

    /// One pod, by id or a unique beginning of it.
    ///
    /// # Errors
    /// If there is none that clients may see.
    pub fn pod(&self, id: &str) -> Result<Arc<PodRecord>, ServiceError> {
        let record = self.pods.find(id)?.record();
        if is_visible(&record.phase) {
            Ok(record)
        } else {
            Err(ServiceError::NoSuchPod(id.to_owned()))
        }
    }

    pub(crate) fn find_ready_pod(&self, id: &str) -> Result<Arc<Pod>, ServiceError> {
        let pod = self.pods.find(id)?;
        if pod.is_ready() { Ok(pod) } else { Err(ServiceError::PodNotReady(pod.pod_id().clone())) }
    }
}

fn is_visible(phase: &PodPhase) -> bool {
    match phase {
        PodPhase::Ready { .. } | PodPhase::NotReady { .. } => true,
        PodPhase::Creating | PodPhase::Removing => false,
    }
}
