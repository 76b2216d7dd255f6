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
pub mod budget;
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
mod passing;
mod refusal;
mod scale;
pub mod shared;
mod signal;
pub mod sys;

use std::sync::Arc;

pub use keeper::{BRAKE_GRACE, HANG_AFTER, HELD_LIMIT, LOOK_EVERY};

use super::demands::Post;
use super::supervise::Pacing;
use super::{EventSender, SourceHandle, encode};
use crate::config::{self, Camera};
use crate::media::CameraId;
use capture::EncoderOpener;
use device::{Kernel, Opener};
use keeper::{Keeper, Left, Limits};

/// Starts the source of a camera of this machine: a task of its own, which owns the camera's
/// threads.
pub(super) fn start(
    id: CameraId,
    camera: &Camera,
    wish: &config::V4l2,
    events: EventSender,
) -> SourceHandle {
    start_from((id, camera, wish), events, Arc::new(Kernel::default()))
}

/// Starts the source of a camera that `opener` opens: of a device that is none of the kernel's
/// (benchmarks play pictures through it), with everything behind the device as it is.
///
/// Expects to be called from within a tokio runtime with time enabled.
pub fn start_from(
    (id, camera, wish): (CameraId, &Camera, &config::V4l2),
    events: EventSender,
    opener: Arc<dyn Opener>,
) -> SourceHandle {
    let (encoder, limits) = (Arc::new(encode::open), Limits::default());
    start_with((id, camera, wish), events, opener, encoder, limits)
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
        camera: camera.clone(),
        wish: wish.clone(),
        post: Post { id, events },
        demands,
        opener,
        encoder,
        pacing: Pacing::new(),
        limits,
        left: Left::default(),
    };
    tokio::spawn(keeper.run());
    handle
}

#[cfg(test)]
mod tests;
