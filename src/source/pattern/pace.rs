//! When pictures are due: absolute deadlines, so that nothing adds up.
//!
//! In: the time. Out: the next deadline, and which ones were missed.
//! Not here: waiting.

use std::time::{Duration, Instant};

/// The beat of one run.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    start: Instant,
    fps: u64,
    next: u64,
}

impl Pace {
    /// The first picture is due at `start`. `fps` is 1 at least.
    pub(super) fn new(start: Instant, fps: u32) -> Self {
        Self {
            start,
            fps: u64::from(fps.max(1)),
            next: 0,
        }
    }

    /// When the next picture is due.
    pub(super) fn due(&self) -> Instant {
        // A product beyond 64 bits would take 9 years at 60 fps.
        self.start + Duration::from_nanos(self.next.saturating_mul(NANOS) / self.fps)
    }

    /// Takes the beat that is current at `now`, and says how many were missed before it. They
    /// are left out: a picture drawn late would only be followed too closely by the next.
    pub(super) fn take(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        let current = elapsed * u128::from(self.fps) / u128::from(NANOS);
        let current = u64::try_from(current).unwrap_or(u64::MAX - 1);
        let missed = current.saturating_sub(self.next);
        self.next = self.next.max(current) + 1;
        missed
    }
}

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift_even_when_the_period_has_no_exact_length() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 30);
        for _ in 0..30 * 3600 {
            let late = pace.due() + Duration::from_millis(7);
            assert_eq!(pace.take(late), 0);
        }
        assert_eq!(pace.due(), start + Duration::from_secs(3600));
    }

    #[test]
    fn missed_beats_are_left_out_and_counted() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 10);
        assert_eq!(pace.take(start), 0);
        let late = start + Duration::from_millis(1234);
        assert_eq!(
            pace.take(late),
            11,
            "beats 1 to 11; beat 12 is the current one"
        );
        assert_eq!(pace.due(), start + Duration::from_millis(1300));
    }

    #[test]
    fn a_clock_that_lags_takes_the_beat_all_the_same() {
        let start = Instant::now() + Duration::from_secs(5);
        let mut pace = Pace::new(start, 25);
        assert_eq!(pace.take(start - Duration::from_secs(1)), 0);
        assert_eq!(pace.due(), start + Duration::from_millis(40));
    }
}
