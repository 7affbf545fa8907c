//! What containers wrote to their root file systems.
//!
//! Each file must be looked at, on a disk that may hang: one task does that for all containers, one after the other, and
//! nobody waits for it. A container with many files is looked at less often, and after each round it rests for several
//! times as long as that took, so that all of it takes a tenth of one CPU at most.

use super::gauge::Gauge;
use crate::Service;
use crate::container::Container;
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::snapshot::SnapshotKey;
use cringle_domain::time::Timestamp;
use cringle_image::SnapshotUsage;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A container is looked at again no sooner than after so many times as long as its last look took.
const REST: u32 = 50;

/// The next round begins no sooner than after so many times as long as the last one took.
const ROUND_REST: u32 = 9;

/// What a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// When its files were looked at.
    pub at: Timestamp,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
    /// When the next look at a running container is due, by a clock that nobody sets; at once if there was none yet.
    due: Option<Instant>,
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
        Self { at: record.created, bytes: 0, inodes: 0, due: None }
    }

    fn is_due(&self, record: &ContainerRecord, now: Instant) -> bool {
        match &record.phase {
            ContainerPhase::Creating | ContainerPhase::Created | ContainerPhase::Removing => false,
            ContainerPhase::Exited { exit, .. } => self.at <= exit.at,
            ContainerPhase::Running { .. } => self.due.is_none_or(|due| due <= now),
        }
    }
}

impl Service {
    /// Looks at the writable layers of all containers, again and again. Never returns; whoever runs it ends it.
    pub async fn watch_layers(self: Arc<Self>, every: Duration) {
        loop {
            let begin = Instant::now();
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
            tokio::time::sleep(rest(every, begin.elapsed())).await;
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
        let (at, begin) = (self.clock.now(), Instant::now());
        container.layer.read(|last| {
            let last = last.copied().unwrap_or_else(|| LayerUsage::at_creation(&record));
            if !last.is_due(&record, begin) {
                return Some(last);
            }
            match self.images.snapshots().usage(&SnapshotKey::from(&record.id)) {
                Ok(SnapshotUsage { bytes, inodes }) => {
                    let now = Instant::now();
                    let due = now.checked_add((now - begin).saturating_mul(REST));
                    Some(LayerUsage { at, bytes, inodes, due })
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

/// How long to rest after a round that took so long.
fn rest(every: Duration, took: Duration) -> Duration {
    every.saturating_sub(took).max(took.saturating_mul(ROUND_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_begin_at_even_times_unless_they_take_long() {
        let seconds = Duration::from_secs;
        assert_eq!(rest(seconds(10), seconds(0)), seconds(10));
        assert_eq!(rest(seconds(10), seconds(1)), seconds(9));
        assert_eq!(rest(seconds(10), seconds(2)), seconds(18));
        assert_eq!(rest(seconds(10), Duration::MAX), Duration::MAX);
    }
}
