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
    /// Loses the next so many datagrams longer than 200 bytes (media, not handshakes).
    pub lose_next: u64,
}

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
            lose_next: 0,
        }
    }

    pub fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.sent += 1;
        if self.loses(now, bytes.len()) {
            self.lost += 1;
            return;
        }
        let jitter = self.quality.jitter.mul_f64(self.rng.random());
        self.order += 1;
        self.under_way.push(Reverse(Packet {
            at: now + self.quality.delay + jitter,
            order: self.order,
            from,
            to,
            bytes,
        }));
    }

    fn loses(&mut self, now: Instant, len: usize) -> bool {
        if self.lose_next > 0 && len > 200 {
            self.lose_next -= 1;
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
