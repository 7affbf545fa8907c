//! What containers wrote to their root file systems.
//!
//! Each file must be looked at, on a disk that may hang: one task does that for all containers, one after the other, and
//! nobody waits for it. A container with many files is looked at less often, so that this never takes more than a small
//! share of one CPU.

use super::gauge::Gauge;
use crate::Service;
use crate::container::Container;
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::snapshot::SnapshotKey;
use cringle_domain::time::Timestamp;
use cringle_image::SnapshotUsage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A look that took so long is repeated no sooner than after so many times as long.
const REST: u32 = 50;

/// What a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// When its files were looked at.
    pub at: Timestamp,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
    /// How long the look took.
    took: Duration,
}

/// The file system that all writable layers are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size in bytes.
    pub capacity: u64,
    /// How many files it can have.
    pub inodes: u64,
    /// How many of these are free.
    pub free_inodes: u64,
}

/// What was found out last of all layers together.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) file_system: Gauge<FileSystem>,
}

impl LayerUsage {
    /// When a container is made, its layer is empty.
    pub(crate) fn at_creation(record: &ContainerRecord) -> Self {
        Self { at: record.created, bytes: 0, inodes: 0, took: Duration::ZERO }
    }

    fn is_due(&self, record: &ContainerRecord, now: Timestamp) -> bool {
        match &record.phase {
            ContainerPhase::Creating | ContainerPhase::Created | ContainerPhase::Removing => false,
            ContainerPhase::Exited { exit, .. } => self.at <= exit.at,
            ContainerPhase::Running { .. } => {
                now.nanoseconds().saturating_sub(self.at.nanoseconds())
                    >= nanoseconds(self.took.saturating_mul(REST))
            }
        }
    }
}

impl Service {
    /// Looks at the writable layers of all containers, again and again. Never returns; whoever runs it ends it.
    pub async fn watch_layers(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let service = Arc::clone(&self);
            let (done, looked) = oneshot::channel();
            // A hung disk keeps this thread, and we wait for it, so that it is no more than one. The end of the daemon does
            // not wait.
            let look = move || {
                service.look_at_layers();
                let _waiting = done.send(());
            };
            match std::thread::Builder::new().name("layers".to_owned()).spawn(look) {
                // Without an answer if it panicked: the next look is as good.
                Ok(_) => drop(looked.await),
                Err(error) => tracing::warn!(%error, "writable layers not looked at"),
            }
        }
    }

    fn look_at_layers(&self) {
        self.stats.layers.file_system.read(|_| file_system(self.layout.root()));
        for container in self.containers.all() {
            self.look_at_layer(&container);
        }
    }

    fn look_at_layer(&self, container: &Container) {
        let record = container.record();
        let start = self.clock.now();
        container.layer.read(|last| {
            let last = last.copied().unwrap_or_else(|| LayerUsage::at_creation(&record));
            if !last.is_due(&record, start) {
                return Some(last);
            }
            match self.images.snapshots().usage(&SnapshotKey::from(&record.id)) {
                Ok(SnapshotUsage { bytes, inodes }) => {
                    let took = self.clock.now().nanoseconds().saturating_sub(start.nanoseconds());
                    let took = Duration::from_nanos(took);
                    Some(LayerUsage { at: start, bytes, inodes, took })
                }
                Err(error) => {
                    // It is removed while we look, mostly.
                    tracing::debug!(container = %record.id, %error, "writable layer not looked at");
                    Some(last)
                }
            }
        });
    }
}

fn file_system(root: &std::path::Path) -> Option<FileSystem> {
    let found = rustix::fs::statvfs(root).ok()?;
    Some(FileSystem {
        capacity: found.f_blocks.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        free_inodes: found.f_ffree,
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
