//! The running group of pictures, kept for viewers that come in its middle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::frame::Frame;

/// A group older than this is not kept whole: nobody wants to watch that much catching up.
const MAX_AGE: Duration = Duration::from_secs(20);
/// What a replay must at least gain over waiting for the next key frame.
const MIN_GAIN: Duration = Duration::from_millis(200);

/// What a viewer gets in place of a fresh key frame.
#[derive(Clone, Debug)]
pub enum Replay {
    /// Nothing is kept, or a key frame is on its way.
    Nothing,
    /// The group of pictures so far; what follows is live.
    Gop(Vec<Arc<Frame>>),
    /// The key frame alone; what follows cannot be decoded until the next one.
    Still(Arc<Frame>),
}

#[derive(Debug)]
pub(super) struct GopCache {
    max_bytes: usize,
    /// Begins with a key frame, or is empty.
    frames: Vec<Arc<Frame>>,
    bytes: usize,
    /// Frames were left out: only the key frame is good for anything.
    is_cut: bool,
    /// Groups that were not kept whole, since start.
    cuts: u64,
}

impl GopCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            frames: Vec::new(),
            bytes: 0,
            is_cut: false,
            cuts: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.is_cut = false;
    }

    pub(super) fn push(&mut self, frame: &Arc<Frame>) {
        if frame.is_key_frame {
            self.clear();
            if frame.bytes <= self.max_bytes {
                self.keep(frame);
            } else {
                // Without a cache there is none to be cut.
                self.cuts += u64::from(self.max_bytes > 0);
            }
            return;
        }
        let Some(key_frame) = self.frames.first() else {
            return;
        };
        let age = frame.received.saturating_duration_since(key_frame.received);
        if self.is_cut || self.bytes + frame.bytes > self.max_bytes || age > MAX_AGE {
            self.cut();
        } else {
            self.keep(frame);
        }
    }

    fn keep(&mut self, frame: &Arc<Frame>) {
        self.bytes += frame.bytes;
        self.frames.push(Arc::clone(frame));
    }

    fn cut(&mut self) {
        self.cuts += u64::from(!self.is_cut);
        self.is_cut = true;
        self.frames.truncate(1);
        self.bytes = self.frames.first().map_or(0, |key_frame| key_frame.bytes);
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// The group, unless a link of `rate` bits per second would still carry it when the next key
    /// frame is there: then the key frame alone.
    pub(super) fn replay(&self, now: Instant, rate: u64, interval: Option<Duration>) -> Replay {
        let Some(key_frame) = self.frames.first() else {
            return Replay::Nothing;
        };
        let takes = Duration::from_secs_f64(self.bytes as f64 * 8.0 / rate.max(1) as f64);
        let is_futile = interval.is_some_and(|interval| {
            let next = key_frame.received + interval;
            let left = next.saturating_duration_since(now);
            takes > left.max(MIN_GAIN)
        });
        if self.is_cut || is_futile {
            Replay::Still(Arc::clone(key_frame))
        } else {
            Replay::Gop(self.frames.clone())
        }
    }
}
