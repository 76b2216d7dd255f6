//! Sending: which datagrams may share a system call, and whether the kernel lets them.
//!
//! In: datagrams in order. Out: `sendmsg` calls with gathered bytes.
//! Not here: what to do about refusals, counting.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{self, ControlMessage, MsgFlags, SockaddrStorage, getsockopt, sockopt};
use tracing::debug;

use super::{Outgoing, warn_plain_sends};

/// Whether datagrams may share a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gso {
    /// All but those for these destinations, oldest first; [`MAX_PLAIN`] at most.
    On(Vec<Plain>),
    /// For ever.
    Off,
}

/// A destination towards which the kernel refuses to cut segments: the device on the way there has
/// no checksum offload (Linux before 6.11), or the path has a smaller MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    to: IpAddr,
    /// Datagrams until it is tried again: routes change.
    left: u32,
}

/// Datagrams in one system call, which reach the wire back to back: half of what the kernel takes
/// (`UDP_MAX_SEGMENTS`, 64), so that other flows get in between the halves of a key frame.
pub(super) const BURST: usize = 32;

/// Bytes in one system call: an IP packet's 65,535 less headers.
const MAX_BYTES: usize = 65_000;

/// Destinations known to refuse segments; past it the oldest is tried again.
const MAX_PLAIN: usize = 64;

/// Datagrams that such a destination gets one by one: some minutes of one viewer.
const PLAIN_DATAGRAMS: u32 = 65_536;

impl Gso {
    /// Asks the kernel whether it knows the option: an old one would not refuse the control
    /// message but ignore it, and send all the bytes as one datagram.
    pub(super) fn probe(fd: BorrowedFd<'_>) -> Self {
        match getsockopt(&fd, sockopt::UdpGsoSegment) {
            Ok(_) => Self::On(Vec::new()),
            Err(errno) => {
                warn_plain_sends(errno);
                Self::Off
            }
        }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// How many of the next datagrams may share a call to this destination.
    pub(super) fn max_segments(&mut self, to: IpAddr) -> usize {
        let Self::On(plain) = self else { return 1 };
        let Some(at) = plain.iter().position(|plain| plain.to == to) else {
            return BURST;
        };
        plain[at].left -= 1;
        if plain[at].left == 0 {
            plain.remove(at);
        }
        1
    }

    /// Whether an error may be about GSO rather than about the datagrams.
    pub(super) fn is_suspect(errno: Errno) -> bool {
        const SUSPECTS: [Errno; 5] = [
            Errno::EIO, // no checksum offload on the way out
            Errno::EINVAL,
            Errno::EMSGSIZE, // a segment that would have to be fragmented
            Errno::ENOPROTOOPT,
            Errno::EOPNOTSUPP,
        ];
        SUSPECTS.contains(&errno)
    }

    /// Datagrams were refused together that then left one by one.
    pub(super) fn refused(&mut self, to: IpAddr, errno: Errno) {
        let Self::On(plain) = self else { return };
        if matches!(errno, Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) {
            *self = Self::Off;
            return warn_plain_sends(errno);
        }
        debug!(%to, %errno, "no UDP segmentation offload on this way: datagrams leave one by one");
        plain.retain(|plain| plain.to != to);
        if plain.len() >= MAX_PLAIN {
            plain.remove(0);
        }
        let left = PLAIN_DATAGRAMS;
        plain.push(Plain { to, left });
    }
}

/// How many of the first datagrams of `batch` may share a system call: 1 at least (if there is
/// one), `max` at most.
pub(super) fn run_length<B: AsRef<[u8]>>(batch: &[Outgoing<B>], max: usize) -> usize {
    let Some(first) = batch.first() else { return 0 };
    let segment = first.bytes.as_ref().len();
    let mut bytes = segment;
    let mut length = 1;
    for next in batch.iter().take(max).skip(1) {
        let size = next.bytes.as_ref().len();
        let is_same_way = next.to == first.to && next.from == first.from;
        if !is_same_way || size == 0 || size > segment || bytes + size > MAX_BYTES {
            break;
        }
        bytes += size;
        length += 1;
        if size < segment {
            break; // only the last may be shorter
        }
    }
    length
}

/// Sends a run of at most [`BURST`] datagrams in one system call. The bytes taken.
pub(super) fn together<B: AsRef<[u8]>>(
    fd: BorrowedFd<'_>,
    run: &[Outgoing<B>],
    source: Option<IpAddr>,
) -> Result<usize, Errno> {
    let Some(first) = run.first() else {
        return Ok(0);
    };
    let segment = u16::try_from(first.bytes.as_ref().len()).map_err(|_| Errno::EMSGSIZE)?;
    let mut slices = [IoSlice::new(&[]); BURST];
    for (slice, datagram) in slices.iter_mut().zip(run) {
        *slice = IoSlice::new(datagram.bytes.as_ref());
    }
    transmit(
        fd,
        &slices[..run.len().min(BURST)],
        first.to,
        source,
        Some(segment),
    )
}

/// Sends one datagram. The bytes taken.
pub(super) fn one<B: AsRef<[u8]>>(
    fd: BorrowedFd<'_>,
    datagram: &Outgoing<B>,
    source: Option<IpAddr>,
) -> Result<usize, Errno> {
    let slices = [IoSlice::new(datagram.bytes.as_ref())];
    transmit(fd, &slices, datagram.to, source, None)
}

fn transmit(
    fd: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    to: SocketAddr,
    source: Option<IpAddr>,
    segment: Option<u16>,
) -> Result<usize, Errno> {
    let segment_size = segment.unwrap_or(0);
    let gso = ControlMessage::UdpGsoSegments(&segment_size);
    let is_gso = usize::from(segment.is_some());
    match (source, to) {
        (Some(IpAddr::V4(source)), SocketAddr::V4(_)) => {
            let address = |octets| libc::in_addr {
                s_addr: u32::from_ne_bytes(octets),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address(source.octets()),
                ipi_addr: address([0; 4]),
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info), gso];
            sendmsg(fd, slices, &control[..1 + is_gso], to)
        }
        (Some(IpAddr::V6(source)), SocketAddr::V6(v6)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                // A link-local peer names its interface; for others this is 0 and the route decides.
                ipi6_ifindex: v6.scope_id() as _,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info), gso];
            sendmsg(fd, slices, &control[..1 + is_gso], to)
        }
        (None, _) | (Some(_), SocketAddr::V4(_) | SocketAddr::V6(_)) => {
            sendmsg(fd, slices, &[gso][..is_gso], to)
        }
    }
}

fn sendmsg(
    fd: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    control: &[ControlMessage<'_>],
    to: SocketAddr,
) -> Result<usize, Errno> {
    let to = SockaddrStorage::from(to);
    loop {
        let flags = MsgFlags::MSG_DONTWAIT;
        match socket::sendmsg(fd.as_raw_fd(), slices, control, flags, Some(&to)) {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(from: u8, to: u8, size: usize) -> Outgoing<Vec<u8>> {
        Outgoing {
            from: SocketAddr::from(([10, 0, 0, from], 1)),
            to: SocketAddr::from(([10, 0, 1, to], 1)),
            bytes: vec![0; size],
        }
    }

    fn run(sizes: &[usize]) -> usize {
        let batch: Vec<_> = sizes.iter().map(|&size| datagram(1, 1, size)).collect();
        run_length(&batch, BURST)
    }

    #[test]
    fn equal_lengths_share_a_call_and_a_shorter_one_ends_it() {
        assert_eq!(run(&[]), 0);
        assert_eq!(run(&[1200]), 1);
        assert_eq!(run(&[1200, 1200, 1200]), 3);
        assert_eq!(run(&[1200, 1200, 700, 700]), 3);
        assert_eq!(run(&[700, 1200, 1200]), 1);
        assert_eq!(run(&[1200, 0, 1200]), 1);
        assert_eq!(run(&[0, 0]), 1);
    }

    #[test]
    fn a_call_stays_below_the_burst_cap_and_the_size_of_an_ip_packet() {
        assert_eq!(run(&[1200; 100]), BURST);
        assert_eq!(run(&[30_000; 10]), 2);
        assert_eq!(run(&[65_507, 1]), 1);
        const { assert!(BURST <= 64, "UDP_MAX_SEGMENTS") };
    }

    #[test]
    fn another_destination_or_source_starts_another_call() {
        let batch = [
            datagram(1, 1, 9),
            datagram(1, 2, 9),
            datagram(2, 2, 9),
            datagram(2, 2, 9),
        ];
        assert_eq!(run_length(&batch, BURST), 1);
        assert_eq!(run_length(&batch[1..], BURST), 1);
        assert_eq!(run_length(&batch[2..], BURST), 2);
        assert_eq!(run_length(&batch[2..], 1), 1);
    }

    fn on() -> Gso {
        Gso::On(Vec::new())
    }

    fn ip(n: usize) -> IpAddr {
        IpAddr::from([10, 0, (n >> 8) as u8, n as u8])
    }

    #[test]
    fn a_kernel_without_offload_turns_it_off_for_ever() {
        for errno in [Errno::ENOPROTOOPT, Errno::EOPNOTSUPP] {
            let mut gso = on();
            gso.refused(ip(1), errno);
            assert!(!gso.is_on());
            assert_eq!(gso.max_segments(ip(2)), 1);
        }
    }

    #[test]
    fn one_way_without_offload_or_with_a_small_mtu_leaves_it_to_the_others() {
        for errno in [Errno::EIO, Errno::EINVAL, Errno::EMSGSIZE] {
            let mut gso = on();
            (0..100).for_each(|_| gso.refused(ip(1), errno));
            assert_eq!(gso.max_segments(ip(1)), 1);
            assert_eq!(gso.max_segments(ip(2)), BURST);
        }
    }

    #[test]
    fn a_destination_is_tried_again_after_a_while() {
        let mut gso = on();
        gso.refused(ip(1), Errno::EIO);
        for _ in 0..PLAIN_DATAGRAMS {
            assert_eq!(gso.max_segments(ip(1)), 1);
        }
        assert_eq!(gso.max_segments(ip(1)), BURST);
    }

    #[test]
    fn the_oldest_of_too_many_destinations_is_tried_again() {
        let mut gso = on();
        (0..=MAX_PLAIN).for_each(|n| gso.refused(ip(n), Errno::EIO));
        assert_eq!(gso.max_segments(ip(0)), BURST);
        assert!((1..=MAX_PLAIN).all(|n| gso.max_segments(ip(n)) == 1));
        assert!(matches!(gso, Gso::On(plain) if plain.len() == MAX_PLAIN));
    }
}
