//! The last reading of one thing, and whether somebody reads it right now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A last reading. Looking at it takes a few instructions; a new one is read by one thread at a time.
#[derive(Debug)]
pub(crate) struct Gauge<T> {
    last: Mutex<Option<Arc<T>>>,
    busy: AtomicBool,
}

impl<T> Default for Gauge<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None), busy: AtomicBool::new(false) }
    }
}

impl<T> Gauge<T> {
    /// The last reading; none if there is nothing to read, or nobody has yet.
    pub(crate) fn last(&self) -> Option<Arc<T>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads anew, given the last reading, unless somebody else is at it.
    pub(crate) fn read(&self, reading: impl FnOnce(Option<&T>) -> Option<T>) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let next = reading(self.last().as_deref()).map(Arc::new);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = next;
        self.busy.store(false, Ordering::Release);
    }
}
