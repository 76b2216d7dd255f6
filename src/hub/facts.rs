//! What is known of a running stream, for the API and for decisions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::frame::Frame;
use crate::media::h264::SpsFacts;

/// Rates are taken over this span.
const RATE_SPAN: Duration = Duration::from_secs(4);
/// Frames remembered for the rates; more than [`RATE_SPAN`] at 120 fps is of no use.
const MAX_REMEMBERED: usize = 480;

/// Facts about one stream. Rates are over the last four seconds.
#[derive(Debug, Default)]
pub struct StreamFacts {
    sps: Option<SpsFacts>,
    recent: VecDeque<(Instant, usize)>,
    last_frame: Option<Instant>,
    last_key_frame: Option<Instant>,
    key_frame_interval: Option<Duration>,
    has_b_frames: bool,
    frames: u64,
}

impl StreamFacts {
    /// Forgets what belongs to the last run; the size and profile are kept for the API.
    pub(super) fn restart(&mut self) {
        self.recent.clear();
        self.last_key_frame = None;
        self.key_frame_interval = None;
        self.has_b_frames = false;
    }

    pub(super) fn on_frame(&mut self, now: Instant, frame: &Frame, has_b_slice: bool) {
        self.frames += 1;
        self.has_b_frames |= has_b_slice;
        self.last_frame = Some(now);
        self.recent.push_back((now, frame.bytes));
        self.forget(now);
        if frame.is_key_frame {
            self.sps = Some(frame.sps);
            let last = self.last_key_frame.replace(frame.captured);
            self.key_frame_interval =
                last.map(|last| frame.captured.saturating_duration_since(last));
        }
    }

    /// The newest two are kept whatever their age: a picture a minute is a rate, too.
    fn forget(&mut self, now: Instant) {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) > RATE_SPAN;
        while self.recent.len() > MAX_REMEMBERED
            || self.recent.len() > 2 && self.recent.front().is_some_and(|(at, _)| is_old(at))
        {
            self.recent.pop_front();
        }
    }

    /// What the newest SPS says.
    pub fn sps(&self) -> Option<SpsFacts> {
        self.sps
    }

    /// When the last frame was handed on, in whatever run.
    pub fn last_frame(&self) -> Option<Instant> {
        self.last_frame
    }

    /// Between the last two key frames of this run.
    pub fn key_frame_interval(&self) -> Option<Duration> {
        self.key_frame_interval
    }

    /// A B slice was seen in this run.
    pub fn has_b_frames(&self) -> bool {
        self.has_b_frames
    }

    /// Frames handed on since start.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames per second.
    pub fn fps(&self, now: Instant) -> f64 {
        self.over_span(now, |recent| recent.len() as f64)
    }

    /// Bits per second, RTP headers not counted.
    pub fn bitrate(&self, now: Instant) -> u64 {
        self.over_span(now, |recent| {
            recent.iter().map(|(_, bytes)| *bytes as f64 * 8.0).sum()
        }) as u64
    }

    /// The first frame opens the span and is not counted into it. Zero once the stream has been
    /// silent for longer than two of its own intervals.
    fn over_span(&self, now: Instant, sum: impl Fn(&[(Instant, usize)]) -> f64) -> f64 {
        let recent: Vec<(Instant, usize)> = self.recent.iter().copied().collect();
        let [.., before, last] = recent.as_slice() else {
            return 0.0;
        };
        let allowed = RATE_SPAN.max(last.0.saturating_duration_since(before.0) * 2);
        let is_fresh = |(at, _): &&(Instant, usize)| now.saturating_duration_since(*at) <= allowed;
        let fresh: Vec<(Instant, usize)> = recent.iter().filter(is_fresh).copied().collect();
        let (Some(first), Some(last)) = (fresh.first(), fresh.last()) else {
            return 0.0;
        };
        let span = last.0.saturating_duration_since(first.0).as_secs_f64();
        if span == 0.0 {
            0.0
        } else {
            sum(&fresh[1..]) / span
        }
    }
}
