//! How much output all ExecSyncs together may keep in memory, and how many of them may run.
//!
//! Each may keep a little of each stream for nothing. Who needs more needs a place, of which there are few. Until it has one
//! its process is not read and waits. It keeps the place as a [`Place`] that goes with the output: whoever answers a client
//! lets go of it when the last byte of the answer has been written to the connection, so that answers that nobody reads
//! count too. An exec holds at most one place and waits for none while it has one. A place comes free when its client has
//! read, or is gone; who gets none in time is refused and not cut short, for a short answer would look like a whole one.

use super::ExecError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// What is kept of one stream without a place.
pub(super) const FREE: usize = 64 * 1024;
/// How long one waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bounds of all ExecSyncs.
#[derive(Debug, Clone)]
pub struct ExecBounds {
    cap: usize,
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl ExecBounds {
    /// At most `running` at once, of which `places` may keep more than a little: up to `cap` bytes of each stream.
    #[must_use]
    pub fn new(cap: usize, running: usize, places: usize) -> Self {
        let (running, places) = (Semaphore::new(running), Semaphore::new(places));
        Self { cap, running: Arc::new(running), places: Arc::new(places) }
    }

    /// What is kept of each stream at most.
    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    /// The right to run, once it is to be had.
    pub(super) async fn admission(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        Arc::clone(&self.running).acquire_owned().await.ok()
    }

    /// The room of one exec.
    pub(super) fn room(&self) -> Room {
        let places = Arc::clone(&self.places);
        Room { places, place: OnceCell::new(), waiting: AtomicUsize::new(0) }
    }
}

/// The room of one exec: both of its streams share a place.
#[derive(Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    place: OnceCell<Place>,
    waiting: AtomicUsize,
}

/// One of the places of those who keep much output. Dropped, it is free.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// Waits for a place, if there is none yet.
    ///
    /// # Errors
    /// None came free in time.
    pub(super) async fn more(&self) -> Result<(), ExecError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let placed = self.place.get_or_try_init(|| async {
            let place = Arc::clone(&self.places).acquire_owned();
            match tokio::time::timeout(PATIENCE, place).await {
                Ok(Ok(permit)) => Ok(Place { _permit: permit }),
                Ok(Err(_)) | Err(_) => Err(ExecError::NoRoom),
            }
        });
        let placed = placed.await.map(drop);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        placed
    }

    /// Whether somebody waits for a place.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The place, to be kept as long as what it is for.
    pub(super) fn into_place(self) -> Option<Place> {
        self.place.into_inner()
    }
}
