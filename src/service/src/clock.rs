//! The wall clock, injected so that nothing else reads it.

use cringle_domain::time::Timestamp;

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// The clock that asks `source`.
    #[must_use]
    pub fn new(source: fn() -> Timestamp) -> Self {
        Self(source)
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}
