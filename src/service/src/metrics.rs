//! Everything countable of pods and containers, under the names that cAdvisor gave it.
//!
//! [`DESCRIPTORS`] is the whole list: what a value is called, what its labels are, and how it behaves. `values.rs` makes
//! the values from the readings of [`crate::stats`] and from a [`Detail`] that only metrics want. What the host does not
//! count has no value, rather than a zero.
//!
//! The labels of all are [`BASE_LABELS`]; those of one metric follow. A pod as such is the container `POD`, as it was when
//! each pod had a process to keep its network.

mod descriptors;
mod detail;
mod histogram;
mod pulls;
mod stages;
mod values;

pub use descriptors::{DESCRIPTORS, Descriptor, Kind};
pub use histogram::Histogram;
pub use pulls::Pulls;
pub use stages::{STAGES, Stage, StageTimes};

pub(crate) use detail::Detail;
pub(crate) use pulls::PullCounter;
pub(crate) use stages::Stages;

use crate::Service;
use crate::container::Container;
use crate::stats::{PodStats, Rounds};
use cringle_domain::pod::PodRecord;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Labels that every value has, in this order.
pub const BASE_LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// What it is.
    pub descriptor: &'static Descriptor,
    /// Values of its own labels, after the base ones.
    pub labels: Vec<String>,
    /// How much.
    pub value: Value,
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A length of time.
    Time(Duration),
}

impl Value {
    /// As a whole number: of seconds, if it is a time.
    #[must_use]
    pub fn whole(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Time(time) => time.as_secs(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Time(time) => write!(formatter, "{}", time.as_secs_f64()),
        }
    }
}

/// Values of one container, or of a pod as such.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The container's or the pod's id.
    pub id: String,
    /// Values of [`BASE_LABELS`].
    pub base: [String; 6],
    /// The values.
    pub values: Vec<Metric>,
}

/// Values of a pod and its containers.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    /// Those of the pod as such.
    pub pod: Metrics,
    /// Those of its running containers.
    pub containers: Vec<Metrics>,
}

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Pods, by the name of their phase.
    pub pods: BTreeMap<&'static str, usize>,
    /// Containers, by the name of their phase.
    pub containers: BTreeMap<&'static str, usize>,
    /// Shims of containers that the daemon is connected to.
    pub shims: usize,
}

impl Service {
    /// The metrics of all ready pods and their running containers.
    pub async fn metrics(&self) -> Vec<PodMetrics> {
        let (pods, containers) = (self.pods(), self.containers());
        let details = self.details.read(self.running(&containers));
        let (pods, ()) = tokio::join!(self.pods_stats(&pods), details);
        pods.iter().map(|stats| self.metrics_of(stats)).collect()
    }

    fn metrics_of(&self, stats: &PodStats) -> PodMetrics {
        let pod = &stats.record;
        let mut values = Vec::new();
        if let Some(traffic) = &stats.traffic {
            values::add_traffic(&mut values, traffic);
        }
        let id = pod.id.to_string();
        let base = base_of(pod, "POD", [pod.plan.cgroup_parent.clone(), String::new(), id.clone()]);
        let containers = stats.containers.iter().filter_map(|stats| {
            let container = self.containers.find(stats.record.id.as_str()).ok()?;
            let record = &stats.record;
            let file_system = self.stats.layers.file_system.last();
            let subject = values::Subject {
                stats,
                usage: stats.usage.as_deref()?,
                detail: container.detail.last(),
                file_system: file_system.as_deref(),
            };
            let id = record.id.to_string();
            let image = record.image_reference.clone();
            let own = [record.cgroup.clone(), image, id.clone()];
            let base = base_of(pod, &record.spec.metadata.name, own);
            Some(Metrics { id, base, values: values::of_container(&subject) })
        });
        let containers = containers.collect();
        PodMetrics { pod: Metrics { id, base, values }, containers }
    }

    /// How long each stage of a start took so far.
    #[must_use]
    pub fn stage_times(&self) -> Vec<(Stage, StageTimes)> {
        self.stages.all()
    }

    /// Notes a pull: the image's size, or none if it failed.
    pub fn note_pull(&self, size: Option<u64>) {
        self.pulls.note(size);
    }

    /// The pulls so far.
    #[must_use]
    pub fn pulls(&self) -> Pulls {
        self.pulls.so_far()
    }

    /// Who is there now.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for pod in self.pods.all() {
            *census.pods.entry(pod.record().phase.name()).or_default() += 1;
        }
        for container in self.containers.all() {
            *census.containers.entry(container.record().phase.name()).or_default() += 1;
            census.shims += usize::from(container.supervisor().is_some());
        }
        census
    }

    /// Who reads details.
    pub(crate) fn details(
        host: &crate::host::Host,
        clock: crate::clock::Clock,
    ) -> Arc<Rounds<Container>> {
        let cgroups = host.cgroups.clone();
        Rounds::new("container detail", move |container| detail::read(&cgroups, clock, container))
    }
}

/// The values of [`BASE_LABELS`], given a cgroup, an image and an id.
fn base_of(pod: &PodRecord, container: &str, own: [String; 3]) -> [String; 6] {
    let [cgroup, image, id] = own;
    let metadata = &pod.spec.metadata;
    [container.to_owned(), cgroup, image, id, metadata.namespace.clone(), metadata.name.clone()]
}
