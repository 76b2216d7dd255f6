//! Where pictures come from: each camera has one running source, a task or thread of its own.
//!
//! In: a checked camera, demands. Out: [`SourceEvent`]s over a bounded channel.
//! Not here: who watches (gateway), fan-out (hub).

pub mod backoff;
pub mod decode;
pub mod encode;
pub mod file;
mod inbox;
pub mod pattern;
pub mod rtsp;
pub mod supervise;
pub mod tolerance;
pub mod v4l2;
mod worker;

use tokio::sync::{mpsc, watch};

use crate::config::{Camera, Source};
use crate::media::{CameraId, Demand, SourceEvent};

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
        let source = Demands {
            receiver,
            holding: sender,
        };
        (Self { demands, holding }, source)
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

/// The source's end of a [`SourceHandle`].
#[derive(Debug)]
pub struct Demands {
    /// Ends (`None`) when the handle was dropped.
    pub receiver: mpsc::UnboundedReceiver<Demand>,
    holding: watch::Sender<bool>,
}

impl Demands {
    /// Says whether the camera is held: true before it is opened, false after it was let go.
    pub fn set_holding(&self, holding: bool) {
        self.holding.send_replace(holding);
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::SourceHandle;

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
}
