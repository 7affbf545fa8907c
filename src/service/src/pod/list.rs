//! Looking at pods: the last published records, without waiting.

use super::{Hold, Pod};
use crate::{Service, ServiceError};
use cringle_domain::pod::{PodPhase, PodRecord};
use std::path::PathBuf;
use std::sync::Arc;

impl Service {
    /// The pods that clients may see: not those being made or removed.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<PodRecord>> {
        let records = self.pods.all().into_iter().map(|pod| pod.record());
        records.filter(|record| is_visible(&record.phase)).collect()
    }

    /// Those of [`Service::pods`] that an id or its beginning means: one or none; all if it is empty.
    ///
    /// # Errors
    /// If it is the beginning of more than one.
    pub fn pods_of(&self, id: &str) -> Result<Vec<Arc<PodRecord>>, ServiceError> {
        crate::index::narrowed(self.pods(), id, |record| record.id.as_str())
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

    /// The namespaces of a ready pod by their kind, and where they are pinned.
    #[must_use]
    pub fn pins(&self, record: &PodRecord) -> Vec<(&'static str, PathBuf)> {
        if !matches!(record.phase, PodPhase::Ready { .. }) {
            return Vec::new();
        }
        self.pinned(record)
    }

    /// The namespaces of a pod by their kind, and where they are pinned while it has them.
    pub(crate) fn pinned(&self, record: &PodRecord) -> Vec<(&'static str, PathBuf)> {
        let directory = self.layout.pod_directory(&record.id);
        let holds = super::plan_holds(&record.spec, 0).into_iter();
        let pin = |hold| match hold {
            Hold::Users => Some(("user", directory.join("user"))),
            Hold::Network => Some(("network", self.layout.netns(&record.id))),
            Hold::Ipc => Some(("ipc", directory.join("ipc"))),
            Hold::Uts => Some(("uts", directory.join("uts"))),
            Hold::Directory | Hold::Shm | Hold::Attachment(_) | Hold::Reaper => None,
        };
        holds.filter_map(pin).collect()
    }

    pub(crate) fn find_ready_pod(&self, id: &str) -> Result<Arc<Pod>, ServiceError> {
        let pod = self.pods.find(id)?;
        if pod.is_ready() { Ok(pod) } else { Err(ServiceError::PodNotReady(pod.pod_id().clone())) }
    }
}

/// Whether clients may see a pod of this phase.
pub(crate) fn is_visible(phase: &PodPhase) -> bool {
    match phase {
        PodPhase::Ready { .. } | PodPhase::NotReady { .. } => true,
        PodPhase::Creating | PodPhase::Removing => false,
    }
}
