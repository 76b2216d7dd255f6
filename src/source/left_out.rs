//! The pictures that a source leaves out: counted, and told once in a while.
//!
//! In: what is left out, the time. Out: what is to be told.
//! Not here: why (the sources), what the operator sees (gateway).

use std::time::{Duration, Instant};

use crate::media::LeftOut;

/// Of one run.
#[derive(Debug)]
pub(super) struct Tally {
    /// Since the run began.
    pub(super) all: LeftOut,
    told: LeftOut,
    told_at: Instant,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: LeftOut::default(),
            told: LeftOut::default(),
            told_at: now,
        }
    }

    /// What was left out since the last time, if anything was; once in [`TELL_EVERY`] at most.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<LeftOut> {
        let is_due = now.saturating_duration_since(self.told_at) >= TELL_EVERY;
        is_due.then(|| self.take(now)).flatten()
    }

    /// The same, at once: the run ends.
    pub(super) fn take(&mut self, now: Instant) -> Option<LeftOut> {
        let told = std::mem::replace(&mut self.told, self.all);
        (self.all != told).then(|| {
            self.told_at = now;
            self.all.since(told)
        })
    }
}

const TELL_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_once_and_once_a_second_at_most() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tally = Tally::new(start);
        tally.all.late = 3;
        assert_eq!(tally.take_due(at(999)), None, "too soon");
        let three = LeftOut {
            late: 3,
            ..LeftOut::default()
        };
        assert_eq!(tally.take_due(at(1000)), Some(three));
        assert_eq!(tally.take_due(at(5000)), None, "nothing new");
        tally.all.lost = 2;
        let two = LeftOut {
            lost: 2,
            ..LeftOut::default()
        };
        assert_eq!(tally.take_due(at(5001)), Some(two));
        tally.all.lost = 3;
        assert_eq!(tally.take_due(at(5500)), None, "too soon again");
        let last = tally.take(at(5500));
        assert_eq!(last.map(|left| left.lost), Some(1), "at the end");
    }
}
