//! The service as plugins see it: what there is when they join, and what they may ask for at any time.

use super::Service;
use cringle_domain::container::ContainerPhase;
use cringle_nri::Runtime;
use cringle_proto_nri::v1alpha1::{Container, ContainerEviction, ContainerUpdate, PodSandbox};
use futures::future::BoxFuture;
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// The service, as long as there is one.
#[derive(Debug)]
pub(super) struct Ties(pub(super) Weak<Service>);

impl Ties {
    fn service(&self) -> Result<Arc<Service>, String> {
        self.0.upgrade().ok_or_else(|| "the runtime ends".to_owned())
    }
}

impl Runtime for Ties {
    /// All pods, and the containers that have not ended: of the others there is nothing left to be done.
    fn state(&self) -> (Vec<PodSandbox>, Vec<Container>) {
        let Ok(service) = self.service() else { return (Vec::new(), Vec::new()) };
        let pods = service.pods().iter().map(|record| service.described_pod(record)).collect();
        let records = service.containers().into_iter().filter(|record| match record.phase {
            ContainerPhase::Created | ContainerPhase::Running { .. } => true,
            ContainerPhase::Creating | ContainerPhase::Exited { .. } | ContainerPhase::Removing => {
                false
            }
        });
        let containers = records.map(|record| service.described(&record).1).collect();
        (pods, containers)
    }

    fn update(&self, update: ContainerUpdate) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let deadline = Instant::now() + super::PATIENCE;
            let updated = self.service()?.update_for_plugin(&update, deadline).await;
            updated.map_err(|error| crate::error::chain(&error))
        })
    }

    fn evict(&self, eviction: ContainerEviction) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let evicted = self.service()?.evict(&eviction.container_id).await;
            evicted.map_err(|error| crate::error::chain(&error))
        })
    }
}
