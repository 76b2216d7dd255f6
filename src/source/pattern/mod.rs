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
pub mod marks;
mod pace;
mod picture;
mod run;

use tokio::sync::mpsc::{Sender, UnboundedReceiver};

pub use picture::{Moment, Painter};

use crate::config::{EncoderChoice, Pattern};
use crate::media::{CameraId, Demand, SourceEvent};
use crate::source::encode::{self, EncodeError, Encoder, Settings};
use crate::source::worker;
use run::Maker;

/// Starts the thread of one test picture. It waits for [`Demand::Open`], and ends when the other
/// end of `demands` is dropped or nobody listens to `events` any more. The `max_errors`-th error
/// in a row starts its encoder anew.
pub fn start(
    id: CameraId,
    name: &str,
    (pattern, max_errors): (Pattern, u32),
    events: Sender<(CameraId, SourceEvent)>,
    demands: UnboundedReceiver<Demand>,
) {
    // Always by software: it stands for itself where nothing else can be had.
    let opener = |settings: &Settings| encode::open(settings, EncoderChoice::Software);
    let opener = Box::new(opener);
    start_with(id, name, (pattern, max_errors), events, demands, opener);
}

/// How a run gets its encoder.
type Opener = Box<dyn Fn(&Settings) -> Result<Box<dyn Encoder>, EncodeError> + Send>;

fn start_with(
    id: CameraId,
    name: &str,
    (pattern, max_errors): (Pattern, u32),
    events: Sender<(CameraId, SourceEvent)>,
    demands: UnboundedReceiver<Demand>,
    opener: Opener,
) {
    worker::start("pattern", id, name, events, demands, move |worker| {
        let maker = Maker {
            pattern: &pattern,
            opener: &opener,
            max_errors,
        };
        run::run(worker, &maker)
    });
}

#[cfg(test)]
mod tests;
