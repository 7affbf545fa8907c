//! Points in time as the CRI gives them: nanoseconds since the epoch, never zero.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::time::{SystemTime, UNIX_EPOCH};

/// A wall-clock time in nanoseconds since the epoch. Zero means "never" on the wire, so it cannot be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(NonZeroU64);

impl From<SystemTime> for Timestamp {
    /// What is before the epoch becomes its first nanosecond, and what is after the year 2554 the last that can be told.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_nanoseconds(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Timestamp {
    /// The time so many nanoseconds after the epoch; the epoch itself becomes its first nanosecond.
    #[must_use]
    pub fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub fn nanoseconds(self) -> u64 {
        self.0.get()
    }

    /// The same as the wire has it (the CRI's times are signed).
    #[must_use]
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0.get()).unwrap_or(i64::MAX)
    }
}
