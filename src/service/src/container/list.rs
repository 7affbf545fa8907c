//! Looking at containers: the last published records, without waiting.

use super::Container;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::id::PodId;
use std::sync::Arc;

impl Service {
    /// The containers that clients may see: not those being made or removed.
    #[must_use]
    pub fn containers(&self) -> Vec<Arc<ContainerRecord>> {
        let records = self.containers.all().into_iter().map(|container| container.record());
        records.filter(|record| is_visible(&record.phase)).collect()
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

    pub(crate) fn containers_of(&self, pod: &PodId) -> Vec<Arc<Container>> {
        let all = self.containers.all().into_iter();
        all.filter(|container| container.record().pod == *pod).collect()
    }
}

fn is_visible(phase: &ContainerPhase) -> bool {
    match phase {
        ContainerPhase::Created
        | ContainerPhase::Running { .. }
        | ContainerPhase::Exited { .. } => true,
        ContainerPhase::Creating | ContainerPhase::Removing => false,
    }
}
