//! How long each method takes: a histogram for each method and outcome, in memory.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tonic::Code;

/// Bucket `n` counts what took less than 2ⁿ microseconds; the last one counts the rest, from 134 seconds on.
const BUCKETS: usize = 28;

/// What was called, and how that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The method's name.
    pub(crate) method: String,
    /// The code of the answer.
    pub(crate) code: Code,
}

/// A histogram for each method and code.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    methods: Mutex<BTreeMap<String, Vec<(Code, Histogram)>>>,
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    buckets: [u64; BUCKETS],
    sum: Duration,
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
    pub(crate) fn note(&self, method: &str, code: Code, elapsed: Duration) {
        let mut methods = self.lock();
        if !methods.contains_key(method) {
            methods.insert(method.to_owned(), Vec::new());
        }
        let Some(outcomes) = methods.get_mut(method) else { return };
        match outcomes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, histogram)) => histogram.note(elapsed),
            None => {
                let mut histogram = Histogram::default();
                histogram.note(elapsed);
                outcomes.push((code, histogram));
            }
        }
    }

    /// The quantiles of each method that was called.
    pub(crate) fn quantiles(&self) -> BTreeMap<String, Quantiles> {
        let quantiles = |outcomes: &Vec<(Code, Histogram)>| {
            let mut all = Histogram::default();
            outcomes.iter().for_each(|(_, histogram)| all.add(histogram));
            all.quantiles()
        };
        let methods = self.lock();
        methods.iter().map(|(name, outcomes)| (name.clone(), quantiles(outcomes))).collect()
    }

    /// All histograms.
    pub(crate) fn histograms(&self) -> Vec<(Call, Histogram)> {
        let methods = self.lock();
        let all = methods.iter().flat_map(|(method, outcomes)| {
            outcomes.iter().map(|(code, histogram)| {
                (Call { method: method.clone(), code: *code }, histogram.clone())
            })
        });
        all.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<(Code, Histogram)>>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histogram {
    /// All times together.
    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }

    /// Upper bounds with how often it took less; none is the bound of all.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut seen = 0;
        self.buckets.iter().enumerate().map(move |(bucket, count)| {
            seen += count;
            let bound = (bucket < BUCKETS - 1).then(|| Duration::from_micros(1 << bucket));
            (bound, seen)
        })
    }

    fn note(&mut self, elapsed: Duration) {
        let microseconds = elapsed.as_micros();
        let bucket = (0..BUCKETS - 1).find(|bucket| microseconds < 1 << bucket);
        self.buckets[bucket.unwrap_or(BUCKETS - 1)] += 1;
        self.sum += elapsed;
    }

    fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        for (own, more) in self.buckets.iter_mut().zip(other.buckets) {
            *own += more;
        }
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
            latencies.note("Version", Code::Ok, Duration::from_micros(100));
        }
        latencies.note("Version", Code::NotFound, Duration::from_secs(1));
        let expected =
            Quantiles { count: 100, half_within: 128, most_within: 128, all_within: 1 << 20 };
        assert_eq!(latencies.quantiles()["Version"], expected);
        latencies.note("Slow", Code::Ok, Duration::from_secs(10_000));
        assert_eq!(latencies.quantiles()["Slow"].all_within, 1 << (BUCKETS - 1));
        let all = latencies.histograms();
        let (call, histogram) = &all[2];
        assert_eq!(*call, Call { method: "Version".to_owned(), code: Code::NotFound });
        assert_eq!(histogram.sum(), Duration::from_secs(1));
        assert_eq!(histogram.cumulative().last(), Some((None, 1)));
    }
}
