//! The media port: one UDP socket per address family, both on one port.
//!
//! In: datagrams to send, each with the local address to answer from; readiness from tokio.
//! Out: datagrams received, lent in batches; which destinations lost something; counters.
//! Not here: which addresses viewers are told (`net::interfaces`), whose datagram it is (gateway),
//! pacing (session).
//!
//! The local address of every datagram is taken from the kernel (`IP_PKTINFO`) and answered from,
//! so that a machine with several addresses never answers from another one than it was asked at.
//! Datagrams of equal length for one destination leave in one system call (`UDP_SEGMENT`, "GSO").
//! The environment variable `PINHOLE_UDP_GSO=off` turns that off, for comparison, and
//! `PINHOLE_UDP_SEND_BUFFER` is another size of the send buffer, in bytes.

mod family;
mod send;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use tracing::{info, warn};

use crate::config;
use family::{Batch, Family, SEND_BUFFER};
use send::Gso;

/// The media port. Lives on the loop's thread, inside its tokio runtime.
pub struct Udp {
    port: u16,
    v4: Option<Family>,
    v6: Option<Family>,
    /// The family whose turn it is to be read first, so that a flood of one cannot starve the other.
    is_v6_first: bool,
    gso: Gso,
    /// Cleared by each [`send`](Self::send); at most one entry per run of that batch.
    lost: Vec<Lost>,
    counters: Counters,
}

/// How the media port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// 0 lets the kernel choose; both families get the same number.
    pub port: u16,
    /// Differentiated services code point, 0 to 63, of all that is sent; 0 marks nothing.
    pub dscp: u8,
    /// Whether several datagrams may leave in one system call.
    pub gso: bool,
    /// Bytes that may wait in the kernel to be sent, as asked for; it doubles them for its own
    /// overhead.
    pub send_buffer: usize,
}

/// A received datagram, lent for the time of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub from: SocketAddr,
    /// The address of ours that it was sent to.
    pub to: SocketAddr,
    /// Never empty, at most [`MAX_DATAGRAM`] bytes.
    pub bytes: &'a [u8],
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing<B> {
    /// The address of ours to send from; an unspecified one leaves the choice to the kernel. Its
    /// port is not looked at: there is only one.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: B,
}

/// What one [`Udp::receive`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams handed to the caller.
    pub datagrams: usize,
    /// The budget ran out before the sockets were empty: come again, after other work.
    pub has_more: bool,
}

/// What one [`Udp::send`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// Datagrams that are done with, from the beginning of the batch: with the kernel, or lost.
    /// The send buffer has no room for the others.
    pub taken: usize,
    pub lost: &'a [Lost],
}

/// What became of a run that was sent one by one.
struct Singly {
    /// Datagrams that are done with.
    done: usize,
    /// Of those none was refused, and there were some.
    all_left: bool,
}

impl Singly {
    fn new(done: usize, all_left: bool) -> Self {
        Self { done, all_left }
    }
}

/// Datagrams that the kernel did not take: their viewer is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub to: SocketAddr,
    pub datagrams: u64,
    pub why: Refused,
}

/// Why the kernel did not take a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The send buffer was full for too long (`EAGAIN`), or a queue below it is (`ENOBUFS`,
    /// `ENOMEM`).
    Full,
    /// Longer than UDP can carry (`EMSGSIZE`).
    TooLong,
    /// No way there (`ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN` and the like).
    Unreachable,
    /// A firewall rule or the like forbids it (`EPERM`, `EACCES`).
    Forbidden,
    /// Theirs cannot be sent to (port 0), or ours is not on this machine any more, which for some
    /// routes counts as unreachable instead (`EINVAL`, `EADDRNOTAVAIL`).
    BadAddress,
    /// There is no socket of that address family.
    NoSocket,
    Other,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received and handed on.
    pub datagrams_in: u64,
    pub bytes_in: u64,
    /// `recvmmsg` calls.
    pub calls_in: u64,
    /// Received but longer than [`MAX_DATAGRAM`]: dropped.
    pub truncated: u64,
    /// Received but empty, from port 0, or without a local address: dropped.
    pub unusable: u64,
    /// `recvmmsg` calls that failed.
    pub errors_in: u64,
    /// Taken by the kernel.
    pub datagrams_out: u64,
    pub bytes_out: u64,
    /// `sendmsg` calls, refused ones too.
    pub calls_out: u64,
    /// Times that the send buffer was full and datagrams waited for room.
    pub times_held: u64,
    /// Datagrams that waited so; those that waited for too long are refused as `Full`.
    pub datagrams_held: u64,
    /// Runs that the kernel did not cut into segments, and that then left one by one.
    pub offload_refused: u64,
    refused: [u64; Refused::ALL.len()],
}

/// Why the media port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("ice.port {port}: no UDP socket for {family}")]
    Open {
        port: u16,
        family: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("ice.port {0}: this machine has neither IPv4 nor IPv6")]
    NoFamily(u16),
}

/// Bytes of the longest datagram that is received. WebRTC's are sized for Ethernet (1500), so a
/// longer one is no peer of ours.
pub const MAX_DATAGRAM: usize = 2048;

/// Datagrams per `recvmmsg`, the unit of the budget of [`Udp::receive`].
pub const BATCH: usize = 32;

/// How often a port that the kernel chose for one family may turn out to be taken in the other.
const PORT_ATTEMPTS: usize = 16;

impl Settings {
    /// The settings in `[ice]`, and those from the environment.
    pub fn new(ice: &config::Ice) -> Self {
        let send_buffer = std::env::var("PINHOLE_UDP_SEND_BUFFER").ok();
        let send_buffer = send_buffer.and_then(|bytes| bytes.parse().ok());
        Self {
            port: ice.port,
            dscp: ice.dscp,
            gso: std::env::var("PINHOLE_UDP_GSO").map_or(true, |word| word != "off" && word != "0"),
            send_buffer: send_buffer.unwrap_or(SEND_BUFFER),
        }
    }
}

impl Udp {
    /// Opens the port in both families; one is enough where the machine lacks the other.
    ///
    /// # Errors
    /// The port is taken or not allowed, or there is no address family at all.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let (port, v4, v6) = open_pair(settings)?;
        let any = v4.as_ref().or(v6.as_ref());
        let gso = if settings.gso {
            any.map_or(Gso::Off, |family| Gso::probe(family.fd()))
        } else {
            Gso::Off
        };
        let (send_buffer, receive_buffer) = any.map_or((0, 0), Family::buffers);
        info!(
            port,
            ipv4 = v4.is_some(),
            ipv6 = v6.is_some(),
            gso = gso.is_on(),
            send_buffer,
            receive_buffer,
            "media port open"
        );
        tell_small_buffer(send_buffer, settings.send_buffer);
        Ok(Self {
            port,
            v4,
            v6,
            is_v6_first: false,
            gso,
            lost: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// The port, in both families.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether there is a socket of this address's family: others need not be told to viewers.
    pub fn has_family_of(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.v4.is_some(),
            IpAddr::V6(_) => self.v6.is_some(),
        }
    }

    /// Sums since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether several datagrams may leave in one system call (false once the kernel turns out to
    /// have no such thing).
    pub fn has_gso(&self) -> bool {
        self.gso.is_on()
    }

    /// Waits until [`receive`](Self::receive) is worth a call. Cancel safe.
    ///
    /// # Errors
    /// The tokio runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => tokio::select! {
                ready = v4.readable() => ready,
                ready = v6.readable() => ready,
            },
            (Some(one), None) | (None, Some(one)) => one.readable().await,
            (None, None) => std::future::pending().await, // bind() has refused that
        }
    }

    /// Hands on what has arrived, at most `budget` batches of [`BATCH`] datagrams over both
    /// families, which take turns. Nothing is allocated. To be called after
    /// [`readable`](Self::readable), and again while [`Received::has_more`].
    pub fn receive(&mut self, budget: usize, mut on: impl FnMut(Datagram<'_>)) -> Received {
        let mut received = Received::default();
        let mut is_dry = [self.v4.is_none(), self.v6.is_none()];
        let port = self.port;
        let mut left = budget;
        while left > 0 && is_dry != [true, true] {
            let is_v6 = is_dry[0] || (self.is_v6_first && !is_dry[1]);
            self.is_v6_first = !is_v6;
            let family = if is_v6 { &mut self.v6 } else { &mut self.v4 };
            let batch = family.as_mut().map_or(Batch::Empty, |family| {
                family.receive(&mut self.counters, |from, local, bytes| {
                    let to = SocketAddr::new(local, port);
                    on(Datagram { from, to, bytes });
                    received.datagrams += 1;
                })
            });
            left -= usize::from(batch != Batch::Empty);
            is_dry[usize::from(is_v6)] = batch != Batch::Full;
        }
        received.has_more = is_dry != [true, true];
        received
    }

    /// Sends `batch` in order, never blocking. Neighbours of equal length, source and destination
    /// share a system call, and so does a shorter one behind them.
    ///
    /// Where the send buffer is full it stops: what follows can be sent again a little later, or
    /// [given up](Self::give_up). What the kernel refuses for other reasons is lost and counted;
    /// the answer names the destinations.
    pub fn send<B: AsRef<[u8]>>(&mut self, batch: &[Outgoing<B>]) -> Sent<'_> {
        self.lost.clear();
        let mut taken = 0;
        while let Some(first) = batch.get(taken) {
            let rest = &batch[taken..];
            let max = self.gso.max_segments(first.to.ip());
            let run = &rest[..send::run_length(rest, max)];
            let done = self.send_run(run);
            taken += done;
            if done < run.len() {
                break;
            }
        }
        Sent {
            taken,
            lost: &self.lost,
        }
    }

    /// Loses and counts what the send buffer has no room for.
    pub fn give_up<B>(&mut self, rest: &[Outgoing<B>]) -> &[Lost] {
        self.lost.clear();
        for datagram in rest {
            self.lose(datagram.to, 1, Refused::Full);
        }
        &self.lost
    }

    /// Counts datagrams that wait because the send buffer was full.
    pub fn count_held(&mut self, datagrams: usize) {
        self.counters.times_held += 1;
        self.counters.datagrams_held += datagrams as u64;
    }

    /// Sends one run: datagrams that may share a system call. How many of them are done with; the
    /// others found the send buffer full.
    fn send_run<B: AsRef<[u8]>>(&mut self, run: &[Outgoing<B>]) -> usize {
        let Some(first) = run.first() else { return 0 };
        let family = match first.to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let Some(family) = family else {
            self.lose(first.to, run.len(), Refused::NoSocket);
            return run.len();
        };
        let source = Some(first.from.ip()).filter(|ip| !ip.is_unspecified());
        if run.len() == 1 {
            return self.send_singly(run, source).done;
        }
        self.counters.calls_out += 1;
        match send::together(family.fd(), run, source) {
            Ok(bytes) => self.counters.sent(run.len(), bytes),
            Err(Errno::EAGAIN) => return 0,
            Err(errno) if !Gso::is_suspect(errno) => {
                self.lose(first.to, run.len(), Refused::from(errno));
            }
            Err(errno) => {
                // GSO, or the datagrams themselves? Plain sends tell.
                let singly = self.send_singly(run, source);
                if singly.all_left {
                    self.counters.offload_refused += 1;
                    self.gso.refused(first.to.ip(), errno);
                }
                return singly.done;
            }
        }
        run.len()
    }

    /// Sends each datagram of a run by itself; the first that is refused costs the rest.
    fn send_singly<B: AsRef<[u8]>>(
        &mut self,
        run: &[Outgoing<B>],
        source: Option<IpAddr>,
    ) -> Singly {
        for (n, datagram) in run.iter().enumerate() {
            let family = match datagram.to {
                SocketAddr::V4(_) => &self.v4,
                SocketAddr::V6(_) => &self.v6,
            };
            let Some(family) = family else { break };
            self.counters.calls_out += 1;
            match send::one(family.fd(), datagram, source) {
                Ok(bytes) => self.counters.sent(1, bytes),
                Err(Errno::EAGAIN) => return Singly::new(n, n > 0),
                Err(errno) => {
                    self.lose(datagram.to, run.len() - n, Refused::from(errno));
                    return Singly::new(run.len(), false);
                }
            }
        }
        Singly::new(run.len(), true)
    }

    fn lose(&mut self, to: SocketAddr, datagrams: usize, why: Refused) {
        let datagrams = datagrams as u64;
        self.counters.refused[why as usize] += datagrams;
        match self.lost.last_mut() {
            Some(last) if last.to == to && last.why == why => last.datagrams += datagrams,
            _ => self.lost.push(Lost { to, datagrams, why }),
        }
    }
}

impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp")
            .field("port", &self.port)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Counters {
    /// Datagrams that were lost for this reason.
    pub fn refused(&self, why: Refused) -> u64 {
        self.refused[why as usize]
    }

    fn sent(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams_out += datagrams as u64;
        self.bytes_out += bytes as u64;
    }
}

impl Refused {
    /// Every kind, for the metrics.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::TooLong,
        Self::Unreachable,
        Self::Forbidden,
        Self::BadAddress,
        Self::NoSocket,
        Self::Other,
    ];

    /// One word, for the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TooLong => "too_long",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::BadAddress => "bad_address",
            Self::NoSocket => "no_socket",
            Self::Other => "other",
        }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        const KINDS: [(Refused, &[Errno]); 5] = [
            (
                Refused::Full,
                &[Errno::EAGAIN, Errno::ENOBUFS, Errno::ENOMEM],
            ),
            (Refused::TooLong, &[Errno::EMSGSIZE]),
            (
                Refused::Unreachable,
                &[
                    Errno::ENETUNREACH,
                    Errno::EHOSTUNREACH,
                    Errno::ENETDOWN,
                    Errno::EHOSTDOWN,
                    Errno::ENODEV,
                    Errno::ENXIO,
                    Errno::ECONNREFUSED,
                ],
            ),
            (Refused::Forbidden, &[Errno::EPERM, Errno::EACCES]),
            (Refused::BadAddress, &[Errno::EINVAL, Errno::EADDRNOTAVAIL]),
        ];
        let mut kinds = KINDS.iter();
        kinds
            .find(|(_, errnos)| errnos.contains(&errno))
            .map_or(Self::Other, |&(kind, _)| kind)
    }
}

/// A port with its IPv4 and its IPv6 socket.
type Pair = (u16, Option<Family>, Option<Family>);

/// Opens both families on one port.
fn open_pair(settings: &Settings) -> Result<Pair, BindError> {
    let mut attempt = 1;
    loop {
        let v6 = Family::open_v6(settings.port, settings)?;
        let port = v6.as_ref().map_or(settings.port, Family::port);
        match Family::open_v4(port, settings) {
            Ok(None) if v6.is_none() => return Err(BindError::NoFamily(port)),
            Ok(v4) => {
                let port = v4.as_ref().map_or(port, Family::port);
                return Ok((port, v4, v6));
            }
            Err(_) if settings.port == 0 && attempt < PORT_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Says that key frames for some viewers at once will have to wait for room.
fn tell_small_buffer(granted: usize, wanted: usize) {
    if granted > 0 && granted < wanted {
        info!(
            granted,
            "the send buffer is small: key frames for several viewers wait for room in it; \
             sysctl net.core.wmem_max={wanted} gives more at the next start"
        );
    }
}

/// Says once that datagrams leave one by one from now on.
fn warn_plain_sends(errno: Errno) {
    warn!(%errno, "the kernel refuses UDP segmentation offload: sending datagrams one by one, at about twice the CPU");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_counts_under_its_own_name() {
        let mut counters = Counters::default();
        for (n, kind) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, n, "{} is not at its own place", kind.name());
            counters.refused[kind as usize] += n as u64;
        }
        for (n, kind) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(counters.refused(kind), n as u64);
        }
    }

    #[test]
    fn kernel_errors_are_told_apart() {
        assert_eq!(Refused::from(Errno::ENOBUFS), Refused::Full);
        assert_eq!(Refused::from(Errno::EMSGSIZE), Refused::TooLong);
        assert_eq!(Refused::from(Errno::ENETUNREACH), Refused::Unreachable);
        assert_eq!(Refused::from(Errno::EPERM), Refused::Forbidden);
        assert_eq!(Refused::from(Errno::EINVAL), Refused::BadAddress);
        assert_eq!(Refused::from(Errno::EBADF), Refused::Other);
    }
}
