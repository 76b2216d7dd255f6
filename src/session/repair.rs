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
/// A viewer beyond repair is told of once in this time: it repeats its NACKs.
const TELLING: Duration = Duration::from_millis(500);

/// What becomes of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    Leaves,
    /// It leaves, but it is among the oldest that are kept: the viewer misses older ones as well.
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
    /// Pictures that can be repaired, oldest first; at most [`PACKETS`].
    kept: VecDeque<Kept>,
    packets: usize,
    /// There were older ones.
    has_forgotten: bool,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    rtp_time: u32,
    packets: usize,
    left: Instant,
}

impl Repairs {
    /// A packet leaves for the first time.
    pub(super) fn on_first(&mut self, now: Instant, rtp_time: u32, bytes: usize) {
        self.budget = (self.budget + bytes).min(BURST);
        self.packets += 1;
        match self.kept.back_mut() {
            Some(newest) if newest.rtp_time == rtp_time => newest.packets += 1,
            _ => {
                self.kept.push_back(Kept {
                    rtp_time,
                    packets: 1,
                    left: now,
                });
                self.forget(now);
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.kept.front()
            && (self.packets > PACKETS || now.saturating_duration_since(oldest.left) > AGE)
        {
            self.packets -= oldest.packets;
            self.kept.pop_front();
            self.has_forgotten = true;
        }
    }

    /// A packet is about to leave again.
    pub(super) fn on_again(&mut self, now: Instant, rtp_time: u32, bytes: usize) -> Repair {
        if self.budget < bytes {
            self.kept.clear();
            self.packets = 0;
            self.has_forgotten = true;
            return Repair::IsTooMuch;
        }
        self.budget -= bytes;
        // Two: str0m and we may differ by a picture.
        let is_last = |k: &Kept| k.rtp_time == rtp_time;
        if self.has_forgotten && self.kept.iter().take(2).any(is_last) && self.may_tell(now) {
            return Repair::IsLast;
        }
        Repair::Leaves
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
mod tests {
    use super::*;

    const PACKET: usize = 1200;

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    /// Ten packets of each of so many pictures, 30 a second; gives the time of the last one.
    fn play(repairs: &mut Repairs, start: Instant, pictures: u32) -> Instant {
        let at = |n: u32| start + Duration::from_secs(1) * n / 30;
        for n in 0..pictures {
            (0..10).for_each(|_| repairs.on_first(at(n), n * 3000, PACKET));
        }
        at(pictures - 1)
    }

    #[test]
    fn repairs_take_no_more_than_the_pictures_did() {
        let mut repairs = Repairs::default();
        let now = play(&mut repairs, start(), 3);
        let ask = |repairs: &mut Repairs| repairs.on_again(now, 3000, PACKET);
        (0..30).for_each(|_| assert_eq!(ask(&mut repairs), Repair::Leaves));
        assert_eq!(ask(&mut repairs), Repair::IsTooMuch);
    }

    #[test]
    fn one_storm_of_nacks_gets_a_bounded_number_of_packets() {
        let mut repairs = Repairs::default();
        let now = play(&mut repairs, start(), 1000);
        let again = (0..8000).map(|_| repairs.on_again(now, 999 * 3000, PACKET));
        let left = again.filter(|r| *r == Repair::Leaves).count();
        assert_eq!(left, BURST / PACKET);
    }

    #[test]
    fn a_viewer_that_asks_for_the_oldest_is_beyond_repair_and_told_of_once() {
        let mut repairs = Repairs::default();
        let now = play(&mut repairs, start(), 100);
        assert_eq!(repairs.kept.len(), 61, "two seconds");
        let ask = |repairs: &mut Repairs, n: u32| repairs.on_again(now, n * 3000, PACKET);
        assert_eq!(ask(&mut repairs, 60), Repair::Leaves);
        assert_eq!(ask(&mut repairs, 39), Repair::IsLast);
        assert_eq!(ask(&mut repairs, 40), Repair::Leaves, "told already");
        let later = now + TELLING;
        assert_eq!(repairs.on_again(later, 39 * 3000, PACKET), Repair::IsLast);
    }

    #[test]
    fn nothing_is_missing_before_the_first_picture() {
        let mut repairs = Repairs::default();
        let now = play(&mut repairs, start(), 30);
        assert_eq!(repairs.on_again(now, 0, PACKET), Repair::Leaves);
    }

    #[test]
    fn what_is_kept_is_bounded_by_packets_too() {
        let (mut repairs, now) = (Repairs::default(), start());
        (0..100_000).for_each(|n| repairs.on_first(now, n, PACKET));
        assert_eq!(repairs.kept.len(), PACKETS);
    }
}
