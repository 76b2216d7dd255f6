//! One viewer's datagrams on their way to the kernel, kept while it has no room for them.
//!
//! A board's send buffer holds some key frames, and a slow link empties it slowly: what does not
//! fit would be lost at each of them. So it waits here, and what comes after it waits in the
//! gateway, where each viewer has a pace and a bounded queue. The loop goes on meanwhile.
//!
//! Whether there is room again is found by trying, not by being told: the kernel would tell it
//! after every single datagram, all day long (see `net::udp`).

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::{Completed, Gateway};
use crate::net::udp::{Outgoing, Udp};
use crate::session::Datagram;

/// Time between two attempts: some 12 kB of a 100 Mbit/s link.
pub(super) const RETRY: Duration = Duration::from_millis(1);

/// When the kernel takes nothing for so long, the rest is lost: a link that stands still must not
/// hold up the viewers on others. More would be seen as a pause, and repairs come too late.
const MAX_HOLD: Duration = Duration::from_millis(20);

/// What is being sent: all for one viewer, so [`crate::session::MAX_OUTBOX`] bytes at most.
#[derive(Default)]
pub(super) struct Departure {
    batch: Vec<Outgoing<Vec<u8>>>,
    /// What [`crate::gateway::Output::Send`] says of it.
    completes: Option<Completed>,
    /// Since when the kernel has taken nothing of it.
    full_since: Option<Instant>,
}

/// What to do with a batch after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// All of it has left.
    Done,
    /// The send buffer has just become full, or is full again.
    Hold,
    /// It still is.
    Wait,
    /// It has been for too long.
    GiveUp,
}

impl Departure {
    /// Takes a viewer's datagrams; the last ones must have left.
    pub(super) fn begin(&mut self, outbox: &mut Vec<Datagram>, completes: Option<Completed>) {
        debug_assert!(self.batch.is_empty());
        self.completes = completes;
        self.batch.extend(outbox.drain(..).map(|datagram| Outgoing {
            from: datagram.from,
            to: datagram.to,
            bytes: datagram.bytes,
        }));
    }

    /// Something is still to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Sends what there is, as far as the kernel takes it; whether nothing is left.
    pub(super) fn send(&mut self, now: Instant, udp: &mut Udp, gateway: &mut Gateway) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let sent = udp.send(&self.batch);
        for lost in sent.lost {
            gateway.handle_refused(lost.to, lost.datagrams);
        }
        let taken = sent.taken;
        match self.after(now, taken) {
            Next::Done => {
                if let Some(completed) = self.completes.take() {
                    let sent = Instant::now().into_std();
                    gateway.handle_completed(sent, completed);
                }
            }
            Next::Hold => udp.count_held(self.batch.len()),
            Next::Wait => {}
            Next::GiveUp => {
                for lost in udp.give_up(&self.batch) {
                    gateway.handle_refused(lost.to, lost.datagrams);
                }
                self.batch.clear();
                self.completes = None;
            }
        }
        self.batch.is_empty()
    }

    /// So many of the batch are done with.
    fn after(&mut self, now: Instant, taken: usize) -> Next {
        self.batch.drain(..taken);
        if taken > 0 {
            self.full_since = None;
        }
        if self.batch.is_empty() {
            return Next::Done;
        }
        match self.full_since {
            None => {
                self.full_since = Some(now);
                Next::Hold
            }
            Some(since) if now < since + MAX_HOLD => Next::Wait,
            Some(_) => {
                self.full_since = None;
                Next::GiveUp
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn departure(datagrams: u8) -> Departure {
        let mut outbox = (0..datagrams)
            .map(|n| Datagram {
                from: ([10, 0, 0, 1], 1).into(),
                to: ([10, 0, 0, 2], 1).into(),
                bytes: vec![n],
            })
            .collect();
        let mut departure = Departure::default();
        departure.begin(&mut outbox, None);
        departure
    }

    fn waiting(departure: &Departure) -> Vec<u8> {
        departure.batch.iter().map(|d| d.bytes[0]).collect()
    }

    #[test]
    fn what_finds_no_room_waits_in_order_for_as_long_as_some_of_it_leaves() {
        let start = Instant::now();
        let mut departure = departure(6);
        assert_eq!(departure.after(start, 2), Next::Hold);
        assert_eq!(waiting(&departure), [2, 3, 4, 5]);
        assert_eq!(departure.after(start + MAX_HOLD - MS, 0), Next::Wait);
        assert_eq!(departure.after(start + MAX_HOLD, 1), Next::Hold);
        assert_eq!(departure.after(start + 2 * MAX_HOLD - MS, 0), Next::Wait);
        assert_eq!(departure.after(start + 2 * MAX_HOLD - MS, 3), Next::Done);
        assert!(!departure.is_waiting());
    }

    #[test]
    fn what_finds_no_room_for_too_long_is_given_up_and_the_next_may_wait_anew() {
        let start = Instant::now();
        let mut departure = departure(6);
        assert_eq!(departure.after(start, 0), Next::Hold);
        assert_eq!(departure.after(start + MAX_HOLD, 0), Next::GiveUp);
        assert_eq!(departure.after(start + MAX_HOLD, 0), Next::Hold);
    }
}
