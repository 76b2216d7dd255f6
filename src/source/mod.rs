//! Where pictures come from: each camera has one running source, a task or thread of its own.
//!
//! In: a checked camera, demands. Out: [`SourceEvent`]s over a bounded channel.
//! Not here: who watches (gateway), fan-out (hub).

pub mod backoff;
pub mod decode;
mod demands;
pub mod encode;
pub mod file;
mod inbox;
mod left_out;
pub mod pattern;
pub mod rtsp;
pub mod speed;
pub mod supervise;
pub mod tolerance;
pub mod v4l2;
mod worker;

use std::any::Any;

use tokio::sync::{mpsc, watch};

use crate::config::{Camera, Source};
use crate::media::{CameraId, Demand, SourceEvent};

pub use demands::Demands;

/// What the loop receives from all sources.
pub type Events = mpsc::Receiver<(CameraId, SourceEvent)>;

/// Where a source sends what it has to say.
pub type EventSender = mpsc::Sender<(CameraId, SourceEvent)>;

/// The loop's end of one source. Dropping it stops the source.
#[derive(Debug)]
pub struct SourceHandle {
    demands: mpsc::UnboundedSender<Demand>,
    holding: watch::Receiver<bool>,
}

impl SourceHandle {
    /// A handle and the end that the source keeps.
    pub fn new() -> (Self, Demands) {
        let (demands, receiver) = mpsc::unbounded_channel();
        let (sender, holding) = watch::channel(false);
        (Self { demands, holding }, Demands::new(receiver, sender))
    }

    /// Passes a demand on. A source that is gone takes none.
    pub fn demand(&self, demand: Demand) {
        let _ = self.demands.send(demand);
    }

    /// Waits until the source holds no camera: never opened, closed, or gone. Has no time-out of
    /// its own; an RTSP source needs at most [`rtsp::TEARDOWN_LIMIT`] after [`Demand::Close`].
    ///
    /// A source that has not yet read its [`Demand::Open`] counts as closed.
    pub async fn closed(&self) {
        let _ = self.holding.clone().wait_for(|holding| !holding).await;
    }
}

/// Starts the source of `camera`. It opens nothing before [`Demand::Open`].
///
/// Expects to be called from within a tokio runtime (time and IO enabled), the loop's own.
pub fn start(id: CameraId, camera: &Camera, events: EventSender) -> SourceHandle {
    match &camera.source {
        Source::Rtsp(_) => supervise::start(id, camera, events),
        Source::V4l2(wish) => v4l2::start(id, camera, wish, events),
        Source::File(file) => {
            let (handle, demands) = SourceHandle::new();
            file::start(id, &camera.name, file.clone(), events, demands.receiver);
            handle
        }
        Source::Pattern(picture) => {
            let (handle, demands) = SourceHandle::new();
            let what = (*picture, camera.max_errors);
            pattern::start(id, &camera.name, what, events, demands.receiver);
            handle
        }
    }
}

/// What a panic said: its head alone, before any data.
fn head_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let head = text.and_then(|text| text.split(':').next());
    head.unwrap_or("no message")
        .chars()
        .take(MAX_HEAD)
        .collect()
}

/// Characters of it.
const MAX_HEAD: usize = 80;

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::{MAX_HEAD, SourceHandle, head_of};

    fn is_closed(handle: &SourceHandle) -> bool {
        let mut waiting = Box::pin(handle.closed());
        matches!(
            waiting
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(())
        )
    }

    #[test]
    fn a_handle_waits_for_its_source_to_let_go() {
        let (handle, demands) = SourceHandle::new();
        assert!(is_closed(&handle));
        demands.set_holding(true);
        assert!(!is_closed(&handle));
        demands.set_holding(false);
        assert!(is_closed(&handle));
    }

    #[test]
    fn a_source_that_died_holds_nothing() {
        let (handle, demands) = SourceHandle::new();
        demands.set_holding(true);
        drop(demands);
        assert!(is_closed(&handle));
    }

    #[test]
    fn of_a_panic_its_head_is_told() {
        let told = |text: &str| head_of(&text.to_owned());
        assert_eq!(
            told("index out of bounds: the len is 3"),
            "index out of bounds"
        );
        assert_eq!(told(&"x".repeat(500)).len(), MAX_HEAD);
        assert_eq!(head_of(&"a word"), "a word");
        assert_eq!(head_of(&7), "no message");
    }
}
