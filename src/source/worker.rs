//! The thread of a source that is no task: hears demands, tells what happens, runs again and again.
//!
//! In: demands; a run. Out: source events; back-off between runs.
//! Not here: what a run does (pattern, file).
//!
//! What changes state (opening, playing, down, closed) waits for a place in the channel and always
//! arrives; the loop comes back to it, or drops its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Permit, Sender, UnboundedReceiver};
use tracing::{debug, error};

use super::head_of;
use super::inbox::{Heard, Inbox};
use crate::media::{CameraId, Demand, DownReason, SourceEvent};

/// One source's side of the channels, on its own thread.
pub(super) struct Worker {
    pub(super) id: CameraId,
    pub(super) name: String,
    events: Sender<(CameraId, SourceEvent)>,
    inbox: Inbox,
    pub(super) orders: Orders,
}

/// What the loop wants, as far as it was heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    pub(super) is_open: bool,
    pub(super) key_frame: bool,
    pub(super) bitrate: Option<u32>,
}

/// The process has no more use for this source.
#[derive(Debug)]
pub(super) struct Gone;

/// Why a run ended, other than by [`Gone`].
#[derive(Debug)]
pub(super) enum End {
    Closed,
    Failed { reason: DownReason, detail: String },
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listened {
    Due,
    Opened,
    Closed,
}

/// Starts a thread that waits for [`Demand::Open`], then runs until it is told to close, and so
/// on. It ends when the other end of `demands` is dropped or nobody listens to `events`.
pub(super) fn start(
    kind: &str,
    id: CameraId,
    name: &str,
    events: Sender<(CameraId, SourceEvent)>,
    demands: UnboundedReceiver<Demand>,
    mut run: impl FnMut(&mut Worker) -> Result<End, Gone> + Send + 'static,
) {
    let source = name.to_owned();
    let failed = events.clone();
    let spawned = thread::Builder::new()
        .name(format!("{kind} {name}")) // Linux shows the first 15 bytes
        .spawn(move || {
            let mut worker = Worker::new(id, source, events, demands);
            let Err(Gone) = worker.live(&mut run);
        });
    if let Err(cause) = spawned {
        error!(camera = name, kind, %cause, "no thread for the source");
        let down = SourceEvent::Down {
            reason: DownReason::Internal,
            detail: format!("no thread: {cause}"),
            retry_at: None,
        };
        let _ = failed.try_send((id, down)); // at start, when the channel is empty
    }
}

impl Worker {
    pub(super) fn new(
        id: CameraId,
        name: String,
        events: Sender<(CameraId, SourceEvent)>,
        demands: UnboundedReceiver<Demand>,
    ) -> Self {
        Self {
            id,
            name,
            events,
            inbox: Inbox::new(demands),
            orders: Orders::default(),
        }
    }

    /// Run after run, until nobody wants them.
    fn live(
        &mut self,
        run: &mut impl FnMut(&mut Self) -> Result<End, Gone>,
    ) -> Result<std::convert::Infallible, Gone> {
        let mut delay = RETRY_MIN;
        loop {
            while !self.orders.is_open {
                self.listen(None)?;
            }
            let begun = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| run(self))).unwrap_or_else(|panic| {
                Ok(End::Failed {
                    reason: DownReason::Internal,
                    detail: format!("panic: {}", head_of(panic.as_ref())),
                })
            })?;
            match end {
                End::Closed => {
                    delay = RETRY_MIN;
                    self.tell(SourceEvent::Closed)?;
                }
                End::Failed { reason, detail } => {
                    if begun.elapsed() >= GOOD_RUN {
                        delay = RETRY_MIN;
                    }
                    self.fail(reason, detail, delay)?;
                    delay = match self.orders.is_open {
                        true => (delay * 2).min(RETRY_MAX),
                        false => RETRY_MIN, // closed meanwhile: nobody was kept waiting
                    };
                }
            }
        }
    }

    /// Says that the run is over, and waits for the time of the next.
    fn fail(&mut self, reason: DownReason, detail: String, delay: Duration) -> Result<(), Gone> {
        // The gateway tells the operator, once for a state that lasts.
        debug!(camera = self.name, reason = reason.as_str(), detail, retry = ?delay, "down");
        let retry_at = Instant::now() + delay;
        self.tell(SourceEvent::Down {
            reason,
            detail,
            retry_at: Some(retry_at),
        })?;
        while Instant::now() < retry_at {
            if self.listen(Some(retry_at))? == Listened::Closed {
                return self.tell(SourceEvent::Closed);
            }
        }
        Ok(())
    }

    /// Follows demands until `deadline`, or until one closes the camera.
    pub(super) fn listen(&mut self, deadline: Option<Instant>) -> Result<Listened, Gone> {
        loop {
            match self.inbox.hear(deadline) {
                Heard::Due => return Ok(Listened::Due),
                Heard::Gone => return Err(Gone),
                Heard::Demand(Demand::KeyFrame) => self.orders.key_frame = true,
                Heard::Demand(Demand::Bitrate(bps)) => self.orders.bitrate = Some(bps),
                Heard::Demand(Demand::Open) if self.orders.is_open => {}
                Heard::Demand(Demand::Open) => {
                    self.orders.is_open = true;
                    return Ok(Listened::Opened);
                }
                Heard::Demand(Demand::Close) => {
                    self.orders.is_open = false;
                    return Ok(Listened::Closed);
                }
            }
        }
    }

    /// Hands over what must arrive. Waits while the channel is full: the loop will come back to
    /// it, or drop its end.
    pub(super) fn tell(&self, event: SourceEvent) -> Result<(), Gone> {
        let mut waiting = (self.id, event);
        loop {
            match self.events.try_send(waiting) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Gone),
                Err(TrySendError::Full(_)) if self.inbox.is_gone() => return Err(Gone),
                Err(TrySendError::Full(back)) => waiting = back,
            }
            thread::sleep(FULL_WAIT);
        }
    }

    /// A place for one event, if there is one now.
    pub(super) fn place(&self) -> Result<Option<Permit<'_, (CameraId, SourceEvent)>>, Gone> {
        match self.events.try_reserve() {
            Ok(place) => Ok(Some(place)),
            Err(TrySendError::Full(())) => Ok(None),
            Err(TrySendError::Closed(())) => Err(Gone),
        }
    }
}

/// Before the second attempt; doubled from one failure to the next.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Nothing outside is involved that would need to be spared.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A run that lasted as long was good: the next failure is a first one.
const GOOD_RUN: Duration = Duration::from_secs(60);
/// Between two looks at a full channel.
const FULL_WAIT: Duration = Duration::from_millis(5);
