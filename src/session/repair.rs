//! What may be sent again to one viewer, and whether it is beyond repair.
//!
//! In: packets that leave, first and again. Out: whether a repair may leave.
//! Not here: the packets themselves (str0m keeps them and answers NACKs by itself).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets kept for repair: more than a second at 8 Mbit/s, 200 ms of a replay at 50 Mbit/s. Most
/// of a viewer's memory: 420 bytes each, and str0m's buffer grows but never shrinks.
pub(super) const PACKETS: usize = 1024;
/// Older packets are useless to a viewer that shows pictures at once.
pub(super) const AGE: Duration = Duration::from_secs(2);
/// Bytes of repairs that may leave at once: 256 packets, an outage of 300 ms at 8 Mbit/s. They
/// are not paced, and a browser's socket drops hundreds of packets that come together.
const BURST: usize = 256 * 1200;
/// A packet this old, or with so many sent after it, is soon not there any more: who only now asks
/// for it misses older ones as well.
const NEARLY_AGE: Duration = Duration::from_millis(1500);
const NEARLY_PACKETS: u64 = PACKETS as u64 * 3 / 4;
/// A viewer beyond repair is told of once in this time: it repeats its NACKs.
const TELLING: Duration = Duration::from_millis(500);

/// What becomes of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    Leaves,
    /// It leaves, but is nearly too old to: the viewer misses older ones as well.
    IsLast,
    /// Too much was asked for: it is dropped.
    IsTooMuch,
}

/// Repairs may take as much as the pictures themselves, no more: one datagram of a viewer can ask
/// for 8,000 packets, and any number of datagrams for the same ones.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// Bytes that may be sent again; each picture adds its own.
    budget: usize,
    /// Pictures that can be repaired, at least in part, oldest first; at most [`PACKETS`].
    kept: VecDeque<Kept>,
    /// Packets that left for the first time, in all.
    sent: u64,
    /// There were older ones.
    has_forgotten: bool,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    rtp_time: u32,
    /// What `sent` was after its last packet.
    sent: u64,
    /// When its first packet left.
    left: Instant,
}

impl Repairs {
    /// A packet leaves for the first time.
    pub(super) fn on_first(&mut self, now: Instant, rtp_time: u32, bytes: usize) {
        self.budget = (self.budget + bytes).min(BURST);
        self.sent += 1;
        match self.kept.back_mut() {
            Some(newest) if newest.rtp_time == rtp_time => newest.sent = self.sent,
            _ => {
                self.kept.push_back(Kept {
                    rtp_time,
                    sent: self.sent,
                    left: now,
                });
                self.forget(now);
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.kept.front()
            && (self.sent - oldest.sent >= PACKETS as u64
                || now.saturating_duration_since(oldest.left) > AGE)
        {
            self.kept.pop_front();
            self.has_forgotten = true;
        }
    }

    /// A packet is about to leave again.
    pub(super) fn on_again(&mut self, now: Instant, rtp_time: u32, bytes: usize) -> Repair {
        if self.budget < bytes {
            self.kept.clear();
            self.has_forgotten = true;
            return Repair::IsTooMuch;
        }
        self.budget -= bytes;
        if self.has_forgotten && self.is_nearly_gone(now, rtp_time) && self.may_tell(now) {
            return Repair::IsLast;
        }
        Repair::Leaves
    }

    /// str0m still has what we have forgotten, where the two of us differ by a picture.
    fn is_nearly_gone(&self, now: Instant, rtp_time: u32) -> bool {
        // The newest of that time: a replayed picture left more than once.
        let kept = self.kept.iter().rfind(|kept| kept.rtp_time == rtp_time);
        kept.is_none_or(|kept| {
            let age = now.saturating_duration_since(kept.left);
            age >= NEARLY_AGE || self.sent - kept.sent >= NEARLY_PACKETS
        })
    }

    fn may_tell(&mut self, now: Instant) -> bool {
        let is_told = |at: Instant| now.saturating_duration_since(at) < TELLING;
        if self.told.is_some_and(is_told) {
            return false;
        }
        self.told = Some(now);
        true
    }
}

#[cfg(test)]
mod tests;
