//! How long each method takes: a histogram for each, in memory.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bucket `n` counts what took less than 2ⁿ microseconds; the last one counts the rest, from 134 seconds on.
const BUCKETS: usize = 28;

/// A histogram for each method.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    methods: Mutex<BTreeMap<String, Histogram>>,
}

/// How often a method took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Histogram {
    buckets: [u64; BUCKETS],
}

/// What a histogram says: upper bounds, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    count: u64,
    half_within: u64,
    most_within: u64,
    all_within: u64,
}

impl Latencies {
    /// Notes one call.
    pub(crate) fn note(&self, method: &str, elapsed: Duration) {
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        match methods.get_mut(method) {
            Some(histogram) => histogram.note(elapsed),
            None => {
                let mut histogram = Histogram::default();
                histogram.note(elapsed);
                methods.insert(method.to_owned(), histogram);
            }
        }
    }

    /// The quantiles of each method that was called.
    pub(crate) fn quantiles(&self) -> BTreeMap<String, Quantiles> {
        let methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        methods.iter().map(|(name, histogram)| (name.clone(), histogram.quantiles())).collect()
    }
}

impl Histogram {
    fn note(&mut self, elapsed: Duration) {
        let microseconds = elapsed.as_micros();
        let bucket = (0..BUCKETS - 1).find(|bucket| microseconds < 1 << bucket);
        self.buckets[bucket.unwrap_or(BUCKETS - 1)] += 1;
    }

    fn quantiles(&self) -> Quantiles {
        let count = self.buckets.iter().sum();
        Quantiles {
            count,
            half_within: self.bound(count.div_ceil(2)),
            most_within: self.bound(count - count / 100),
            all_within: self.bound(count),
        }
    }

    /// The bound within which so many calls ended.
    fn bound(&self, calls: u64) -> u64 {
        let mut seen = 0;
        let mut bound = 1;
        for bucket in self.buckets {
            seen += bucket;
            if seen >= calls {
                break;
            }
            bound *= 2;
        }
        bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let latencies = Latencies::default();
        for _ in 0..99 {
            latencies.note("Version", Duration::from_micros(100));
        }
        latencies.note("Version", Duration::from_secs(1));
        let expected =
            Quantiles { count: 100, half_within: 128, most_within: 128, all_within: 1 << 20 };
        assert_eq!(latencies.quantiles()["Version"], expected);
        latencies.note("Slow", Duration::from_secs(10_000));
        assert_eq!(latencies.quantiles()["Slow"].all_within, 1 << (BUCKETS - 1));
    }
}
