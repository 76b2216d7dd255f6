//! Spans of time, counted by their length: cheap enough to record every picture.
//!
//! In: durations. Out: counts per bucket, sum, longest.
//! Not here: how they are shown (daemon::metrics).

use std::time::Duration;

/// Upper bounds of the buckets, in microseconds, inclusive; one more bucket holds what is longer.
/// From a packetizer's work on one picture (10 us) to a join on a camera that has to wake up.
pub const BOUNDS_US: [u64; 18] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 2_000_000, 5_000_000,
];

/// A histogram with fixed buckets. Recording is a search in 18 numbers and three additions:
/// no allocation, no lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
    longest: Duration,
    /// Never reset: what the bucket without a bound is answered with.
    longest_ever: Duration,
}

impl Histogram {
    /// Counts one span.
    pub fn record(&mut self, span: Duration) {
        let micros = span.as_micros();
        let bucket = BOUNDS_US.partition_point(|&bound| u128::from(bound) < micros);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(span);
        self.longest = self.longest.max(span);
        self.longest_ever = self.longest_ever.max(span);
    }

    /// How many spans were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All spans together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest span since [`Self::take_longest`].
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The longest span since the last call, which a scrape reports: a spike of one turn would
    /// drown in the buckets.
    pub fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// Upper bound in seconds and count of each bucket, from the shortest; the last bound is
    /// `f64::MAX`. Counts are not cumulative.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS_US
            .iter()
            .map(|&micros| micros as f64 / 1e6)
            .chain([f64::MAX])
            .zip(self.counts)
    }

    /// The bound of the bucket that holds the given share (0 to 1) of all spans: an estimate
    /// from above. `None` while nothing was recorded; what is longer than every bound counts as
    /// the longest span ever.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0))
            .ceil()
            .max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let bound = BOUNDS_US.get(index).copied().map(Duration::from_micros);
                return Some(bound.unwrap_or(self.longest_ever));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_falls_under_the_bound_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        for micros in [0, 10, 11, 5_000_000, 5_000_001, u64::MAX] {
            histogram.record(Duration::from_micros(micros));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets[0], (0.000_01, 2));
        assert_eq!(buckets[1], (0.000_02, 1));
        assert_eq!(buckets[17], (5.0, 1));
        assert_eq!(buckets[18], (f64::MAX, 2));
        assert_eq!(histogram.count(), 6);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.sum(), Duration::MAX);
    }

    #[test]
    fn the_longest_span_is_told_once() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_millis(2));
        assert_eq!(histogram.take_longest(), Duration::from_millis(3));
        assert_eq!(histogram.take_longest(), Duration::ZERO);
    }

    #[test]
    fn quantiles_are_bounds_from_above() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for _ in 0..99 {
            histogram.record(Duration::from_micros(150));
        }
        histogram.record(Duration::from_secs(60));
        assert_eq!(histogram.quantile(0.0), Some(Duration::from_micros(200)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_micros(200)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_secs(60)));
        histogram.take_longest();
        let after = histogram.quantile(1.0);
        assert_eq!(
            after,
            Some(Duration::from_secs(60)),
            "a scrape takes nothing"
        );
    }
}
