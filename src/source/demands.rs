//! What the loop asks of a source that is a task, and what such a source says.
//!
//! In: demands. Out: when to open, what to do meanwhile, when to let go; events.
//! Not here: sources that are threads (worker), when to try again (supervise).

use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::EventSender;
use super::rtsp::verdict::End;
use crate::media::{CameraId, Demand, SourceEvent};

/// The source's end of a [`SourceHandle`](super::SourceHandle).
#[derive(Debug)]
pub struct Demands {
    /// Ends (`None`) when the handle was dropped.
    pub receiver: mpsc::UnboundedReceiver<Demand>,
    holding: watch::Sender<bool>,
    bitrate: Option<u32>,
}

/// What is asked of an opened camera that stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    KeyFrame,
    Bitrate(u32),
}

/// Why an opened camera is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// By a demand: it may be opened again.
    Close,
    /// The handle is gone: the source ends.
    Stop,
}

impl Demands {
    pub(super) fn new(
        receiver: mpsc::UnboundedReceiver<Demand>,
        holding: watch::Sender<bool>,
    ) -> Self {
        Self {
            receiver,
            holding,
            bitrate: None,
        }
    }

    /// Says whether the camera is held: true before it is opened, false after it was let go.
    pub fn set_holding(&self, holding: bool) {
        self.holding.send_replace(holding);
    }

    /// The bit rate that was asked for last, in bits per second.
    pub(super) fn bitrate(&self) -> Option<u32> {
        self.bitrate
    }

    /// Waits, with nothing open, until the camera shall be; false when the source ends.
    pub(super) async fn opened(&mut self, post: &Post) -> bool {
        loop {
            match self.receiver.recv().await {
                Some(Demand::Open) => {
                    self.set_holding(true);
                    return true;
                }
                // Whoever asked waits for the answer, also where nothing was open.
                Some(Demand::Close) => post.say(SourceEvent::Closed).await,
                Some(Demand::Bitrate(bps)) => self.bitrate = Some(bps),
                Some(Demand::KeyFrame) => {}
                None => return false,
            }
        }
    }

    /// The camera was let go.
    pub(super) async fn closed(&self, post: &Post) {
        self.set_holding(false);
        post.say(SourceEvent::Closed).await;
    }

    /// The next order for an opened camera, or that it is to be let go. May be dropped unfinished.
    pub(super) async fn next(&mut self) -> Result<Order, Asked> {
        loop {
            match self.receiver.recv().await {
                Some(Demand::Open) => {}
                Some(Demand::KeyFrame) => return Ok(Order::KeyFrame),
                Some(Demand::Bitrate(bps)) => {
                    self.bitrate = Some(bps);
                    return Ok(Order::Bitrate(bps));
                }
                Some(Demand::Close) => return Err(Asked::Close),
                None => return Err(Asked::Stop),
            }
        }
    }

    /// Resolves when the camera is to be let go; orders are for one that plays.
    pub(super) async fn asked(&mut self) -> Asked {
        loop {
            if let Err(asked) = self.next().await {
                return asked;
            }
        }
    }
}

/// Where a source says things.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) id: CameraId,
    pub(super) events: EventSender,
}

impl Post {
    /// States wait for room in the channel; they are never lost.
    pub(super) async fn say(&self, event: SourceEvent) {
        let _ = self.events.send((self.id, event)).await;
    }

    /// The run is over; the next begins at `until` at the latest.
    pub(super) async fn say_down(&self, end: &End, until: Instant) {
        self.say(SourceEvent::Down {
            reason: end.reason,
            detail: end.detail.clone(),
            retry_at: Some(until),
        })
        .await;
    }

    /// The loop is gone.
    pub(super) fn is_dead(&self) -> bool {
        self.events.is_closed()
    }
}
