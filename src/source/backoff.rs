//! How long to wait before the next attempt: exponential, bounded, with jitter, for ever.
//!
//! In: which attempt it is, a random number of the caller's. Out: a duration.
//! Not here: clocks, random numbers, what counts as a failure (supervise).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// Doubling waits from `first` to `max`.
///
/// Jitter only shortens a wait, by up to a quarter, so that `max` is a promise and cameras that
/// went away together are not all tried in the same instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

/// Why a [`Backoff`] cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackoffError {
    #[error("the first wait is zero")]
    Zero,
    #[error("the longest wait is shorter than the first")]
    MaxBelowFirst,
}

impl Backoff {
    /// Waits from `first` (not zero) doubling up to `max` (at least `first`).
    pub const fn new(first: Duration, max: Duration) -> Result<Self, BackoffError> {
        if first.is_zero() {
            return Err(BackoffError::Zero);
        }
        if max.as_nanos() < first.as_nanos() {
            return Err(BackoffError::MaxBelowFirst);
        }
        Ok(Self {
            first,
            max,
            next: first,
        })
    }

    /// The next wait. `jitter` is any number, evenly spread over all `u32`.
    pub fn next_wait(&mut self, jitter: u32) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.max);
        let cut = f64::from(jitter) / f64::from(u32::MAX) / 4.0;
        wait.mul_f64(1.0 - cut)
    }

    /// The next wait is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn waits_double_to_the_bound_and_stay_there_for_ever() {
        let mut backoff = Backoff::new(FIRST, MAX).unwrap();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next_wait(0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
        for _ in 0..10_000 {
            assert_eq!(backoff.next_wait(0), MAX);
        }
    }

    #[test]
    fn jitter_only_shortens_and_never_by_more_than_a_quarter() {
        for jitter in [0, 1, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            let wait = Backoff::new(FIRST, MAX).unwrap().next_wait(jitter);
            assert!(wait <= FIRST, "{wait:?}");
            assert!(wait >= FIRST * 3 / 4, "{wait:?}");
        }
    }

    #[test]
    fn a_reset_starts_again_from_the_first_wait() {
        let mut backoff = Backoff::new(FIRST, MAX).unwrap();
        backoff.next_wait(7);
        backoff.next_wait(7);
        backoff.reset();
        assert_eq!(backoff, Backoff::new(FIRST, MAX).unwrap());
    }

    #[test]
    fn waits_that_make_no_sense_are_refused() {
        assert_eq!(Backoff::new(Duration::ZERO, MAX), Err(BackoffError::Zero));
        assert_eq!(Backoff::new(MAX, FIRST), Err(BackoffError::MaxBelowFirst));
    }
}
