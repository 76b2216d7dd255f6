//! A coded picture as it goes from a hub to its viewers.

use std::time::Instant;

use super::h264::SpsFacts;
use super::packetize::Payload;
use super::time::MediaTime;

/// One coded picture, ready to be sent to any number of viewers.
#[derive(Debug)]
pub struct Frame {
    /// RTP payloads in order; the last carries the marker bit.
    pub payloads: Vec<Payload>,
    /// Sum of the payloads' lengths: without headers, unlike the bytes of a send queue.
    pub bytes: usize,
    pub is_key_frame: bool,
    /// Counts the groups of pictures of this hub: the same for all frames up to the next key
    /// frame, never reused.
    pub gop: u64,
    pub time: MediaTime,
    /// `time` on the monotonic clock, never later than its arrival.
    pub captured: Instant,
    /// When the unit reached the process.
    pub received: Instant,
    /// What its SPS says.
    pub sps: SpsFacts,
}

/// Why a viewer needs a picture that decodes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It has none yet.
    Join,
    /// It lost what it had: PLI, FIR, a loss that cannot be repaired.
    Recovery,
    /// It fell behind, and what waited for it was left out. It still shows an older picture than
    /// any that waited, so it is served only by what it can overtake with.
    Skip,
}
