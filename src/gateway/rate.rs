//! Bits per second over the last few seconds, out of a sum that grows.
//!
//! In: the sum, whenever its owner has a turn. Out: a rate.

use std::time::{Duration, Instant};

/// From one mark to the next: the rate is that of one to two of these.
const SPACING: Duration = Duration::from_secs(2);
/// A rate over less time says little.
const LEAST: Duration = Duration::from_secs(1);

/// Two marks of a sum of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    older: (Instant, u64),
    newer: (Instant, u64),
}

impl Rate {
    /// From nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            older: (now, 0),
            newer: (now, 0),
        }
    }

    /// Takes note of the sum; to be called often.
    pub(super) fn observe(&mut self, now: Instant, bytes: u64) {
        if now.saturating_duration_since(self.newer.0) >= SPACING {
            self.older = self.newer;
            self.newer = (now, bytes);
        }
    }

    /// Bits per second.
    pub(super) fn bits_per_second(&self, now: Instant, bytes: u64) -> u64 {
        // Where nobody has looked for long, the newer mark is old enough.
        let is_late = now.saturating_duration_since(self.newer.0) >= SPACING;
        let (at, before) = if is_late { self.newer } else { self.older };
        let span = now.saturating_duration_since(at).max(LEAST);
        let bits = bytes.saturating_sub(before) as f64 * 8.0;
        (bits / span.as_secs_f64()) as u64
    }
}

#[cfg(test)]
mod tests;
