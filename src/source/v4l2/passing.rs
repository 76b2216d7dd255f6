//! Coded pictures of a camera on their way out: from a key frame on, and after a loss not before
//! the next one, which is asked for until it comes.
//!
//! In: buffers, losses, the time. Out: units; when to ask the camera for a key frame, and when it
//! has been asked for long enough.
//! Not here: the asking (capture), what a buffer holds (coded).
//!
//! What is held back here the hub never sees, so nobody else would ask again.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

use super::capture::Fault;
use super::coded::{Coded, Held};
use crate::media::{AccessUnit, Codec, ErrorKind, Stages};

/// The coded pictures of one run.
#[derive(Debug)]
pub(super) struct Passing {
    coded: Coded,
    /// Nothing is handed on meanwhile.
    waiting: Option<Waiting>,
}

/// For a key frame.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    ask_at: Instant,
    /// From that request to the next.
    retry: Duration,
}

impl Passing {
    /// A stream begins with a key frame; one that does not is asked for it after a moment.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            coded: Coded::default(),
            waiting: Some(Waiting {
                since: now,
                ask_at: now + FIRST_RETRY,
                retry: FIRST_RETRY,
            }),
        }
    }

    /// Something is missing that what follows refers to.
    pub(super) fn on_loss(&mut self, now: Instant) {
        self.waiting = Some(match self.waiting {
            None => Waiting {
                since: now,
                ask_at: now,
                retry: FIRST_RETRY,
            },
            // It may have been the very key frame that was asked for.
            Some(waiting) => Waiting {
                ask_at: waiting.ask_at.min(now + FIRST_RETRY),
                retry: FIRST_RETRY,
                ..waiting
            },
        });
    }

    /// True once for each request that shall go out.
    pub(super) fn poll_request(&mut self, now: Instant) -> bool {
        let Some(waiting) = self.waiting.as_mut().filter(|one| one.ask_at <= now) else {
            return false;
        };
        waiting.ask_at = now + waiting.retry;
        waiting.retry = (waiting.retry * 2).min(LAST_RETRY);
        true
    }

    /// How long a key frame has been waited for.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.waiting.map_or(Duration::ZERO, |waiting| {
            now.saturating_duration_since(waiting.since)
        })
    }

    /// What a buffer gives to hand on; `None` for one that is held back or has no picture.
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
        if self.waiting.is_some() && !is_key_frame {
            return Ok(None);
        }
        self.waiting = None;
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

/// Until the first repeat of a request, doubled up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[
        0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 4,
    ];
    const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 5];

    /// The times of all requests up to `until`, in ms.
    fn requests(passing: &mut Passing, start: Instant, until: u64) -> Vec<u64> {
        let at = |ms| start + Duration::from_millis(ms);
        (0..until)
            .step_by(10)
            .filter(|ms| passing.poll_request(at(*ms)))
            .collect()
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // any moment will do
    fn a_key_frame_is_asked_for_again_and_again_until_it_comes() {
        let start = Instant::now();
        let mut passing = Passing::new(start);
        let is_handed_on = |passing: &mut Passing, data: &[u8]| {
            let taken = passing.take(data, (0, start), start);
            taken.ok().flatten().is_some()
        };
        assert!(!is_handed_on(&mut passing, DELTA), "no key frame yet");
        assert!(is_handed_on(&mut passing, KEY));
        assert!(requests(&mut passing, start, 10_000).is_empty());
        assert!(is_handed_on(&mut passing, DELTA));
        passing.on_loss(start);
        assert!(!is_handed_on(&mut passing, DELTA));
        let asked = requests(&mut passing, start, 16_000);
        assert_eq!(asked, [0, 500, 1500, 3500, 7500, 11_500, 15_500]);
        assert_eq!(
            passing.waited(start + Duration::from_secs(16)),
            Duration::from_secs(16)
        );
        // It may have been lost: the next request comes soon again, the wait is the same one.
        passing.on_loss(start + Duration::from_secs(16));
        assert!(passing.poll_request(start + Duration::from_millis(16_500)));
        assert_eq!(
            passing.waited(start + Duration::from_secs(17)).as_secs(),
            17
        );
        assert!(is_handed_on(&mut passing, KEY));
        assert!(!passing.poll_request(start + Duration::from_secs(60)));
        assert_eq!(
            passing.waited(start + Duration::from_secs(60)),
            Duration::ZERO
        );
    }
}
