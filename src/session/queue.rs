//! What waits for one viewer: whole frames, sent packet by packet at a bounded pace.
//!
//! In: frames. Out: the next packet that may leave now.
//! Not here: RTP numbering (session), when frames are skipped (session).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::frame::Frame;
use crate::media::h264::SpsFacts;
use crate::media::packetize::Payload;
use crate::media::time::MediaTime;

/// UDP, RTP, extensions and SRTP around one payload, in bytes, for the pace.
const OVERHEAD: usize = 60;
/// What may leave at once after a pause: one buffer of UDP GSO. Measured: a browser's socket
/// takes bursts of this size without loss, while hundreds of packets at once were dropped.
const BURST: f64 = 64.0 * 1200.0;
/// While a long queue drains, so much is gathered before the next turn: fewer, fuller turns.
const MIN_TURN: Duration = Duration::from_millis(1);

/// How long nothing is sent to a viewer after the kernel refused a datagram to it.
const PAUSE: Duration = Duration::from_millis(5);

/// Which pace packets wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The viewer's own.
    Own,
    /// That of all viewers together.
    Common,
}

/// A token bucket in bytes.
#[derive(Debug)]
pub struct Pacer {
    bytes_per_second: f64,
    burst: f64,
    /// Negative after a send that had to go (repairs).
    tokens: f64,
    filled: Instant,
}

impl Pacer {
    /// Lets `rate` bits per second pass, and [`BURST`] bytes at once.
    pub fn new(rate: u64, now: Instant) -> Self {
        Self::with_burst(rate, BURST, now)
    }

    /// Lets `rate` bits per second pass, and `burst` bytes at once.
    pub fn with_burst(rate: u64, burst: f64, now: Instant) -> Self {
        Self {
            bytes_per_second: rate as f64 / 8.0,
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Something may leave now.
    pub fn is_open(&mut self, now: Instant) -> bool {
        self.room(now) > 0.0
    }

    /// Bytes that may leave now; below zero while closed.
    pub fn room(&mut self, now: Instant) -> f64 {
        // Asked for every packet of a turn, which all leave at one moment.
        if now > self.filled {
            let passed = (now - self.filled).as_secs_f64();
            self.tokens = (self.tokens + passed * self.bytes_per_second).min(self.burst);
            self.filled = now;
        }
        self.tokens
    }

    /// So many bytes left. May go below zero, by one burst at most; never shortens a pause.
    pub fn spend(&mut self, bytes: usize) {
        let floor = self.tokens.min(-self.burst);
        self.tokens = (self.tokens - bytes as f64).max(floor);
    }

    /// Closes it for [`PAUSE`].
    pub fn pause(&mut self) {
        self.tokens = self
            .tokens
            .min(-self.bytes_per_second * PAUSE.as_secs_f64());
    }

    /// When it opens next, some packets wide.
    pub fn opens_at(&self) -> Instant {
        let missing = (-self.tokens).max(0.0) / self.bytes_per_second.max(1.0);
        self.filled + Duration::from_secs_f64(missing) + MIN_TURN
    }
}

/// The next packet of a queue, with what its frame says (copied: there are hundreds a second).
#[derive(Debug)]
pub struct NextPacket {
    pub payload: Payload,
    /// In its frame.
    pub index: usize,
    pub is_last: bool,
    pub is_key_frame: bool,
    pub time: MediaTime,
    pub captured: Instant,
    pub received: Instant,
    pub sps: SpsFacts,
}

/// Frames that wait for one viewer, oldest first.
#[derive(Debug, Default)]
pub struct SendQueue {
    frames: VecDeque<Arc<Frame>>,
    /// Payloads of the first frame that have left.
    sent: usize,
    bytes: usize,
}

impl SendQueue {
    /// Bytes that wait, as they will be on the wire.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame at the end.
    pub fn push(&mut self, frame: &Arc<Frame>) {
        self.bytes += cost(frame, 0);
        self.frames.push_back(Arc::clone(frame));
    }

    /// Leaves out every frame that has not begun; a frame in the middle of leaving is finished.
    pub fn skip(&mut self) {
        self.frames.truncate(usize::from(self.sent > 0));
        self.bytes = self.frames.front().map_or(0, |f| cost(f, self.sent));
    }

    /// Packets of a waiting key frame that have left; `None` if there is none.
    pub fn key_frame_sent(&self) -> Option<usize> {
        let at = self.frames.iter().position(|f| f.is_key_frame)?;
        Some(if at == 0 { self.sent } else { 0 })
    }

    /// Takes the next packet out.
    pub fn pop(&mut self) -> Option<NextPacket> {
        let frame = self.frames.front()?;
        let payload = Arc::clone(&frame.payloads[self.sent]);
        let index = self.sent;
        self.sent += 1;
        self.bytes -= payload.len() + OVERHEAD;
        let next = NextPacket {
            payload,
            index,
            is_last: self.sent == frame.payloads.len(),
            is_key_frame: frame.is_key_frame,
            time: frame.time,
            captured: frame.captured,
            received: frame.received,
            sps: frame.sps,
        };
        if next.is_last {
            self.frames.pop_front();
            self.sent = 0;
        }
        Some(next)
    }
}

fn cost(frame: &Frame, sent: usize) -> usize {
    let waiting = &frame.payloads[sent..];
    waiting.iter().map(|p| p.len() + OVERHEAD).sum()
}

/// Bytes on the wire of one payload, for the pace.
pub fn wire_len(payload: &Payload) -> usize {
    payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests;
