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

use super::{Outgoing, warn_plain_sends};

/// Whether datagrams may share a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gso {
    On {
        /// Refusals in a row where plain sends then went well.
        strikes: u32,
    },
    /// For ever.
    Off,
}

/// Datagrams in one system call, which reach the wire back to back: half of what the kernel takes
/// (`UDP_MAX_SEGMENTS`, 64), so that other flows get in between the halves of a key frame.
pub(super) const BURST: usize = 32;

/// Bytes in one system call: an IP packet's 65,535 less headers.
const MAX_BYTES: usize = 65_000;

/// One viewer behind a path with a small MTU makes the kernel refuse segments that plain sends
/// fragment; only a kernel or a device that never takes them fails so often without a success.
const MAX_STRIKES: u32 = 8;

impl Gso {
    /// Asks the kernel whether it knows the option: an old one would not refuse the control
    /// message but ignore it, and send all the bytes as one datagram.
    pub(super) fn probe(fd: BorrowedFd<'_>) -> Self {
        match getsockopt(&fd, sockopt::UdpGsoSegment) {
            Ok(_) => Self::On { strikes: 0 },
            Err(errno) => {
                warn_plain_sends(errno);
                Self::Off
            }
        }
    }

    pub(super) fn is_on(self) -> bool {
        matches!(self, Self::On { .. })
    }

    pub(super) fn max_segments(self) -> usize {
        if self.is_on() { BURST } else { 1 }
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

    pub(super) fn succeeded(&mut self) {
        if let Self::On { strikes } = self {
            *strikes = 0;
        }
    }

    /// Datagrams were refused together that then left one by one.
    pub(super) fn refused(&mut self, errno: Errno) {
        let Self::On { strikes } = self else { return };
        *strikes += 1;
        let is_certain = errno != Errno::EINVAL && errno != Errno::EMSGSIZE;
        if is_certain || *strikes >= MAX_STRIKES {
            *self = Self::Off;
            warn_plain_sends(errno);
        }
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

    #[test]
    fn a_device_without_offload_turns_it_off_for_ever() {
        let mut gso = Gso::On { strikes: 0 };
        gso.refused(Errno::EIO);
        assert!(!gso.is_on());
        gso.succeeded();
        assert_eq!(gso.max_segments(), 1);
    }

    #[test]
    fn one_path_with_a_small_mtu_does_not_turn_it_off_for_the_others() {
        let mut gso = Gso::On { strikes: 0 };
        for _ in 0..100 {
            gso.refused(Errno::EINVAL);
            gso.succeeded();
        }
        assert!(gso.is_on());
        for _ in 0..MAX_STRIKES {
            gso.refused(Errno::EINVAL);
        }
        assert!(!gso.is_on());
    }
}
