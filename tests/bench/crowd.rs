//! Viewers with sockets, all on this thread: they receive, answer, count and discard.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};

use crate::process::Pinhole;
use crate::rtsp_camera::{Camera, Written, tail, wall_clock};
use crate::viewer::Viewer;

struct Client {
    viewer: Viewer,
    socket: UdpSocket,
    session: String,
    /// When the last packet of its first frame came, nanoseconds of the wall clock.
    first_frame: Option<u64>,
}

pub struct Crowd {
    clients: Vec<Client>,
    written: Written,
    arrivals: Arrivals,
    counted_from: (u64, u64),
}

/// When the pictures came: by the moment when the camera wrote each, the first and the last
/// arrival after that, and how many.
type Arrivals = HashMap<u64, (u64, u64, usize)>;

pub struct Heard {
    pub packets: u64,
    pub frames: u64,
    pub losses: u64,
    pub latencies: Latencies,
}

/// From the camera's last write to the arrival of the last packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    /// At the viewer that is served first, median.
    pub first: Duration,
    /// At the one served last, median.
    pub last: Duration,
    /// The same, 99th percentile.
    pub last99: Duration,
}

impl Crowd {
    pub fn new(camera: &Camera) -> Self {
        Self {
            clients: Vec::new(),
            written: camera.written.clone(),
            arrivals: Arrivals::new(),
            counted_from: (0, 0),
        }
    }

    pub fn join(&mut self, pinhole: &Pinhole) -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RcvBuf, &(1 << 22))?;
        let (mut viewer, offer) = Viewer::new(Instant::now(), socket.local_addr()?);
        let reply = pinhole.request("POST", "/whep/cam", &offer)?;
        let (head, answer) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        if !head.starts_with("HTTP/1.1 201") {
            return Err(io::Error::other(reply));
        }
        let mut lines = head.lines();
        let session = lines.find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location")
                .then(|| value.to_owned())
        });
        viewer.accept(Instant::now(), answer);
        self.clients.push(Client {
            viewer,
            socket,
            session: session.unwrap_or_default(),
            first_frame: None,
        });
        Ok(())
    }

    /// One viewer comes, sees its first picture and goes. From POST to that picture.
    pub fn join_and_leave(&mut self, pinhole: &Pinhole) -> io::Result<Duration> {
        let begun = wall_clock();
        self.join(pinhole)?;
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            self.turn(Instant::now() + Duration::from_millis(20));
            let first = self.clients.last().and_then(|c| c.first_frame);
            if let Some(at) = first {
                let client = self.clients.pop();
                pinhole.request("DELETE", &client.map_or(String::new(), |c| c.session), "")?;
                return Ok(Duration::from_nanos(at.saturating_sub(begun)));
            }
            if Instant::now() > limit {
                return Err(io::Error::other("no picture within ten seconds"));
            }
        }
    }

    /// Serves the viewers for so long. How long it really was.
    pub fn run_for(&mut self, span: Duration) -> Duration {
        let begun = Instant::now();
        while begun.elapsed() < span {
            self.turn(begun + span);
        }
        begun.elapsed()
    }

    fn turn(&mut self, until: Instant) {
        let due = self.clients.iter().map(|c| c.viewer.timeout);
        let due = due.min().map_or(until, |at| at.min(until));
        let wait = due.saturating_duration_since(Instant::now()).as_millis() as u16 + 1;
        let fds = self.clients.iter().map(|c| c.socket.as_fd());
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, PollTimeout::from(wait));
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for (client, is_ready) in self.clients.iter_mut().zip(ready) {
            if is_ready {
                client.receive(&self.written, &mut self.arrivals);
            }
            let now = Instant::now();
            if client.viewer.timeout <= now {
                client.viewer.handle_timeout(now);
            }
            client.send();
        }
    }

    /// What came before does not count.
    pub fn start_counting(&mut self) {
        self.arrivals.clear();
        self.counted_from = self.sums();
    }

    fn sums(&self) -> (u64, u64) {
        let viewers = || self.clients.iter().map(|c| &c.viewer);
        (
            viewers().map(|v| v.packets).sum(),
            viewers().map(|v| v.frames).sum(),
        )
    }

    pub fn heard(&self) -> Heard {
        let (packets, frames) = self.sums();
        Heard {
            packets: packets - self.counted_from.0,
            frames: frames - self.counted_from.1,
            losses: self.clients.iter().map(|c| c.viewer.losses).sum(),
            latencies: self.latencies(),
        }
    }

    fn latencies(&self) -> Latencies {
        // Pictures that everybody got; the ones at the edges of the time counted did not.
        let whole = self
            .arrivals
            .iter()
            .filter(|(_, a)| a.2 == self.clients.len());
        let (mut first, mut last): (Vec<u64>, Vec<u64>) = whole
            .map(|(at, a)| (a.0.saturating_sub(*at), a.1.saturating_sub(*at)))
            .unzip();
        first.sort_unstable();
        last.sort_unstable();
        let pick = |times: &[u64], percent: usize| {
            let at = times.len() * percent / 100;
            times
                .get(at)
                .copied()
                .map_or(Duration::MAX, Duration::from_nanos)
        };
        Latencies {
            first: pick(&first, 50),
            last: pick(&last, 50),
            last99: pick(&last, 99),
        }
    }
}

impl Client {
    fn receive(&mut self, written: &Written, arrivals: &mut Arrivals) {
        let mut buffer = [0; 2048];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = self.socket.as_raw_fd();
            let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags);
            let (len, from, at) = match message {
                Ok(message) => {
                    let stamp = message.cmsgs().ok().and_then(|mut c| c.find_map(stamp));
                    (message.bytes, message.address, stamp)
                }
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let Some(from) = from.as_ref().and_then(SockaddrStorage::as_sockaddr_in) else {
                continue;
            };
            let from = SocketAddr::from((from.ip(), from.port()));
            let at = at.unwrap_or_else(wall_clock);
            let first_frame = &mut self.first_frame;
            self.viewer
                .receive(Instant::now(), from, &buffer[..len], |packet| {
                    if packet.header.marker {
                        first_frame.get_or_insert(at);
                        note(&packet.payload, at, written, arrivals);
                    }
                });
            self.send();
        }
    }

    fn send(&mut self) {
        for (to, bytes) in self.viewer.outbox.drain(..) {
            let _ = self.socket.send_to(&bytes, to);
        }
    }
}

fn note(payload: &[u8], at: u64, written: &Written, arrivals: &mut Arrivals) {
    let written = written.lock().ok();
    let written = tail(payload)
        .zip(written)
        .and_then(|(name, w)| w.get(&name).copied());
    if let Some(written) = written {
        let entry = arrivals.entry(written).or_insert((at, at, 0));
        *entry = (entry.0.min(at), entry.1.max(at), entry.2 + 1);
    }
}

fn stamp(message: ControlMessageOwned) -> Option<u64> {
    match message {
        ControlMessageOwned::ScmTimestampns(at) => {
            Some(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64)
        }
        _ => None,
    }
}
