//! One viewer as the gateway sees it: a session with its name, its camera and its deadlines.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::rate::Rate;
use super::{Common, Gateway};
use crate::hub::Replay;
use crate::media::CameraId;
use crate::media::frame::Need;
use crate::session::{Datagram, End, Event, KeyFrameReason, Session, State};
use crate::whep::{ETag, SessionKey};

/// Names a viewer in the log. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ViewerId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) session: Session,
    pub(super) camera: CameraId,
    pub(super) key: SessionKey,
    pub(super) etag: ETag,
    pub(super) peer: IpAddr,
    pub(super) opened: Instant,
    /// The state seen last, and since when.
    pub(super) state: State,
    pub(super) since: Instant,
    /// POST to last packet of the first key frame.
    pub(super) first_picture: Option<Duration>,
    pub(super) rate: Rate,
    pub(super) is_dirty: bool,
    /// Its session panicked: it is not touched again, and removed in its next turn.
    pub(super) is_broken: bool,
    /// Where its handshake and media go: the pair that ICE has selected.
    path: Option<SocketAddr>,
    /// Half-open until then, or expired then.
    deadline: Option<Instant>,
    /// An ICE restart that has found no path by then finds nobody: media goes on over the old path
    /// meanwhile, and nothing else would tell that the viewer is not there any more (RFC 7675).
    restart_deadline: Option<Instant>,
    setup_timeout: Duration,
    session_age: Option<Duration>,
    /// With `ice.advertise`, one for each family at most.
    aliases: Vec<Alias>,
}

/// A candidate that no interface of ours has (`ice.advertise`), and the address of ours that
/// its datagrams come to, once one came.
#[derive(Clone, Copy, Debug)]
struct Alias {
    candidate: SocketAddr,
    local: Option<SocketAddr>,
}

/// What a new viewer is made of.
pub(super) struct NewViewer {
    pub(super) session: Session,
    pub(super) camera: CameraId,
    pub(super) key: SessionKey,
    pub(super) etag: ETag,
    pub(super) peer: IpAddr,
    pub(super) setup_timeout: Duration,
    pub(super) session_age: Option<Duration>,
    /// Candidates that stand for addresses of ours.
    pub(super) advertised: Vec<SocketAddr>,
}

impl Viewer {
    pub(super) fn new(now: Instant, new: NewViewer) -> Self {
        Self {
            state: new.session.state(),
            session: new.session,
            camera: new.camera,
            key: new.key,
            etag: new.etag,
            peer: new.peer,
            opened: now,
            since: now,
            first_picture: None,
            rate: Rate::new(now),
            is_dirty: false,
            is_broken: false,
            path: None,
            deadline: Some(now + new.setup_timeout),
            restart_deadline: None,
            setup_timeout: new.setup_timeout,
            session_age: new.session_age,
            aliases: aliases(&new.advertised),
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let deadlines = [self.deadline, self.restart_deadline].into_iter().flatten();
        deadlines.fold(self.session.poll_timeout(), Instant::min)
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        let is_lost = is_due(self.restart_deadline);
        if !is_lost && !is_due(self.deadline) {
            self.session.handle_timeout(now);
            return;
        }
        (self.deadline, self.restart_deadline) = (None, None);
        let why = match self.session.state() {
            State::Connecting => End::HalfOpen,
            State::Waiting | State::CatchingUp | State::Playing if is_lost => End::ConsentLost,
            State::Waiting | State::CatchingUp | State::Playing => End::Expired,
            State::Ended => return,
        };
        self.session.close(why);
    }

    /// ICE was restarted. One that is not connected yet has its deadline.
    pub(super) fn on_restart(&mut self, now: Instant) {
        if self.session.state() != State::Connecting {
            self.restart_deadline = Some(now + self.setup_timeout);
        }
    }

    fn on_connected(&mut self) {
        self.deadline = self.session_age.map(|age| self.opened + age);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_broken || self.session.state() == State::Ended
    }

    /// The candidate that a datagram to this local address belongs to.
    pub(super) fn candidate_for(&mut self, to: SocketAddr) -> SocketAddr {
        let mut aliases = self.aliases.iter_mut();
        match aliases.find(|alias| alias.candidate.is_ipv4() == to.is_ipv4()) {
            Some(alias) => {
                alias.local = Some(to);
                alias.candidate
            }
            None => to,
        }
    }

    /// The reverse of [`Self::candidate_for`].
    pub(super) fn readdress(&self, outbox: &mut [Datagram]) {
        for alias in &self.aliases {
            let of_alias = outbox.iter_mut().filter(|d| d.from == alias.candidate);
            of_alias.for_each(|datagram| datagram.from = alias.local.unwrap_or(datagram.from));
        }
    }

    /// Where its media goes, if that is not where it went before. STUN goes wherever a request
    /// came from, and says nothing (first byte 0 to 3, RFC 7983 section 7).
    pub(super) fn new_path(&mut self, outbox: &[Datagram]) -> Option<SocketAddr> {
        let is_media = |d: &&Datagram| d.bytes.first().is_some_and(|first| *first > 3);
        let path = outbox.iter().rfind(is_media)?.to;
        (self.path.replace(path) != Some(path)).then_some(path)
    }

    fn note_state(&mut self, now: Instant) {
        self.rate.observe(now, self.session.tally().bytes);
        let state = self.session.state();
        if state != self.state {
            self.state = state;
            self.since = now;
        }
    }
}

/// The first of each family.
fn aliases(advertised: &[SocketAddr]) -> Vec<Alias> {
    let first = |is_ipv4| advertised.iter().find(move |a| a.is_ipv4() == is_ipv4);
    let both = [first(true), first(false)].into_iter().flatten();
    both.map(|candidate| Alias {
        candidate: *candidate,
        local: None,
    })
    .collect()
}

impl Gateway {
    /// Does something with a viewer, which then gets its turn.
    pub(super) fn with_viewer(&mut self, id: ViewerId, act: impl FnOnce(&mut Viewer, &mut Common)) {
        self.guard(id, act);
        if let Some(viewer) = self.viewers.get_mut(&id)
            && !viewer.is_dirty
        {
            viewer.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Whatever a peer can bring about in a session is done in here or in a viewer's turn, which
    /// is guarded as well: a panic costs its viewer alone.
    pub(super) fn guard(&mut self, id: ViewerId, act: impl FnOnce(&mut Viewer, &mut Common)) {
        let Some(viewer) = self.viewers.get_mut(&id).filter(|v| !v.is_broken) else {
            return;
        };
        let common = &mut self.common;
        if catch_unwind(AssertUnwindSafe(|| act(viewer, common))).is_err() {
            self.on_panic(id);
        }
    }

    /// The viewer gets a last turn, in which it is removed.
    pub(super) fn on_panic(&mut self, id: ViewerId) {
        error!(viewer = id.0, "a session panicked and was dropped");
        self.common.counters.sessions_panicked += 1;
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.is_broken = true;
            self.dirty.push_back(id);
        }
    }

    /// Reacts to what a session has to say.
    pub(super) fn take_events(&mut self, now: Instant, id: ViewerId) {
        while let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.note_state(now);
            let Some(event) = viewer.session.poll_event() else {
                break;
            };
            match event {
                Event::Connected => {
                    viewer.on_connected();
                    self.common.counters.sessions_connected += 1;
                    debug!(viewer = id.0, took = ?now - viewer.opened, "viewer connected");
                    self.answer_need(now, id, Need::Join);
                }
                Event::Reconnected => viewer.restart_deadline = None,
                Event::KeyFrameNeeded(reason) => {
                    let is_early = reason == KeyFrameReason::Requested
                        && viewer.session.is_key_frame_on_its_way(now);
                    self.count_need(reason);
                    if is_early {
                        continue;
                    }
                    let need = match reason {
                        KeyFrameReason::Skipped => Need::Skip,
                        KeyFrameReason::Requested | KeyFrameReason::Unrepairable => Need::Recovery,
                    };
                    self.answer_need(now, id, need);
                }
                Event::Trouble(error) => {
                    info!(viewer = id.0, error, "trouble in the handshake of a viewer");
                }
                Event::FirstPicture => self.on_first_picture(now, id),
                Event::Ended(end) => self.on_ended(now, id, &end),
            }
        }
    }

    fn count_need(&mut self, reason: KeyFrameReason) {
        *match reason {
            KeyFrameReason::Requested => &mut self.common.counters.key_frame_requests,
            KeyFrameReason::Unrepairable => &mut self.common.counters.unrepairable_losses,
            KeyFrameReason::Skipped => &mut self.common.counters.skips,
        } += 1;
    }

    /// Gives a viewer something that decodes by itself, as soon as its camera allows.
    fn answer_need(&mut self, now: Instant, id: ViewerId, need: Need) {
        let limits = &self.config.limits;
        let share = limits.egress / self.viewers.len().max(1) as u64;
        let Some(viewer) = self.viewers.get_mut(&id) else {
            return;
        };
        let Some(camera) = self.cameras.get_mut(viewer.camera.0 as usize) else {
            return;
        };
        if need != Need::Join && viewer.session.has_replayed(camera.hub.gop()) {
            return;
        }
        let rate = match need {
            Need::Join | Need::Recovery => limits.egress_per_viewer,
            Need::Skip => limits.egress_per_viewer.min(share),
        };
        match camera.hub.answer(now, need, rate) {
            Replay::Nothing => return,
            // Older than what it shows: the next key frame is what helps.
            Replay::Still(_) if need == Need::Skip => return,
            Replay::Gop(frames) => viewer.session.replay(&frames, true, need),
            Replay::Still(key_frame) => {
                self.common.counters.stills += 1;
                viewer.session.replay(&[key_frame], false, need);
            }
        }
        self.common.counters.replays += 1;
        self.with_viewer(id, |_, _| {});
    }

    fn on_first_picture(&mut self, now: Instant, id: ViewerId) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            let took = now.saturating_duration_since(viewer.opened);
            viewer.first_picture = Some(took);
            self.common.joins.record(took);
            let camera = &self.cameras[viewer.camera.0 as usize].config.name;
            let first_picture_ms = took.as_millis() as u64;
            info!(viewer = id.0, %camera, peer = %viewer.peer, first_picture_ms, "viewer watches");
        }
    }

    fn on_ended(&mut self, now: Instant, id: ViewerId, end: &End) {
        let Some(viewer) = self.viewers.get(&id) else {
            return;
        };
        let watched = now.saturating_duration_since(viewer.opened);
        let watched_s = watched.as_secs();
        let counters = &mut self.common.counters;
        let (counter, why) = match end {
            End::Left => (&mut counters.sessions_left, "it left"),
            End::HalfOpen => (&mut counters.sessions_half_open_reaped, "never connected"),
            End::Expired => (&mut counters.sessions_expired, "limits.session_age"),
            End::Drained => (&mut counters.sessions_drained, "pinhole ends"),
            End::ConsentLost => (&mut counters.sessions_lost, "it answers no more"),
            End::Failed(_) => (&mut counters.sessions_failed, "it failed"),
        };
        *counter += 1;
        if let End::Failed(error) = end {
            warn!(viewer = id.0, watched_s, error, "viewer ended");
        } else {
            info!(viewer = id.0, watched_s, why, "viewer ended");
        }
        // What is queued (BYE, DTLS close) leaves in this turn, then it is removed.
        let camera = viewer.camera;
        if let Some(camera) = self.cameras.get_mut(camera.0 as usize) {
            camera.remove_viewer(now, id);
        }
    }

    /// Forgets a viewer. Its camera was told when it ended, unless it panicked.
    pub(super) fn remove(&mut self, now: Instant, id: ViewerId) {
        self.demux.forget(id);
        let Some(viewer) = self.viewers.remove(&id) else {
            return;
        };
        if let Some(camera) = self.cameras.get_mut(viewer.camera.0 as usize)
            && camera.viewers.contains(&id)
        {
            camera.remove_viewer(now, id);
        }
        // Even dropping what has panicked may panic.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(viewer)));
    }
}
