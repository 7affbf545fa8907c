//! Durations and what is said of many of them.

use std::fmt;
use std::time::Duration;

/// Measured durations of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that so many in a hundred do not exceed; nothing without samples.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        sorted.get((sorted.len() * percent / 100).min(last)).copied()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds =
            |percent| self.percentile(percent).unwrap_or_default().as_secs_f64() * 1000.0;
        write!(formatter, "{:.2} / {:.2}", milliseconds(50), milliseconds(99))
    }
}
