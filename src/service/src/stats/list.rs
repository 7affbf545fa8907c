//! Asking for what pods and containers use.

use super::layers::LayerUsage;
use super::traffic::Traffic;
use super::usage::Usage;
use crate::container::Container;
use crate::pod::Pod;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::pod::{PodPhase, PodRecord};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What a container uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub record: Arc<ContainerRecord>,
    /// CPU, memory, pressure; none if it doesn't run.
    pub usage: Option<Arc<Usage>>,
    /// What it wrote.
    pub layer: LayerUsage,
}

/// What a pod uses.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The pod.
    pub record: Arc<PodRecord>,
    /// CPU, memory, pressure of all of it; none if nothing of it runs.
    pub usage: Option<Usage>,
    /// Its network; none if it has none of its own.
    pub traffic: Option<Traffic>,
    /// Its running containers.
    pub containers: Vec<ContainerStats>,
}

impl Service {
    /// What one container uses, by id or a unique beginning of it. Of one that doesn't run only what it wrote is known.
    ///
    /// # Errors
    /// If there is none that clients may see.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats, ServiceError> {
        let record = self.container(id)?;
        let container = self.containers.find(record.id.as_str())?;
        self.stats.containers.read([Arc::clone(&container)]).await;
        Ok(stats_of(&container))
    }

    /// What those of these containers use that run. One that was never read is left out.
    pub async fn containers_stats(&self, records: &[Arc<ContainerRecord>]) -> Vec<ContainerStats> {
        self.stats_of_containers(self.running(records)).await
    }

    /// What one pod uses, by id or a unique beginning of it. Of one that isn't ready nothing is known.
    ///
    /// # Errors
    /// If there is none that clients may see.
    pub async fn pod_stats(&self, id: &str) -> Result<PodStats, ServiceError> {
        let record = self.pod(id)?;
        let pod = self.pods.find(record.id.as_str())?;
        let mut stats = self.stats_of_pods(vec![pod]).await;
        stats.pop().ok_or_else(|| ServiceError::NoSuchPod(id.to_owned()))
    }

    /// What those of these pods use that are ready.
    pub async fn pods_stats(&self, records: &[Arc<PodRecord>]) -> Vec<PodStats> {
        let ready = records.iter().filter(|pod| matches!(pod.phase, PodPhase::Ready { .. }));
        let ready = ready.filter_map(|pod| self.pods.find(pod.id.as_str()).ok()).collect();
        self.stats_of_pods(ready).await
    }

    /// What all writable layers take together, as far as is known: bytes and files.
    #[must_use]
    pub fn layers_usage(&self) -> (u64, u64) {
        let containers = self.containers.all();
        let layers = containers.iter().filter_map(|container| container.layer.last());
        layers.fold((0, 0), |(bytes, inodes), layer| {
            (layer.bytes.saturating_add(bytes), layer.inodes.saturating_add(inodes))
        })
    }

    /// Where writable layers lie: on the file system of the images.
    #[must_use]
    pub fn layers_directory(&self) -> PathBuf {
        self.layout.images()
    }

    pub(crate) fn running(&self, records: &[Arc<ContainerRecord>]) -> Vec<Arc<Container>> {
        let running = records.iter().filter(|record| runs(record));
        running.filter_map(|record| self.containers.find(record.id.as_str()).ok()).collect()
    }

    async fn stats_of_containers(&self, running: Vec<Arc<Container>>) -> Vec<ContainerStats> {
        self.stats.containers.read(running.iter().cloned()).await;
        let stats = running.iter().map(|container| stats_of(container));
        stats.filter(|stats| stats.usage.is_some()).collect()
    }

    async fn stats_of_pods(&self, pods: Vec<Arc<Pod>>) -> Vec<PodStats> {
        let wanted: HashSet<&str> = pods.iter().map(|pod| pod.pod_id().as_str()).collect();
        let mut running =
            self.containers.filtered(|container| wanted.contains(container.pod_id().as_str()));
        running.retain(|container| runs(&container.record()));
        let read = self.stats.pods.read(pods.iter().cloned());
        let (containers, ()) = tokio::join!(self.stats_of_containers(running), read);
        let mut by_pod: HashMap<String, Vec<ContainerStats>> = HashMap::new();
        for stats in containers {
            by_pod.entry(stats.record.pod.to_string()).or_default().push(stats);
        }
        let stats = pods.iter().map(|pod| {
            let containers = by_pod.remove(pod.pod_id().as_str()).unwrap_or_default();
            pod_stats(pod, containers)
        });
        stats.collect()
    }
}

fn runs(record: &ContainerRecord) -> bool {
    matches!(record.phase, ContainerPhase::Running { .. })
}

fn pod_stats(pod: &Pod, containers: Vec<ContainerStats>) -> PodStats {
    let reading = pod.reading.last();
    let own = reading.as_ref().and_then(|reading| reading.usage.clone());
    let sum = || Usage::sum(&mut containers.iter().filter_map(|stats| stats.usage.as_deref()));
    PodStats {
        record: pod.record(),
        usage: own.or_else(sum),
        traffic: reading.and_then(|reading| reading.traffic.clone()),
        containers,
    }
}

fn stats_of(container: &Container) -> ContainerStats {
    let record = container.record();
    let layer = container.layer.last();
    let layer = layer.map_or_else(|| LayerUsage::at_creation(&record), |layer| *layer);
    ContainerStats { usage: container.usage.last(), layer, record }
}
