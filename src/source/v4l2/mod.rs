//! Cameras of this machine: V4L2 devices.
//!
//! In: a device by its stable name, a wished mode, controls, demands. Out: source events.
//! Not here: pixels (decode), coding (encode), who watches (gateway).
//!
//! ```text
//!  loop's runtime            the camera's thread, one per run
//!  keeper ── orders ──►  capture: wait, take, decode, encode, hand on ──► events
//!     ▲ why it ended, pulse       │ device (v4l, sys) │ clock, mode, control: pure
//! ```

pub mod abandoned;
mod capture;
mod clock;
mod coded;
mod coder;
pub mod control;
pub mod device;
mod keeper;
pub mod list;
pub mod mode;
pub mod names;
mod scale;
pub mod shared;
mod signal;
pub mod sys;

use std::sync::Arc;

pub use keeper::{BRAKE_GRACE, HANG_AFTER, LOOK_EVERY};

use super::supervise::Pacing;
use super::{EventSender, SourceHandle, encode};
use crate::config::{self, Camera};
use crate::media::CameraId;
use capture::EncoderOpener;
use device::{Kernel, Opener};
use keeper::{Keeper, Limits};

/// Starts the source of a camera of this machine: a task of its own, which owns the camera's
/// threads.
pub(super) fn start(
    id: CameraId,
    camera: &Camera,
    wish: &config::V4l2,
    events: EventSender,
) -> SourceHandle {
    let opener = Arc::new(Kernel::default());
    let encoder = Arc::new(encode::open);
    start_with(
        (id, camera, wish),
        events,
        opener,
        encoder,
        Limits::default(),
    )
}

fn start_with(
    (id, camera, wish): (CameraId, &Camera, &config::V4l2),
    events: EventSender,
    opener: Arc<dyn Opener>,
    encoder: Arc<EncoderOpener>,
    limits: Limits,
) -> SourceHandle {
    let (handle, demands) = SourceHandle::new();
    let keeper = Keeper {
        id,
        camera: camera.clone(),
        wish: wish.clone(),
        events,
        demands,
        opener,
        encoder,
        pacing: Pacing::new(),
        bitrate: None,
        limits,
    };
    tokio::spawn(keeper.run());
    handle
}

#[cfg(test)]
mod tests;
