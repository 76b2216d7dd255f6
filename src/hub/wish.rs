//! Merges everybody's wish for a key frame into few requests: spaced, one outstanding, repeated
//! with back-off until a key frame really comes.

use std::time::{Duration, Instant};

use super::KEY_FRAME_SPACING;

/// The first repeat of an unanswered request, doubled up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(super) struct KeyFrameWish {
    last_key_frame: Option<Instant>,
    /// When the next request goes out, while one is wanted.
    due: Option<Instant>,
    retry: Option<Duration>,
}

impl KeyFrameWish {
    /// Somebody wants a key frame.
    pub(super) fn want(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some(self.free_at().map_or(now, |free| free.max(now)));
        }
    }

    /// The spacing would hold a request back now.
    pub(super) fn is_too_soon(&self, now: Instant) -> bool {
        self.free_at().is_some_and(|free| free > now)
    }

    /// True once for each request that shall go out.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let retry = self.retry.unwrap_or(FIRST_RETRY);
        self.due = Some(now + retry);
        self.retry = Some((retry * 2).min(LAST_RETRY));
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// A key frame came: every wish so far is fulfilled.
    pub(super) fn on_key_frame(&mut self, now: Instant) {
        self.clear();
        self.last_key_frame = Some(now);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn free_at(&self) -> Option<Instant> {
        self.last_key_frame.map(|at| at + KEY_FRAME_SPACING)
    }
}
