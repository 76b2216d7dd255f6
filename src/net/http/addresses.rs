//! Who is connected and how much each may ask: a token bucket and a connection count per address.
//!
//! In: connects, requests, disconnects, the time. Out: yes or no.
//! Not here: sockets, responses.
//!
//! An IPv6 client owns a whole /64 at least, so that counts as one address. Behind a reverse
//! proxy all clients share the proxy's address: raise `limits.requests` there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::config::Limits;

/// Addresses remembered one by one (some 100 bytes each). Those beyond share one bucket, and so
/// get less than they would alone. An address is forgotten once its bucket is full again.
pub const MAX_ADDRESSES: usize = 1024;

/// One address may hold half of all connections, so that it cannot lock the others out.
const SHARE: usize = 2;

/// Between two searches of a full table for addresses to forget, which look at every entry.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Where an address is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Own(IpAddr),
    /// Together with all others that found the table full.
    Shared,
}

pub(super) struct Addresses {
    table: HashMap<IpAddr, Entry>,
    shared: Entry,
    /// Requests per second, and the seconds' worth that may come at once.
    rate: f64,
    open: usize,
    max_open: usize,
    swept: Option<Instant>,
}

struct Entry {
    /// Requests that may come now.
    tokens: f64,
    /// When `tokens` was true.
    at: Instant,
    open: usize,
}

impl Addresses {
    pub(super) fn new(now: Instant, limits: &Limits) -> Self {
        let rate = f64::from(limits.requests.max(1));
        Self {
            table: HashMap::new(),
            shared: Entry::new(now, rate),
            rate,
            open: 0,
            max_open: limits.connections.max(1),
            swept: None,
        }
    }

    /// Connections open now.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Counts a new connection; `None` when it is one too many, in all or from its address.
    pub(super) fn connect(&mut self, now: Instant, ip: IpAddr) -> Option<Place> {
        if self.open >= self.max_open {
            return None;
        }
        let most = self.max_open.div_ceil(SHARE);
        let place = self.place(now, ip);
        let entry = self.entry(place);
        if entry.open >= most {
            return None;
        }
        entry.open += 1;
        self.open += 1;
        Some(place)
    }

    pub(super) fn disconnect(&mut self, place: Place) {
        let entry = self.entry(place);
        entry.open = entry.open.saturating_sub(1);
        self.open = self.open.saturating_sub(1);
    }

    /// Counts a request; `false` when it comes too soon.
    pub(super) fn request(&mut self, now: Instant, place: Place) -> bool {
        let rate = self.rate;
        self.entry(place).take(now, rate)
    }

    fn place(&mut self, now: Instant, ip: IpAddr) -> Place {
        let network = network(ip);
        if !self.table.contains_key(&network) {
            if self.table.len() >= MAX_ADDRESSES {
                self.sweep(now);
            }
            if self.table.len() >= MAX_ADDRESSES {
                return Place::Shared;
            }
            self.table.insert(network, Entry::new(now, self.rate));
        }
        Place::Own(network)
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|last| now < last + SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        let rate = self.rate;
        self.table
            .retain(|_, entry| entry.open > 0 || entry.tokens_at(now, rate) < rate * BURST);
    }

    /// A place in the table lasts as long as a connection holds it; the shared one is only for
    /// those that never had one.
    fn entry(&mut self, place: Place) -> &mut Entry {
        match place {
            Place::Own(network) => self.table.get_mut(&network).unwrap_or(&mut self.shared),
            Place::Shared => &mut self.shared,
        }
    }
}

impl Entry {
    fn new(now: Instant, rate: f64) -> Self {
        Self {
            tokens: rate * BURST,
            at: now,
            open: 0,
        }
    }

    fn tokens_at(&self, now: Instant, rate: f64) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * rate).min(rate * BURST)
    }

    fn take(&mut self, now: Instant, rate: f64) -> bool {
        self.tokens = self.tokens_at(now, rate);
        self.at = self.at.max(now);
        let is_fine = self.tokens >= 1.0;
        if is_fine {
            self.tokens -= 1.0;
        }
        is_fine
    }
}

/// What counts as one address.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Seconds' worth of requests that may come at once: opening the page takes several.
const BURST: f64 = 2.0;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn addresses(now: Instant, requests: u32, connections: usize) -> Addresses {
        let limits = Limits {
            requests,
            connections,
            ..Limits::default()
        };
        Addresses::new(now, &limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let start = Instant::now();
        let mut all = addresses(start, 10, 100);
        let place = all.connect(start, ip("192.0.2.1")).unwrap();
        let passed = (0..100).filter(|_| all.request(start, place)).count();
        assert_eq!(passed, 20);
        let later = start + Duration::from_millis(500);
        let passed = (0..100).filter(|_| all.request(later, place)).count();
        assert_eq!(passed, 5);
        let other = all.connect(later, ip("192.0.2.2")).unwrap();
        assert!(all.request(later, other));
    }

    #[test]
    fn a_64_is_one_address_and_a_mapped_v4_is_itself() {
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
        assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:1::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn one_address_cannot_hold_every_connection() {
        let now = Instant::now();
        let mut all = addresses(now, 10, 4);
        let first = all.connect(now, ip("192.0.2.1")).unwrap();
        all.connect(now, ip("192.0.2.1")).unwrap();
        assert_eq!(all.connect(now, ip("192.0.2.1")), None);
        all.connect(now, ip("192.0.2.2")).unwrap();
        all.connect(now, ip("192.0.2.2")).unwrap();
        assert_eq!(all.connect(now, ip("192.0.2.3")), None);
        all.disconnect(first);
        assert_eq!(all.open(), 3);
        assert!(all.connect(now, ip("192.0.2.3")).is_some());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_forgotten() {
        let start = Instant::now();
        let mut all = addresses(start, 10, usize::MAX);
        let mut shared = 0;
        for n in 0..3 * MAX_ADDRESSES as u32 {
            let place = all.connect(start, Ipv4Addr::from(n << 8).into()).unwrap();
            all.request(start, place);
            shared += usize::from(place == Place::Shared);
            all.disconnect(place);
        }
        assert_eq!(all.table.len(), MAX_ADDRESSES);
        assert_eq!(shared, 2 * MAX_ADDRESSES);
        // Those that share a bucket run dry, those with their own do not.
        assert!(!all.request(start, Place::Shared));
        let later = start + Duration::from_secs(2);
        let place = all.connect(later, ip("203.0.113.1")).unwrap();
        assert!(matches!(place, Place::Own(_)));
        assert_eq!(all.table.len(), 1);
    }
}
