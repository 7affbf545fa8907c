//! How many images were pulled.

use std::sync::atomic::{AtomicU64, Ordering};

/// Pulls since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulls {
    /// Those that succeeded.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// The sizes of the pulled images together, layers that were here already included.
    pub bytes: u64,
}

/// Counts pulls.
#[derive(Debug, Default)]
pub(crate) struct PullCounter {
    done: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

impl PullCounter {
    /// Notes one pull: the image's size, or none if it failed.
    pub(crate) fn note(&self, size: Option<u64>) {
        match size {
            Some(size) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(size, Ordering::Relaxed);
            }
            None => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn so_far(&self) -> Pulls {
        Pulls {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
