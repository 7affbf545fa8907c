//! Looking at containers: the last published records, without waiting.

use super::Container;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::id::{ContainerId, PodId};
use std::sync::Arc;

impl Service {
    /// The containers that clients may see: not those being made or removed.
    #[must_use]
    pub fn containers(&self) -> Vec<Arc<ContainerRecord>> {
        let records = self.containers.all().into_iter().map(|container| container.record());
        records.filter(|record| is_visible(&record.phase)).collect()
    }

    /// Those of [`Service::containers`] that an id or its beginning means, and which are in the pod that another means; all
    /// if both are empty.
    ///
    /// # Errors
    /// If one is the beginning of more than one id.
    pub fn containers_in(
        &self,
        id: &str,
        pod: &str,
    ) -> Result<Vec<Arc<ContainerRecord>>, ServiceError> {
        let mut found = crate::index::narrowed(self.containers(), id, |record| record.id.as_str())?;
        if !pod.is_empty() {
            let pods = self.pods_of(pod)?;
            found.retain(|record| pods.iter().any(|pod| pod.id == record.pod));
        }
        Ok(found)
    }

    /// One container, by id or a unique beginning of it.
    ///
    /// # Errors
    /// If there is none that clients may see.
    pub fn container(&self, id: &str) -> Result<Arc<ContainerRecord>, ServiceError> {
        let record = self.containers.find(id)?.record();
        if is_visible(&record.phase) {
            Ok(record)
        } else {
            Err(ServiceError::NoSuchContainer(id.to_owned()))
        }
    }

    /// The runtime spec that a container was or will be started with.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn runtime_spec(&self, id: &ContainerId) -> Result<serde_json::Value, ServiceError> {
        Ok(crate::bundle::document(&self.layout.bundle(id))?)
    }

    pub(crate) fn containers_of(&self, pod: &PodId) -> Vec<Arc<Container>> {
        self.containers.filtered(|container| container.pod_id() == pod)
    }
}

/// Whether clients may see a container of this phase.
pub(crate) fn is_visible(phase: &ContainerPhase) -> bool {
    match phase {
        ContainerPhase::Created
        | ContainerPhase::Running { .. }
        | ContainerPhase::Exited { .. } => true,
        ContainerPhase::Creating | ContainerPhase::Removing => false,
    }
}
