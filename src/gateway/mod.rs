//! The one top state machine: cameras, their hubs, their viewers.
//!
//! In: datagrams, source events, commands, time. Out: datagrams, demands to sources, outcomes,
//! a time to be called again and why.
//! Not here: sockets and clocks (daemon), SDP (session), HTTP (whep).
//!
//! After each `handle_*` call [`Gateway::poll_output`] until it says [`Output::Wait`]. Viewers
//! are served one by one there, so the first one's packets leave before the last one's are made.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod camera;
mod commands;
mod counters;
mod demux;
mod error_log;
mod rate;
mod status;
mod viewer;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::config::Config;
use crate::media::histogram::Histogram;
use crate::media::{CameraId, Demand, SourceEvent, Stages};
use crate::session::queue::Pacer;
use crate::session::{Certificate, Datagram, End};

pub use counters::Counters;

use camera::Camera;
use demux::Demux;
use viewer::{Viewer, ViewerId};

/// What the driver shall do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send what was put into the outbox: all of it is for one viewer.
    Send {
        /// The newest live picture that left completely with it.
        completes: Option<Completed>,
    },
    /// Tell this camera's source.
    Demand(CameraId, Demand),
    /// Nothing before `until`.
    Wait { until: Instant, why: Wake },
}

/// A picture whose last packet left, to one viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    pub camera: CameraId,
    /// When it had been received.
    pub received: Instant,
}

/// What a wait is for; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nothing is waited for; the driver looks again after a while.
    Nothing,
    /// A viewer's ICE, DTLS, RTCP or pace.
    Viewer,
    /// A camera's key-frame request or linger.
    Camera,
}

/// Everything at once.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    certificate: Certificate,
    rng: StdRng,
    /// By [`CameraId`].
    cameras: Vec<Camera>,
    viewers: BTreeMap<ViewerId, Viewer>,
    demux: Demux,
    /// Viewers with something to do, oldest first, each at most once.
    dirty: VecDeque<ViewerId>,
    /// Who comes first moves on with each turn: where `limits.egress` is too small for all,
    /// nobody shall always be the last.
    rotation: usize,
    next_viewer: u64,
    is_draining: bool,
    common: Common,
}

/// See [`Gateway::footprint`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub viewers: usize,
    pub watching: usize,
    pub addresses: usize,
    pub ufrags: usize,
    pub queued_bytes: usize,
}

/// What all viewers share.
#[derive(Debug)]
struct Common {
    counters: Counters,
    /// `limits.egress`
    egress: Pacer,
    /// POST to last packet of the first key frame, of each viewer.
    joins: Histogram,
}

/// The common pace of all viewers lets this much of a second pass at once.
const EGRESS_BURST_SECONDS: f64 = 0.05;
/// Without timers, the driver is asked to look again after this long.
const IDLE: Duration = Duration::from_secs(1);

impl Gateway {
    /// A gateway for these cameras. `now` is the zero of its media time, `seed` makes session
    /// keys and must be unguessable.
    pub fn new(config: Config, certificate: Certificate, seed: [u8; 32], now: Instant) -> Self {
        let cameras = config.cameras.iter().enumerate();
        let burst = config.limits.egress as f64 / 8.0 * EGRESS_BURST_SECONDS;
        Self {
            cameras: cameras
                .map(|(i, camera)| Camera::new(CameraId(i as u32), camera, &config.ice, now))
                .collect(),
            common: Common {
                counters: Counters::default(),
                egress: Pacer::with_burst(config.limits.egress, burst, now),
                joins: Histogram::default(),
            },
            config,
            certificate,
            rng: StdRng::from_seed(seed),
            viewers: BTreeMap::new(),
            demux: Demux::default(),
            dirty: VecDeque::new(),
            rotation: 0,
            next_viewer: 1,
            is_draining: false,
        }
    }

    /// Takes a datagram that came to the media port at `to`. What belongs to no viewer is
    /// dropped and counted.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        self.common.counters.datagrams_in += 1;
        // Anybody can send here: where reading it panics, it is a stranger's.
        let found = catch_unwind(AssertUnwindSafe(|| self.demux.find(from, bytes)));
        let Some(id) = found.ok().flatten() else {
            self.common.counters.datagrams_unknown += 1;
            return;
        };
        self.with_viewer(id, |viewer, _| {
            let to = viewer.candidate_for(to);
            viewer.session.handle_datagram(now, from, to, bytes);
        });
    }

    /// The kernel refused so many datagrams to this peer: they are lost.
    pub fn handle_refused(&mut self, to: SocketAddr, datagrams: u64) {
        self.common.counters.datagrams_refused += datagrams;
        if let Some(id) = self.demux.find_address(to) {
            self.with_viewer(id, |viewer, _| viewer.session.on_refused());
        }
    }

    /// Takes what a source says.
    pub fn handle_source(&mut self, now: Instant, id: CameraId, event: SourceEvent) {
        self.with_camera(now, id, |camera| camera.on_event(now, event));
    }

    /// A camera's bytes are a stranger's, too: a panic over them costs its stream up to the next
    /// key frame.
    fn with_camera(
        &mut self,
        now: Instant,
        id: CameraId,
        act: impl FnOnce(&mut Camera) -> camera::Reaction,
    ) {
        let Some(camera) = self.cameras.get_mut(id.0 as usize) else {
            return;
        };
        let reaction = catch_unwind(AssertUnwindSafe(|| act(camera)));
        match reaction.unwrap_or_else(|_| camera.on_panic(now)) {
            camera::Reaction::None => {}
            camera::Reaction::Restarted => self.for_viewers_of(id, |viewer| {
                viewer.session.await_key_frame();
            }),
            camera::Reaction::Frame(frame) => {
                self.common.counters.frames += 1;
                self.for_viewers_of(id, |viewer| viewer.session.push_frame(&frame));
            }
        }
    }

    /// One picture took so long before it came here, and here. Only the driver has a clock for it.
    pub fn handle_timing(&mut self, id: CameraId, before: Stages, here: Duration) {
        if let Some(camera) = self.cameras.get_mut(id.0 as usize) {
            camera.stages.record(before, here);
        }
    }

    /// What [`Output::Send`] completes was with the kernel at `now`.
    pub fn handle_completed(&mut self, now: Instant, completed: Completed) {
        if let Some(camera) = self.cameras.get_mut(completed.camera.0 as usize) {
            let took = now.saturating_duration_since(completed.received);
            camera.stages.sent.record(took);
        }
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        let slack = now + crate::session::SLACK;
        let mut due: Vec<ViewerId> = self
            .viewers
            .iter()
            .filter(|(_, viewer)| viewer.poll_timeout() <= slack)
            .map(|(id, _)| *id)
            .collect();
        let first = self.rotate(due.len());
        due.rotate_left(first);
        for id in due {
            self.with_viewer(id, |viewer, _| viewer.on_timeout(now));
        }
    }

    /// What to do next. `outbox` must be empty; its room is reused.
    pub fn poll_output(&mut self, now: Instant, outbox: &mut Vec<Datagram>) -> Output {
        loop {
            if let Some(demand) = self.poll_cameras(now) {
                return demand;
            }
            let Some(id) = self.dirty.pop_front() else {
                break;
            };
            if let Some(output) = self.serve(now, id, outbox) {
                return output;
            }
        }
        self.poll_wait(now)
    }

    fn poll_cameras(&mut self, now: Instant) -> Option<Output> {
        let is_draining = self.is_draining;
        self.cameras.iter_mut().find_map(|camera| {
            let demand = camera.poll_demand(now, is_draining)?;
            self.common.counters.key_frames_forced += u64::from(demand == Demand::KeyFrame);
            Some(Output::Demand(camera.id, demand))
        })
    }

    /// Gives one viewer its turn; a panic in it costs that viewer alone.
    fn serve(&mut self, now: Instant, id: ViewerId, outbox: &mut Vec<Datagram>) -> Option<Output> {
        let turn = catch_unwind(AssertUnwindSafe(|| self.give_turn(now, id, outbox)));
        let output = turn.unwrap_or_else(|_| {
            self.on_panic(id);
            outbox.clear();
            None
        });
        if self.viewers.get(&id).is_some_and(Viewer::is_over) {
            self.remove(now, id);
        }
        output
    }

    fn give_turn(
        &mut self,
        now: Instant,
        id: ViewerId,
        outbox: &mut Vec<Datagram>,
    ) -> Option<Output> {
        let viewer = self.viewers.get_mut(&id).filter(|v| !v.is_broken)?;
        viewer.is_dirty = false;
        let completes = viewer.session.pump(now, &mut self.common.egress);
        self.common.counters.add(viewer.session.take_drops());
        self.common.counters.on_held(viewer.session.held_by(now));
        self.take_events(now, id);
        let viewer = self.viewers.get_mut(&id)?;
        let camera = viewer.camera;
        let completes = completes.map(|received| Completed { camera, received });
        viewer.session.take_datagrams(outbox);
        viewer.readdress(outbox);
        if let Some(path) = viewer.new_path(outbox) {
            self.demux.select(path, id);
        }
        (!outbox.is_empty()).then_some(Output::Send { completes })
    }

    fn poll_wait(&self, now: Instant) -> Output {
        let viewers = self
            .viewers
            .values()
            .map(|v| (v.poll_timeout(), Wake::Viewer));
        let cameras = self.cameras.iter().filter_map(Camera::poll_timeout);
        let cameras = cameras.map(|at| (at, Wake::Camera));
        let (until, why) = viewers
            .chain(cameras)
            .min_by_key(|(at, _)| *at)
            .filter(|(at, _)| *at < now + IDLE)
            .unwrap_or((now + IDLE, Wake::Nothing));
        Output::Wait { until, why }
    }

    /// Ends every session and lets go of every camera.
    pub fn drain(&mut self) {
        self.is_draining = true;
        let all: Vec<ViewerId> = self.viewers.keys().copied().collect();
        for id in all {
            self.with_viewer(id, |viewer, _| viewer.session.close(End::Drained));
        }
    }

    /// After [`Self::drain`]: nothing is left.
    pub fn is_drained(&self) -> bool {
        self.is_draining && self.viewers.is_empty() && self.cameras.iter().all(Camera::is_closed)
    }

    /// Counters since start.
    pub fn counters(&self) -> &Counters {
        &self.common.counters
    }

    /// How long each viewer waited, from its POST to the last packet of its first key frame.
    pub fn joins(&self) -> &Histogram {
        &self.common.joins
    }

    /// Makes the session that comes `nth` panic, for the test that this costs it alone.
    #[doc(hidden)]
    #[allow(clippy::panic)]
    pub fn break_session(&mut self, nth: usize) {
        if let Some(id) = self.viewers.keys().nth(nth).copied() {
            self.with_viewer(id, |_, _| panic!("broken on purpose"));
        }
    }

    /// Makes this camera's hub panic, for the test that this costs no more than pictures.
    #[doc(hidden)]
    #[allow(clippy::panic)]
    pub fn break_camera(&mut self, now: Instant, id: CameraId) {
        self.with_camera(now, id, |_| panic!("broken on purpose"));
    }

    /// How much is held, for tests that look for growth.
    #[doc(hidden)]
    pub fn footprint(&self) -> Footprint {
        let (addresses, ufrags) = self.demux.len();
        let queued = self.viewers.values().map(|v| v.session.queued_bytes());
        Footprint {
            viewers: self.viewers.len(),
            watching: self.cameras.iter().map(|c| c.viewers.len()).sum(),
            addresses,
            ufrags,
            queued_bytes: queued.sum(),
        }
    }

    /// Where to begin among so many.
    fn rotate(&mut self, len: usize) -> usize {
        self.rotation = self.rotation.wrapping_add(1);
        self.rotation % len.max(1)
    }

    fn for_viewers_of(&mut self, id: CameraId, mut act: impl FnMut(&mut Viewer)) {
        let ids = Arc::clone(&self.cameras[id.0 as usize].viewers);
        let (after, before) = ids.split_at(self.rotate(ids.len()));
        for viewer in before.iter().chain(after) {
            self.with_viewer(*viewer, |viewer, _| act(viewer));
        }
    }
}
