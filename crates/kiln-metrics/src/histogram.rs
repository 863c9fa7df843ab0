//! How long things take: how many took at most as long as each of some bounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations in buckets.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, rising.
    bounds: &'static [Duration],
    /// A count for each bound, and one for what took longer than all of them.
    counts: Box<[AtomicU64]>,
    /// Microseconds, of all.
    sum: AtomicU64,
}

/// Durations that are rather milliseconds: requests, queries.
const SHORT: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// Durations that are rather minutes: builds.
const LONG: &[Duration] = &[
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

impl Histogram {
    /// One with bounds from a millisecond to ten seconds.
    #[must_use]
    pub fn of_short() -> Self {
        Self::new(SHORT)
    }

    /// One with bounds from a tenth of a second to a day.
    #[must_use]
    pub fn of_long() -> Self {
        Self::new(LONG)
    }

    fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts something that took so long.
    pub fn observe(&self, duration: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// How many took at most as long as each bound.
    pub(crate) fn cumulative(&self) -> Vec<(Duration, u64)> {
        let mut below = 0;
        let counts = self.bounds.iter().zip(&self.counts).map(|(bound, count)| {
            below += count.load(Ordering::Relaxed);
            (*bound, below)
        });
        counts.collect()
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::of_short();
        for milliseconds in [0, 1, 2, 60_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let counts: Vec<u64> = histogram.cumulative().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((histogram.count(), histogram.sum()), (4, Duration::from_millis(60_003)));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [SHORT, LONG] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
