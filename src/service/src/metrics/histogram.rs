//! How often something took how long, in buckets whose bounds double.

use std::time::Duration;

/// A histogram. Bucket `n` counts what took less than `FIRST`·2ⁿ microseconds; the last one counts the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram<const FIRST: u64, const BUCKETS: usize> {
    sum: Duration,
    counts: [u64; BUCKETS],
}

impl<const FIRST: u64, const BUCKETS: usize> Default for Histogram<FIRST, BUCKETS> {
    fn default() -> Self {
        Self { sum: Duration::ZERO, counts: [0; BUCKETS] }
    }
}

impl<const FIRST: u64, const BUCKETS: usize> Histogram<FIRST, BUCKETS> {
    /// Notes that something took so long.
    pub fn note(&mut self, took: Duration) {
        self.sum += took;
        let last = BUCKETS - 1;
        let bucket = bounds::<FIRST>().take(last).position(|bound| took < bound);
        self.counts[bucket.unwrap_or(last)] += 1;
    }

    /// Notes all that another one noted.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        for (own, more) in self.counts.iter_mut().zip(other.counts) {
            *own += more;
        }
    }

    /// All times together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many times there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds with how often it took less; none is the bound of all.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut seen = 0;
        self.counts.into_iter().zip(bounds::<FIRST>()).enumerate().map(
            move |(bucket, (count, bound))| {
                seen += count;
                ((bucket + 1 < BUCKETS).then_some(bound), seen)
            },
        )
    }

    /// The bound that the shortest so many times are below. Of what is in the last bucket only its lower bound is known.
    #[must_use]
    pub fn within(&self, times: u64) -> Duration {
        let reached = self.cumulative().find(|(_, seen)| *seen >= times);
        let last = bounds::<FIRST>().take(BUCKETS - 1).last();
        reached.and_then(|(bound, _)| bound).or(last).unwrap_or_default()
    }
}

fn bounds<const FIRST: u64>() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(Duration::from_micros(FIRST)), |bound| bound.checked_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn microseconds(number: u64) -> Duration {
        Duration::from_micros(number)
    }

    #[test]
    fn bounds_double_and_the_last_bucket_takes_the_rest() {
        let mut histogram = Histogram::<100, 5>::default();
        for took in [50, 99, 100, 250, 1599, 3_600_000_000] {
            histogram.note(microseconds(took));
        }
        let expected = [(Some(100), 2), (Some(200), 3), (Some(400), 4), (Some(800), 4), (None, 6)];
        let expected = expected.map(|(bound, seen)| (bound.map(microseconds), seen));
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), expected);
        assert_eq!((histogram.count(), histogram.sum()), (6, microseconds(3_600_002_098)));
    }

    #[test]
    fn quantiles_are_upper_bounds_but_for_the_last() {
        let mut histogram = Histogram::<1, 5>::default();
        (0..9).for_each(|_| histogram.note(microseconds(3)));
        assert_eq!((histogram.within(1), histogram.within(9)), (microseconds(4), microseconds(4)));
        let mut more = Histogram::default();
        more.note(microseconds(1000));
        more.add(&histogram);
        assert_eq!((more.within(9), more.within(10)), (microseconds(4), microseconds(8)));
        assert_eq!(more.count(), 10);
        assert_eq!(Histogram::<1, 5>::default().within(0), microseconds(1));
    }
}
