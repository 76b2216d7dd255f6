//! One socket of the media port: opening it, and receiving in batches.
//!
//! In: a port. Out: datagrams with their local address.
//! Not here: taking turns between the families, sending.

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    self as sys, AddressFamily, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockFlag,
    SockType, SockaddrStorage, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::{BATCH, BindError, Counters, MAX_DATAGRAM, Settings};

/// A socket and the buffers that its datagrams are received into.
pub(super) struct Family {
    socket: AsyncFd<OwnedFd>,
    port: u16,
    headers: MultiHeaders<SockaddrStorage>,
    /// [`BATCH`] slots of [`MAX_DATAGRAM`] bytes: the kernel marks what does not fit.
    buffer: Box<[u8]>,
}

/// What a batch says about the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// As much as a batch can hold: there may be more.
    Full,
    /// Some, and the socket is empty now: wait until it is readable.
    Last,
    /// Nothing, for now or because of an error: wait likewise.
    Empty,
}

/// Bytes asked for; the kernel doubles it for its own overhead. A key frame of 50 kB for 20
/// viewers fits, and on a 100 Mbit/s link it is some 80 ms of it: more would only be latency. What
/// does not fit has to wait.
pub(super) const SEND_BUFFER: usize = 1 << 20;

/// Bytes asked for: some 700 short datagrams with the kernel's overhead, 14 ms of a flood of
/// 50,000 a second, which outlasts the longest turn of the loop.
const RECEIVE_BUFFER: usize = 1 << 20;

impl Family {
    /// Opens the IPv4 socket; `None` where the machine has no IPv4.
    pub(super) fn open_v4(port: u16, settings: &Settings) -> Result<Option<Self>, BindError> {
        let wanted = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        found(port, "IPv4", open(wanted.into(), settings))
    }

    /// Opens the IPv6 socket, for IPv6 alone; `None` where the machine has no IPv6.
    pub(super) fn open_v6(port: u16, settings: &Settings) -> Result<Option<Self>, BindError> {
        let wanted = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
        found(port, "IPv6", open(wanted.into(), settings))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }

    /// What the kernel granted for sending and for receiving, in bytes of its own accounting.
    pub(super) fn buffers(&self) -> (usize, usize) {
        let send = sys::getsockopt(&self.fd(), sockopt::SndBuf);
        let receive = sys::getsockopt(&self.fd(), sockopt::RcvBuf);
        (send.unwrap_or(0), receive.unwrap_or(0))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(|_| ())
    }

    /// Hands on one batch: sender, local address, bytes.
    pub(super) fn receive(
        &mut self,
        counters: &mut Counters,
        mut on: impl FnMut(SocketAddr, IpAddr, &[u8]),
    ) -> Batch {
        let (buffer, headers) = (&mut self.buffer, &mut self.headers);
        let mut taken = 0;
        let mut is_spoilt = false;
        let outcome = self.socket.try_io(Interest::READABLE, |socket| {
            let mut slots = buffer.chunks_exact_mut(MAX_DATAGRAM);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
                array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
            counters.calls_in += 1;
            let flags = MsgFlags::MSG_DONTWAIT;
            let batch = sys::recvmmsg(socket.as_raw_fd(), headers, &mut slices, flags, None)?;
            for message in batch {
                taken += 1;
                is_spoilt |= message.flags.contains(MsgFlags::MSG_CTRUNC);
                hand_on(&message, counters, &mut on);
            }
            // A batch that is not full says that the socket is empty, without asking again.
            if taken < BATCH {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        if is_spoilt {
            self.headers = headers_with_room();
        }
        match outcome {
            Ok(()) => Batch::Full,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Batch::Full,
            Err(_) if taken > 0 => Batch::Last,
            Err(error) => {
                counters.errors_in += u64::from(error.kind() != io::ErrorKind::WouldBlock);
                Batch::Empty
            }
        }
    }
}

/// Passes one message to `on`, or counts why not.
fn hand_on(
    message: &RecvMsg<'_, '_, SockaddrStorage>,
    counters: &mut Counters,
    on: &mut impl FnMut(SocketAddr, IpAddr, &[u8]),
) {
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        counters.truncated += 1;
        return;
    }
    let from = message
        .address
        .as_ref()
        .and_then(address)
        .filter(|from| from.port() != 0);
    let bytes = message.iovs().next().filter(|bytes| !bytes.is_empty());
    let (Some(from), Some(local), Some(bytes)) = (from, local_address(message), bytes) else {
        counters.unusable += 1;
        return;
    };
    counters.datagrams_in += 1;
    counters.bytes_in += bytes.len() as u64;
    on(from, local, bytes);
}

/// The address of ours that a message was sent to.
fn local_address(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<IpAddr> {
    message.cmsgs().ok()?.find_map(|control| {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
            // Not ipi_addr: for a broadcast that is an address which cannot be answered from.
            return Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into());
        }
        if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
        }
        None
    })
}

fn address(raw: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = raw
        .as_sockaddr_in()
        .map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| {
        raw.as_sockaddr_in6()
            .map(|v6| SocketAddrV6::from(*v6).into())
    })
}

/// Room for one packet-info message per datagram. nix leaves the length that the kernel wrote in
/// place for the next call, so no option may be set on the socket whose message comes only
/// sometimes (`SO_RXQ_OVFL`, `UDP_GRO`).
fn headers_with_room() -> MultiHeaders<SockaddrStorage> {
    // The IPv6 one is the longer.
    MultiHeaders::preallocate(BATCH, Some(cmsg_space!(libc::in6_pktinfo)))
}

/// A missing address family is no error.
fn found(
    port: u16,
    family: &'static str,
    opened: io::Result<Family>,
) -> Result<Option<Family>, BindError> {
    const MISSING: [Errno; 3] = [
        Errno::EAFNOSUPPORT,
        Errno::EADDRNOTAVAIL,
        Errno::EPFNOSUPPORT,
    ];
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) => {
            let errno = error.raw_os_error().map(Errno::from_raw);
            if errno.is_some_and(|errno| MISSING.contains(&errno)) {
                return Ok(None);
            }
            Err(BindError::Open {
                port,
                family,
                source: error,
            })
        }
    }
}

fn open(wanted: SocketAddr, settings: &Settings) -> io::Result<Family> {
    let family = if wanted.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = sys::socket(family, SockType::Datagram, flags, None)?;
    if wanted.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
    }
    mark(&fd, wanted.is_ipv6(), settings.dscp);
    size_buffers(&fd, settings.send_buffer);
    sys::bind(fd.as_raw_fd(), &SockaddrStorage::from(wanted))?;
    let bound: SockaddrStorage = sys::getsockname(fd.as_raw_fd())?;
    Ok(Family {
        port: address(&bound).unwrap_or(wanted).port(),
        socket: watch(fd)?,
        headers: headers_with_room(),
        buffer: vec![0; BATCH * MAX_DATAGRAM].into_boxed_slice(),
    })
}

/// Has the loop woken for what arrives, and for nothing else. tokio's own `UdpSocket` would wait for
/// room to send as well, which the kernel reports whenever a datagram has left: a wake-up for
/// nothing after every picture.
#[allow(unsafe_code)] // the safe ways to name an interest are deprecated
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and names one descriptor for as long as it lives, and the AsyncFd
    // owns it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Sets the code point of all that is sent (RFC 2474: the upper six bits of the field).
fn mark(fd: &OwnedFd, is_v6: bool, dscp: u8) {
    if dscp == 0 {
        return;
    }
    let field = i32::from(dscp & 0x3f) << 2;
    let set = if is_v6 {
        setsockopt(fd, sockopt::Ipv6TClass, &field)
    } else {
        setsockopt(fd, sockopt::Ipv4Tos, &field)
    };
    if let Err(errno) = set {
        warn!(dscp, is_v6, %errno, "ice.dscp cannot be set: media is not marked");
    }
}

/// Asks for our sizes; what was granted is in the log line of the port. Past
/// `net.core.{w,r}mem_max` only a process with CAP_NET_ADMIN gets them.
fn size_buffers(fd: &OwnedFd, send_buffer: usize) {
    // A refusal leaves the system's default, which works too.
    if setsockopt(fd, sockopt::SndBufForce, &send_buffer).is_err() {
        let _ = setsockopt(fd, sockopt::SndBuf, &send_buffer);
    }
    if setsockopt(fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
}
