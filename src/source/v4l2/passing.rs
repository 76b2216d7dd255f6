//! Coded pictures of a camera on their way out.
//!
//! In: buffers, losses, the time. Out: units; how long a key frame has been needed.
//! Not here: what a buffer holds (coded); holding pictures back and asking the camera for a key
//! frame, which the hub does for every source.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

use super::capture::Fault;
use super::coded::{Coded, Held};
use crate::media::{AccessUnit, Codec, ErrorKind, Stages};

/// The coded pictures of one run.
#[derive(Debug)]
pub(super) struct Passing {
    coded: Coded,
    /// Nothing since then can be decoded.
    waiting_since: Option<Instant>,
}

impl Passing {
    /// A stream begins with a key frame.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            coded: Coded::default(),
            waiting_since: Some(now),
        }
    }

    /// Something is missing that what follows refers to.
    pub(super) fn on_loss(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// How long a key frame has been waited for.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.waiting_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// What a buffer gives to hand on; `None` for one without a picture.
    pub(super) fn take(
        &mut self,
        data: &[u8],
        (ticks, taken): (i64, Instant),
        now: Instant,
    ) -> Result<Option<AccessUnit>, Fault> {
        let (data, is_key_frame) = match self.coded.take(data) {
            Held::Picture { data, is_key_frame } => (data, is_key_frame),
            Held::NoPicture => return Ok(None),
            Held::NotDecodable => {
                let detail = "a key frame without parameter sets";
                return Err(Fault::new(ErrorKind::Picture, detail));
            }
            Held::Garbage => return Err(Fault::new(ErrorKind::Picture, "no H.264 in a buffer")),
        };
        if is_key_frame {
            self.waiting_since = None;
        }
        Ok(Some(AccessUnit {
            codec: Codec::H264,
            data,
            is_key_frame,
            ticks,
            received: taken,
            after_loss: false,
            stages: Stages {
                capture: now.saturating_duration_since(taken),
                ..Stages::default()
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[
        0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 4,
    ];
    const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 5];

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment will do
    fn a_key_frame_is_waited_for_since_the_first_loss_after_the_last_one() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut passing = Passing::new(start);
        let hand_on = |passing: &mut Passing, data: &[u8]| {
            let unit = passing.take(data, (0, start), start).ok().flatten();
            unit.unwrap().is_key_frame
        };
        assert!(!hand_on(&mut passing, DELTA), "the hub sees that it waits");
        assert_eq!(passing.waited(at(5)).as_secs(), 5);
        assert!(hand_on(&mut passing, KEY));
        assert_eq!(passing.waited(at(5)).as_secs(), 0);
        passing.on_loss(at(6));
        assert!(!hand_on(&mut passing, DELTA));
        passing.on_loss(at(8));
        assert_eq!(passing.waited(at(9)).as_secs(), 3);
        assert!(hand_on(&mut passing, KEY));
        assert_eq!(passing.waited(at(60)).as_secs(), 0);
    }
}
