//! Counting how long things take. Nothing here waits: every number is an atomic of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Upper bounds of the buckets, in seconds: fine at the lower end, where the gateway's own share shows.
const BOUNDS: [f64; 17] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Durations, by how long they were.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

/// What a [`Histogram`] holds.
pub(crate) struct Distribution {
    /// All durations together, in seconds.
    pub(crate) sum: f64,
    /// How many there are.
    pub(crate) count: u64,
    /// Each bucket's upper bound in seconds, and how many are in it and in none before.
    pub(crate) buckets: Vec<(f64, u64)>,
}

/// How often something was done, how often it failed, and how long it took.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    /// How often it succeeded.
    pub(crate) ok: AtomicU64,
    /// How often it failed.
    pub(crate) failed: AtomicU64,
    /// How long it took, failed or not.
    pub(crate) duration: Histogram,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(duration.as_micros().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn read(&self) -> Distribution {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> =
            bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(self.sum_us.load(Relaxed)).as_secs_f64();
        Distribution { sum, count, buckets }
    }
}

impl Operation {
    /// Whether it was ever done.
    pub(crate) fn happened(&self) -> bool {
        self.ok.load(Relaxed) > 0 || self.failed.load(Relaxed) > 0
    }

    /// Does `work`, and counts it. Work that is dropped half-way does not count.
    pub(crate) async fn measure<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        let result = work.await;
        self.duration.observe(began.elapsed());
        let count = if result.is_ok() { &self.ok } else { &self.failed };
        count.fetch_add(1, Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for us in [0, 500, 501, 5_000, 5_001, 300_000_000, 300_000_001, 1 << 50] {
            histogram.observe(Duration::from_micros(us));
        }
        let Distribution { count, buckets, .. } = histogram.read();
        assert_eq!(count, 8);
        assert_eq!(buckets.first(), Some(&(0.0005, 2)));
        assert_eq!(buckets.get(1), Some(&(0.001, 1)));
        assert_eq!(buckets.get(3), Some(&(0.005, 1)));
        assert_eq!(buckets.get(4), Some(&(0.01, 1)));
        assert_eq!(buckets.get(16), Some(&(300.0, 1)));
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 2)));
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let histogram = Histogram::default();
        for _ in 0..4 {
            histogram.observe(Duration::from_micros(250));
        }
        assert!((histogram.read().sum - 0.001).abs() < 1e-9);
    }
}
