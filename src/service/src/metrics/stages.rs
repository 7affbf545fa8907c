//! How long the stages of a pod's and a container's start take.

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

/// Bucket `n` counts what took less than 100·2ⁿ microseconds; the last one counts the rest.
const BUCKETS: usize = 20;

/// How long a stage took, each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// All times together.
    pub sum: Duration,
    counts: [u64; BUCKETS],
}

impl StageTimes {
    fn note(&mut self, took: Duration) {
        self.sum += took;
        let bucket = (0..BUCKETS - 1).find(|bucket| took < bound(*bucket));
        self.counts[bucket.unwrap_or(BUCKETS - 1)] += 1;
    }

    /// Upper bounds with how often it took less; none is the bound of all.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut seen = 0;
        self.counts.into_iter().enumerate().map(move |(bucket, count)| {
            seen += count;
            ((bucket < BUCKETS - 1).then(|| bound(bucket)), seen)
        })
    }
}

fn bound(bucket: usize) -> Duration {
    Duration::from_micros(100 << bucket)
}

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
        for stage in STAGES {
            assert_eq!(stage.span().metadata().map(tracing::Metadata::name), Some(stage.name()));
        }
    }

    #[test]
    fn bounds_double_and_the_last_one_takes_the_rest() {
        let stages = Stages::default();
        for took in [50, 150, 250, 3_600_000_000] {
            stages.note(Stage::PodNetwork, Duration::from_micros(took));
        }
        drop(stages.watch(Stage::ContainerShim));
        let all = stages.all();
        assert_eq!(all[5].1.cumulative().last(), Some((None, 1)));
        let (stage, times) = all[2];
        assert_eq!(stage, Stage::PodNetwork);
        let counts: Vec<_> = times.cumulative().collect();
        assert_eq!(counts[0], (Some(Duration::from_micros(100)), 1));
        assert_eq!(counts[1], (Some(Duration::from_micros(200)), 2));
        assert_eq!(counts[2], (Some(Duration::from_micros(400)), 3));
        assert_eq!((counts[BUCKETS - 2].1, counts[BUCKETS - 1]), (3, (None, 4)));
        assert_eq!(all[0].1, StageTimes::default());
    }
}
