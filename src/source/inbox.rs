//! Demands for a thread that also keeps time.
//!
//! In: the loop's unbounded channel. Out: one demand at a time, or the deadline.
//! Not here: what a demand means (run loop).
//!
//! Neither a blocking receive (no deadline) nor sleeping (deaf) will do, and a runtime's timer is
//! a millisecond coarse: the channel wakes this thread out of `park_timeout` instead.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::media::Demand;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Demand(Demand),
    /// The deadline has passed and no demand is waiting.
    Due,
    /// The other end is gone; nothing will come any more.
    Gone,
}

/// Belongs to the thread that made it.
pub(super) struct Inbox {
    demands: UnboundedReceiver<Demand>,
    waker: Waker,
}

impl Inbox {
    /// Call on the thread that will listen.
    pub(super) fn new(demands: UnboundedReceiver<Demand>) -> Self {
        Self {
            demands,
            waker: Waker::from(Arc::new(Unpark(thread::current()))),
        }
    }

    /// Waits for the next demand, or until `deadline`; without one, for as long as it takes.
    /// Demands come first: `Due` means that all of them were heard.
    pub(super) fn hear(&mut self, deadline: Option<Instant>) -> Heard {
        loop {
            let mut context = Context::from_waker(&self.waker);
            match self.demands.poll_recv(&mut context) {
                Poll::Ready(Some(demand)) => return Heard::Demand(demand),
                Poll::Ready(None) => return Heard::Gone,
                Poll::Pending => {}
            }
            let Some(deadline) = deadline else {
                thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Due;
            }
            thread::park_timeout(left);
        }
    }

    /// Whether the other end is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.demands.is_closed()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn demands_are_heard_in_order_before_a_deadline_that_has_passed() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inbox = Inbox::new(receiver);
        for demand in [Demand::Open, Demand::KeyFrame] {
            sender.send(demand).expect("open");
        }
        let past = Some(Instant::now());
        assert_eq!(inbox.hear(past), Heard::Demand(Demand::Open));
        assert_eq!(inbox.hear(past), Heard::Demand(Demand::KeyFrame));
        assert_eq!(inbox.hear(past), Heard::Due);
        drop(sender);
        assert_eq!(inbox.hear(None), Heard::Gone);
        assert!(inbox.is_gone());
    }

    #[test]
    fn a_demand_wakes_a_thread_that_waits_without_deadline() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let listener = thread::spawn(move || {
            let mut inbox = Inbox::new(receiver);
            let far = Instant::now() + Duration::from_secs(3600);
            (inbox.hear(None), inbox.hear(Some(far)))
        });
        sender.send(Demand::Open).expect("open");
        sender.send(Demand::Close).expect("open");
        let heard = listener.join().expect("no panic");
        let expected = [Demand::Open, Demand::Close].map(Heard::Demand);
        assert_eq!([heard.0, heard.1], expected);
    }
}
