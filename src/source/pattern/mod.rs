//! A camera without a camera: a moving test picture through the real encoder.
//!
//! In: size, rate and name; demands. Out: source events, like any camera's.
//! Not here: the drawing (picture), the coding (encode), who watches (hub).
//!
//! Everything happens on one thread of its own, which never waits for the loop with a picture in
//! its hands: a place in the channel is reserved *before* a picture is coded. No place, no
//! picture; so nothing coded is ever lost, no reference breaks, and a loop that has fallen behind
//! costs no needless key frame. What changes state (opening, playing, down, closed) waits for a
//! place and always arrives.
//!
//! The picture carries numbers that programs can read: [`marks`].

mod font;
mod inbox;
pub mod marks;
mod pace;
mod picture;
mod run;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tracing::{error, warn};

pub use picture::{Moment, Painter};

use crate::config::{EncoderChoice, Pattern};
use crate::media::{CameraId, Demand, DownReason, SourceEvent};
use crate::source::encode::{self, EncodeError, Encoder, Settings};
use inbox::{Heard, Inbox};

/// Starts the thread of one test picture. It waits for [`Demand::Open`], and ends when the other
/// end of `demands` is dropped or nobody listens to `events` any more.
pub fn start(
    id: CameraId,
    name: &str,
    pattern: Pattern,
    events: Sender<(CameraId, SourceEvent)>,
    demands: UnboundedReceiver<Demand>,
) {
    // Always by software: it stands for itself where nothing else can be had.
    let opener = |settings: &Settings| encode::open(settings, EncoderChoice::Software);
    start_with(id, name, pattern, events, demands, Box::new(opener));
}

/// How a run gets its encoder.
type Opener = Box<dyn Fn(&Settings) -> Result<Box<dyn Encoder>, EncodeError> + Send>;

fn start_with(
    id: CameraId,
    name: &str,
    pattern: Pattern,
    events: Sender<(CameraId, SourceEvent)>,
    demands: UnboundedReceiver<Demand>,
    opener: Opener,
) {
    let source = name.to_owned();
    let failed = events.clone();
    let spawned = thread::Builder::new()
        .name(format!("pattern {name}")) // Linux shows the first 15 bytes
        .spawn(move || {
            let mut worker = Worker {
                id,
                name: source,
                pattern,
                events,
                inbox: Inbox::new(demands),
                opener,
                orders: Orders::default(),
            };
            let Err(Gone) = worker.live();
        });
    if let Err(cause) = spawned {
        error!(camera = name, %cause, "no thread for the test picture");
        let down = SourceEvent::Down {
            reason: DownReason::Internal,
            detail: format!("no thread: {cause}"),
            retry_at: None,
        };
        let _ = failed.try_send((id, down)); // at start, when the channel is empty
    }
}

struct Worker {
    id: CameraId,
    name: String,
    pattern: Pattern,
    events: Sender<(CameraId, SourceEvent)>,
    inbox: Inbox,
    opener: Opener,
    orders: Orders,
}

/// What the loop wants, as far as it was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    is_open: bool,
    key_frame: bool,
    bitrate: Option<u32>,
}

/// The process has no more use for this source.
#[derive(Debug)]
struct Gone;

/// Why a run ended, other than by [`Gone`].
#[derive(Debug)]
enum End {
    Closed,
    Failed { reason: DownReason, detail: String },
}

impl Worker {
    /// Run after run, until nobody wants them.
    fn live(&mut self) -> Result<std::convert::Infallible, Gone> {
        let mut delay = RETRY_MIN;
        loop {
            while !self.orders.is_open {
                self.listen(None)?;
            }
            let begun = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|panic| {
                Ok(End::Failed {
                    reason: DownReason::Internal,
                    detail: format!("panic: {}", message(panic.as_ref())),
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
        warn!(camera = self.name, reason = reason.as_str(), detail, retry = ?delay, "down");
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
    fn listen(&mut self, deadline: Option<Instant>) -> Result<Listened, Gone> {
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
    fn tell(&self, event: SourceEvent) -> Result<(), Gone> {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listened {
    Due,
    Opened,
    Closed,
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Before the second attempt; doubled from one failure to the next.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Nothing outside is involved that would need to be spared.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A run that lasted as long was good: the next failure is a first one.
const GOOD_RUN: Duration = Duration::from_secs(60);
/// Between two looks at a full channel.
const FULL_WAIT: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
