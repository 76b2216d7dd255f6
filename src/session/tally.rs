//! What one session has counted.

use std::time::Duration;

#[cfg(doc)]
use super::MAX_OUTBOX;
#[cfg(doc)]
use crate::media::ice::{MAX_CANDIDATES, MAX_SOURCES};

/// Counters of one session, since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Datagrams made for it: pictures, repairs, STUN, DTLS and RTCP.
    pub packets: u64,
    /// Of their UDP payloads.
    pub bytes: u64,
    /// Packets sent again (RTX).
    pub repairs: u64,
    /// Times that frames were left out up to the next key frame.
    pub skips: u64,
    /// PLI and FIR received.
    pub key_frame_requests: u64,
    pub round_trip: Option<Duration>,
    /// 0 to 1.
    pub loss: Option<f32>,
}

/// What was dropped for or from a viewer, by the bound that it met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Datagrams from its address that it could not use.
    pub inputs: u64,
    /// Remote candidates past [`MAX_CANDIDATES`], checks from addresses past [`MAX_SOURCES`].
    pub candidates: u64,
    /// Packets asked for again, past what pictures took.
    pub repairs: u64,
    /// Datagrams to it, past [`MAX_OUTBOX`].
    pub outputs: u64,
}
