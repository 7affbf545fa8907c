//! The last reading of one thing, and whether somebody reads it right now.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// A last reading. Looking at it takes a few instructions; a new one is read by one thread at a time.
#[derive(Debug)]
pub(crate) struct Gauge<T> {
    last: Mutex<Option<Arc<T>>>,
    /// Held by who reads. It guards nothing that a panic could leave half-changed.
    busy: Mutex<()>,
}

impl<T> Default for Gauge<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None), busy: Mutex::new(()) }
    }
}

impl<T> Gauge<T> {
    /// The last reading; none if there is nothing to read, or nobody has yet.
    pub(crate) fn last(&self) -> Option<Arc<T>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads anew, given the last reading, unless somebody else is at it.
    pub(crate) fn read(&self, reading: impl FnOnce(Option<&T>) -> Option<T>) {
        let _busy = match self.busy.try_lock() {
            Ok(busy) => busy,
            Err(TryLockError::Poisoned(busy)) => busy.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let next = reading(self.last().as_deref()).map(Arc::new);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_panics_leaves_the_last_one_and_does_not_end_all_readings() {
        let gauge = Arc::new(Gauge::default());
        gauge.read(|_| Some(1));
        let panicking = Arc::clone(&gauge);
        let reading = move || panicking.read(|_| panic!("a broken invariant"));
        std::thread::spawn(reading).join().unwrap_err();
        assert_eq!(gauge.last().as_deref(), Some(&1));
        gauge.read(|last| last.map(|last| last + 1));
        assert_eq!(gauge.last().as_deref(), Some(&2));
    }

    #[test]
    fn who_comes_while_somebody_reads_does_not_read() {
        let gauge = Gauge::default();
        gauge.read(|_| {
            gauge.read(|_| Some(1));
            Some(2)
        });
        assert_eq!(gauge.last().as_deref(), Some(&2));
    }
}
