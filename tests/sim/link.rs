//! One direction of a network: delay, loss, outages; random from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a link does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub delay: Duration,
    /// Up to that much more, evenly spread; reorders.
    pub jitter: Duration,
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// Everything is lost for so long ...
    pub outage: Duration,
    /// ... once in each such span.
    pub outage_every: Duration,
}

impl Quality {
    pub const PERFECT: Self = Self {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0.0,
        outage: Duration::ZERO,
        outage_every: Duration::MAX,
    };

    pub fn with_loss(loss: f64) -> Self {
        Self {
            loss,
            ..Self::PERFECT
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    at: Instant,
    order: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

pub struct Link {
    pub quality: Quality,
    rng: StdRng,
    start: Instant,
    under_way: BinaryHeap<Reverse<Packet>>,
    order: u64,
    pub sent: u64,
    pub lost: u64,
    /// Lets so many media packets pass before `lose_next` counts.
    pub spare_next: u64,
    /// Loses the next so many media packets (RTP, not handshakes or RTCP).
    pub lose_next: u64,
    /// Loses the next so many datagrams of DTLS.
    pub lose_dtls: u64,
    pub sent_bytes: u64,
    /// Nothing arrives before; then all of it at once.
    pub held_until: Option<Instant>,
    /// The first datagrams, as anybody on the path could have kept them.
    pub tap: Vec<Vec<u8>>,
}

/// RTP, not RTCP (RFC 7983 section 7, RFC 5761 section 4).
pub fn is_media(bytes: &[u8]) -> bool {
    matches!(bytes, [128..=191, kind, ..] if !(192..=223).contains(kind))
}

/// RFC 7983 section 7.
pub fn is_dtls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=63, ..])
}

const MAX_TAP: usize = 16;

impl Link {
    pub fn new(quality: Quality, seed: u64, start: Instant) -> Self {
        Self {
            quality,
            rng: StdRng::seed_from_u64(seed),
            start,
            under_way: BinaryHeap::new(),
            order: 0,
            sent: 0,
            lost: 0,
            spare_next: 0,
            lose_next: 0,
            lose_dtls: 0,
            sent_bytes: 0,
            held_until: None,
            tap: Vec::new(),
        }
    }

    pub fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.sent += 1;
        self.sent_bytes += bytes.len() as u64;
        if self.tap.len() < MAX_TAP {
            self.tap.push(bytes.clone());
        }
        if self.loses(now, &bytes) {
            self.lost += 1;
            return;
        }
        let jitter = self.quality.jitter.mul_f64(self.rng.random());
        self.order += 1;
        let at = now + self.quality.delay + jitter;
        self.under_way.push(Reverse(Packet {
            at: self.held_until.map_or(at, |held| held.max(at)),
            order: self.order,
            from,
            to,
            bytes,
        }));
    }

    fn loses(&mut self, now: Instant, bytes: &[u8]) -> bool {
        if is_media(bytes) && self.spare_next > 0 {
            self.spare_next -= 1;
        } else if is_media(bytes) && self.lose_next > 0 {
            self.lose_next -= 1;
            return true;
        } else if is_dtls(bytes) && self.lose_dtls > 0 {
            self.lose_dtls -= 1;
            return true;
        }
        let since = now - self.start;
        let is_out = self.quality.outage > Duration::ZERO
            && since.as_nanos() % self.quality.outage_every.as_nanos()
                >= (self.quality.outage_every - self.quality.outage).as_nanos();
        is_out || (self.quality.loss > 0.0 && self.rng.random_bool(self.quality.loss))
    }

    pub fn next_at(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(packet)| packet.at)
    }

    pub fn receive(&mut self, now: Instant) -> Option<Packet> {
        if self.next_at()? > now {
            return None;
        }
        self.under_way.pop().map(|Reverse(packet)| packet)
    }
}
