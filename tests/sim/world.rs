//! The whole system under simulated time.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pinhole::config::{self, Config};
use pinhole::gateway::{Counters, Gateway, Output};
use pinhole::media::{CameraId, SourceEvent};
use pinhole::session::{Certificate, Datagram, install_crypto, new_certificate};
use pinhole::whep::status::{CameraStatus, SessionStatus};
use pinhole::whep::{Command, ETag, Outcome, Refusal, SessionKey};
use str0m::Candidate;
use url::Url;

use crate::camera::Camera;
use crate::link::{Link, Quality, is_media};
use crate::peer::{Habits, Peer};

/// A viewer and its two directions of network.
pub struct Viewer {
    pub peer: Peer,
    pub down: Link,
    pub up: Link,
    pub key: SessionKey,
    pub etag: ETag,
    pub posted: Instant,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub gateway: Gateway,
    pub cameras: Vec<Camera>,
    pub viewers: Vec<Viewer>,
    pub seed: u64,
    outbox: Vec<Datagram>,
    wake: Instant,
    /// Viewers that ever asked to join.
    pub joined: u64,
    /// The gateway's datagrams, in all.
    pub sent: u64,
    /// Turns of the gateway.
    pub turns: u64,
    /// Waits that were over before they began: a board would spin.
    pub spins: u64,
    /// The kernel refuses the next so many packets of pictures.
    pub refuse_next: u64,
}

pub const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 8555);

/// A configuration with so many cameras `cam0`, `cam1` ...
pub fn config(cameras: usize) -> Config {
    let source = || {
        config::Source::Rtsp(config::Rtsp {
            url: Url::parse("rtsp://camera.invalid/").unwrap(),
            credentials: None,
            transport: config::Transport::Auto,
        })
    };
    Config {
        cameras: (0..cameras)
            .map(|i| config::Camera::new(format!("cam{i}"), source()))
            .collect(),
        ..Config::default()
    }
}

fn certificate() -> Certificate {
    install_crypto();
    new_certificate().expect("randomness")
}

impl World {
    /// One world, its cameras made by `camera`.
    pub fn new(seed: u64, config: Config, camera: impl Fn(Instant) -> Camera) -> Self {
        println!("seed {seed}");
        let start = Instant::now();
        let cameras = config.cameras.iter().map(|_| camera(start)).collect();
        let mut world = Self {
            gateway: Gateway::new(config, certificate(), [seed as u8; 32], start),
            start,
            now: start,
            cameras,
            viewers: Vec::new(),
            seed,
            outbox: Vec::new(),
            wake: start,
            joined: 0,
            sent: 0,
            turns: 0,
            spins: 0,
            refuse_next: 0,
        };
        world.settle();
        world
    }

    /// One camera that cannot be asked for key frames.
    pub fn passthrough(seed: u64) -> Self {
        Self::new(seed, config(1), Camera::new)
    }

    /// One camera that can.
    pub fn forcing(seed: u64) -> Self {
        Self::new(seed, config(1), Camera::forcing)
    }

    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    pub fn run_until(&mut self, until: Instant) {
        while let Some(next) = self.next_at().filter(|at| *at <= until) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = until;
        // Timers that are due at once are rounding; a gateway that asks for nothing else spins.
        let (spins, turns) = (self.spins, self.turns);
        assert!(spins <= 100 + turns / 100, "{spins} of {turns} turns spun");
    }

    /// Runs until `done`, at most for `limit`; tells whether it came to that.
    pub fn run_while(&mut self, limit: Duration, mut busy: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + limit;
        while busy(self) {
            let Some(next) = self.next_at().filter(|at| *at <= until) else {
                self.now = until;
                return !busy(self);
            };
            self.now = self.now.max(next);
            self.step();
        }
        true
    }

    fn next_at(&self) -> Option<Instant> {
        let cameras = self.cameras.iter().filter_map(Camera::next_at);
        let links = self
            .viewers
            .iter()
            .flat_map(|v| [v.down.next_at(), v.up.next_at()])
            .flatten();
        let peers = self.viewers.iter().filter(|v| !v.peer.is_closed);
        let peers = peers.map(|v| v.peer.next_at());
        cameras.chain(links).chain(peers).chain([self.wake]).min()
    }

    fn step(&mut self) {
        let now = self.now;
        for i in 0..self.cameras.len() {
            if self.cameras[i].next_at().is_some_and(|at| at <= now) {
                let event = self.cameras[i].take(now);
                self.tell(i, event);
            }
        }
        for viewer in &mut self.viewers {
            while let Some(packet) = viewer.up.receive(now) {
                let (from, to) = (packet.from, packet.to);
                self.gateway.handle_datagram(now, from, to, &packet.bytes);
            }
            while let Some(packet) = viewer.down.receive(now) {
                viewer.peer.receive(now, packet.from, &packet.bytes);
            }
            if !viewer.peer.is_closed && viewer.peer.next_at() <= now {
                viewer.peer.handle_timeout(now);
            }
        }
        if self.wake <= now {
            self.gateway.handle_timeout(now);
        }
        self.settle();
    }

    /// Tells the gateway what camera `i` says.
    pub fn tell(&mut self, i: usize, event: SourceEvent) {
        let id = CameraId(i as u32);
        self.gateway.handle_source(self.now, id, event);
        self.settle();
    }

    fn settle(&mut self) {
        let now = self.now;
        self.turns += 1;
        loop {
            match self.gateway.poll_output(now, &mut self.outbox) {
                Output::Send { completes } => {
                    self.deliver();
                    if let Some(completed) = completes {
                        self.gateway.handle_completed(now, completed);
                    }
                }
                Output::Demand(id, demand) => {
                    let camera = &mut self.cameras[id.0 as usize];
                    for event in camera.demand(now, demand) {
                        self.gateway.handle_source(now, id, event);
                    }
                }
                Output::Wait { until, .. } => {
                    self.spins += u64::from(until <= now);
                    self.wake = until.max(now + Duration::from_micros(50));
                    break;
                }
            }
        }
        for viewer in &mut self.viewers {
            for (from, to, bytes) in viewer.peer.outbox.drain(..) {
                viewer.up.send(now, from, to, bytes);
            }
        }
    }

    fn deliver(&mut self) {
        for datagram in self.outbox.drain(..) {
            assert!(datagram.bytes.len() <= config::Ice::default().mtu);
            if self.refuse_next > 0 && is_media(&datagram.bytes) {
                self.refuse_next -= 1;
                self.gateway.handle_refused(datagram.to, 1);
                continue;
            }
            self.sent += 1;
            let viewer = self
                .viewers
                .iter_mut()
                .find(|v| v.peer.address == datagram.to);
            if let Some(viewer) = viewer {
                let Datagram { from, to, bytes } = datagram;
                viewer.down.send(self.now, from, to, bytes);
            }
        }
    }

    /// A viewer posts its offer for camera `i`; gives its index.
    pub fn join(&mut self, i: usize, habits: Habits, quality: Quality) -> usize {
        self.try_join(i, habits, quality).expect("admitted")
    }

    pub fn try_join(
        &mut self,
        i: usize,
        habits: Habits,
        quality: Quality,
    ) -> Result<usize, Refusal> {
        self.try_join_with(i, habits, quality, |offer| offer)
    }

    /// A viewer whose offer reaches the gateway as `edit` leaves it.
    pub fn try_join_with(
        &mut self,
        i: usize,
        habits: Habits,
        quality: Quality,
        edit: impl FnOnce(String) -> String,
    ) -> Result<usize, Refusal> {
        let index = self.viewers.len();
        let number = self.joined;
        self.joined += 1;
        let port = 10_000 + (number % 50_000) as u16;
        let address = SocketAddr::from(([10, 0, 1, (number % 250) as u8], port));
        let (peer, offer) = Peer::new(self.now, address, habits);
        let (key, etag, answer) = self.post(i, edit(offer), address.ip())?;
        let link = |direction: u64| {
            let seed = self.seed * 1_000_003 + number * 2 + direction;
            Link::new(quality, seed, self.start)
        };
        self.viewers.push(Viewer {
            peer,
            down: link(0),
            up: link(1),
            key,
            etag,
            posted: self.now,
        });
        let now = self.now;
        self.viewers[index].peer.accept(now, &answer);
        self.settle();
        Ok(index)
    }

    pub fn post(
        &mut self,
        i: usize,
        offer: String,
        peer: IpAddr,
    ) -> Result<(SessionKey, ETag, String), Refusal> {
        let camera = format!("cam{i}");
        let open = Command::Open {
            camera,
            offer,
            peer,
        };
        match self.command(open) {
            Outcome::Opened {
                session,
                etag,
                answer,
            } => Ok((session, etag, answer)),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub fn command(&mut self, command: Command) -> Outcome {
        let candidates = [SocketAddr::from(SERVER)];
        let outcome = self.gateway.handle_command(self.now, command, &candidates);
        self.settle();
        outcome
    }

    /// A viewer on a good line that has been watching for a second.
    pub fn watch(&mut self, i: usize) -> usize {
        let viewer = self.join(i, Habits::BROWSER, Quality::PERFECT);
        self.run_for(Duration::from_secs(1));
        assert!(!self.viewers[viewer].peer.shown.is_empty(), "nothing shown");
        viewer
    }

    pub fn peer(&self, viewer: usize) -> &Peer {
        &self.viewers[viewer].peer
    }

    pub fn peer_mut(&mut self, viewer: usize) -> &mut Peer {
        &mut self.viewers[viewer].peer
    }

    /// The viewer closes its side by DTLS.
    pub fn leave(&mut self, viewer: usize) {
        let now = self.now;
        self.peer_mut(viewer).leave(now);
        self.settle();
    }

    /// A WHEP DELETE for the viewer's session, which goes away whatever the answer.
    pub fn delete(&mut self, viewer: usize) -> Outcome {
        let session = self.viewers[viewer].key;
        let outcome = self.command(Command::Close { session });
        self.peer_mut(viewer).is_closed = true;
        outcome
    }

    /// The process shuts down.
    pub fn drain(&mut self) {
        self.gateway.drain();
        self.settle();
    }

    /// The session that comes `nth` panics.
    pub fn break_session(&mut self, nth: usize) {
        self.gateway.break_session(nth);
        self.settle();
    }

    /// The hub of camera `i` panics.
    pub fn break_camera(&mut self, i: usize) {
        self.gateway.break_camera(self.now, CameraId(i as u32));
        self.settle();
    }

    /// The viewer is seen at another address from now on.
    pub fn move_viewer(&mut self, viewer: usize, address: SocketAddr) {
        let peer = self.peer_mut(viewer);
        peer.address = address;
        let candidate = Candidate::host(address, "udp").unwrap();
        peer.rtc.add_local_candidate(candidate);
    }

    /// The viewer asks for a key frame.
    pub fn request_key_frame(&mut self, viewer: usize) {
        let now = self.now;
        self.peer_mut(viewer).request_key_frame(now);
        self.settle();
    }

    /// Somebody sends bytes to the media port.
    pub fn inject(&mut self, from: SocketAddr, bytes: &[u8]) {
        let to = SocketAddr::from(SERVER);
        self.gateway.handle_datagram(self.now, from, to, bytes);
        self.settle();
    }

    /// Forgets viewers that are gone; the others get new indices.
    pub fn forget_closed(&mut self) {
        self.viewers.retain(|v| !v.peer.is_closed);
    }

    pub fn status(&self, i: usize) -> CameraStatus {
        self.gateway.camera_statuses(self.now).remove(i)
    }

    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.gateway.session_statuses(self.now)
    }

    pub fn counters(&self) -> Counters {
        *self.gateway.counters()
    }

    /// Number of the newest picture that camera `i` took.
    pub fn newest(&self, i: usize) -> u64 {
        self.cameras[i].number - 1
    }

    /// Camera `i` goes away and is tried again at `retry`.
    pub fn kill_camera(&mut self, i: usize, retry: Duration) {
        let down = self.cameras[i].die(self.now + retry);
        self.tell(i, down);
    }

    pub fn revive_camera(&mut self, i: usize) {
        let now = self.now;
        for event in self.cameras[i].open(now) {
            self.tell(i, event);
        }
    }
}
