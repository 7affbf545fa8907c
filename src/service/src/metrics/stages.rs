//! How long the stages of a pod's and a container's start take.

use super::Histogram;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::Span;

/// A stage of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A pod's run-time files.
    PodFiles,
    /// A pod's namespaces, and its /dev/shm.
    PodNamespaces,
    /// A pod's networks.
    PodNetwork,
    /// A pod's own process, if it has one.
    PodProcess,
    /// A container's plan, bundle, writable layer and record.
    ContainerCreate,
    /// A container's shim.
    ContainerShim,
    /// A container's cgroup, mounts and first process.
    ContainerProcess,
}

/// All stages, in the order in which they come.
pub const STAGES: [Stage; 7] = [
    Stage::PodFiles,
    Stage::PodNamespaces,
    Stage::PodNetwork,
    Stage::PodProcess,
    Stage::ContainerCreate,
    Stage::ContainerShim,
    Stage::ContainerProcess,
];

impl Stage {
    /// A span of that name, for who collects traces.
    fn span(self) -> Span {
        match self {
            Self::PodFiles => tracing::debug_span!("pod_files"),
            Self::PodNamespaces => tracing::debug_span!("pod_namespaces"),
            Self::PodNetwork => tracing::debug_span!("pod_network"),
            Self::PodProcess => tracing::debug_span!("pod_process"),
            Self::ContainerCreate => tracing::debug_span!("container_create"),
            Self::ContainerShim => tracing::debug_span!("container_shim"),
            Self::ContainerProcess => tracing::debug_span!("container_process"),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PodFiles => "pod_files",
            Self::PodNamespaces => "pod_namespaces",
            Self::PodNetwork => "pod_network",
            Self::PodProcess => "pod_process",
            Self::ContainerCreate => "container_create",
            Self::ContainerShim => "container_shim",
            Self::ContainerProcess => "container_process",
        }
    }
}

/// How long a stage took, each time: from a tenth of a millisecond to half a minute.
pub type StageTimes = Histogram<100, 20>;

/// The times of all stages.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    times: Mutex<[StageTimes; STAGES.len()]>,
}

/// A stage under way.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    stages: &'a Stages,
    stage: Stage,
    start: Instant,
    /// Lasts as long as the stage. Nobody enters it, so that it is in no line of the log.
    _span: Span,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.stages.note(self.stage, self.start.elapsed());
    }
}

impl Stages {
    /// Times a stage until the watch is dropped, whatever comes of it.
    pub(crate) fn watch(&self, stage: Stage) -> Watch<'_> {
        crate::progress::enter(stage);
        Watch { stages: self, stage, start: Instant::now(), _span: stage.span() }
    }

    /// The times of each stage so far.
    pub(crate) fn all(&self) -> Vec<(Stage, StageTimes)> {
        let times = *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        STAGES.into_iter().zip(times).collect()
    }

    fn note(&self, stage: Stage, took: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        for (known, times) in STAGES.iter().zip(times.iter_mut()) {
            if *known == stage {
                times.note(took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_name_of_its_stage() {
        // A span that nobody wants has no name.
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            for stage in STAGES {
                let span = stage.span();
                assert_eq!(span.metadata().map(tracing::Metadata::name), Some(stage.name()));
            }
        });
    }

    #[test]
    fn each_stage_has_times_of_its_own() {
        let stages = Stages::default();
        stages.note(Stage::PodNetwork, Duration::from_micros(150));
        drop(stages.watch(Stage::ContainerShim));
        drop(stages.watch(Stage::ContainerShim));
        let counts = stages.all().into_iter().map(|(_, times)| times.count());
        assert_eq!(counts.collect::<Vec<_>>(), [0, 0, 1, 0, 0, 2, 0]);
        let (stage, times) = stages.all()[2];
        assert_eq!((stage, times.sum()), (Stage::PodNetwork, Duration::from_micros(150)));
    }
}
