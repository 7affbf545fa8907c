//! How long each method takes: a histogram for each method and outcome, in memory.

use cringle_service::metrics;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tonic::Code;

/// From a microsecond to two minutes.
type Histogram = metrics::Histogram<1, 28>;

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
            quantiles(&all)
        };
        let methods = self.lock();
        methods.iter().map(|(name, outcomes)| (name.clone(), quantiles(outcomes))).collect()
    }

    /// All histograms.
    pub(crate) fn histograms(&self) -> Vec<(Call, Histogram)> {
        let methods = self.lock();
        let all = methods.iter().flat_map(|(method, outcomes)| {
            outcomes
                .iter()
                .map(|(code, histogram)| (Call { method: method.clone(), code: *code }, *histogram))
        });
        all.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<(Code, Histogram)>>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quantiles(histogram: &Histogram) -> Quantiles {
    let count = histogram.count();
    let within = |times| {
        let bound = histogram.within(times).as_micros();
        u64::try_from(bound).unwrap_or(u64::MAX)
    };
    Quantiles {
        count,
        half_within: within(count.div_ceil(2)),
        most_within: within(count - count / 100),
        all_within: within(count),
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
        assert_eq!(latencies.quantiles()["Slow"].all_within, 1 << 26);
        let all = latencies.histograms();
        let (call, histogram) = &all[2];
        assert_eq!(*call, Call { method: "Version".to_owned(), code: Code::NotFound });
        assert_eq!(histogram.sum(), Duration::from_secs(1));
        assert_eq!(histogram.cumulative().last(), Some((None, 1)));
    }
}
