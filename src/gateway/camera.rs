//! One camera as the gateway sees it: the state of its source, its hub, who watches.

use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, error, info, warn};

use super::error_log::ErrorLog;
use super::viewer::ViewerId;
use crate::config;
use crate::hub::{Hub, Settings};
use crate::media::frame::Frame;
use crate::media::{Abilities, CameraId, Demand, DownReason, ErrorKind, Load, SourceEvent};
use crate::whep::status::{ErrorCounts, StageTimings};

/// Bytes of a datagram that are not payload: RTP header 12, playout delay 12 at most (8, unless the
/// viewer numbers its extensions beyond 14, RFC 8285 section 4.3), the number of what is sent again
/// 2 (RFC 4588 section 4), SRTP tag 16 at most (RFC 7714 section 13); in whole words.
const RTP_ROOM: usize = 44;
/// Notes kept of one run of a source; the oldest goes first.
const MAX_NOTES: usize = 8;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Closed on purpose: nobody watches.
    Idle,
    Opening,
    /// It answers, and no picture came yet.
    Waiting,
    Playing,
    Down {
        reason: DownReason,
        detail: String,
        retry_at: Option<Instant>,
    },
}

impl State {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Opening => "opening",
            Self::Waiting => "waiting",
            Self::Playing => "playing",
            Self::Down { .. } => "down",
        }
    }
}

/// What the viewers must be told.
#[derive(Debug)]
pub(super) enum Reaction {
    None,
    /// What comes next has nothing to do with what came before.
    Restarted,
    Frame(Arc<Frame>),
}

/// From the first failure on, until it plays again.
#[derive(Debug)]
struct Away {
    since: Instant,
    /// Reasons that the log has; each of them once.
    told: Vec<DownReason>,
}

#[derive(Debug)]
pub(super) struct Camera {
    pub(super) id: CameraId,
    pub(super) config: config::Camera,
    pub(super) hub: Hub,
    pub(super) state: State,
    pub(super) since: Instant,
    /// Shared, so that they can be walked while each is served.
    pub(super) viewers: Arc<Vec<ViewerId>>,
    pub(super) restarts: u64,
    pub(super) errors: ErrorCounts,
    error_log: ErrorLog,
    away: Option<Away>,
    pub(super) notes: Vec<String>,
    pub(super) load: Option<Box<Load>>,
    pub(super) stages: StageTimings,
    /// It has played, and has not been down since.
    is_proven: bool,
    /// What the source was told last.
    is_wanted: bool,
    /// Nobody watches an `on_demand` camera since; closed at this moment.
    close_at: Option<Instant>,
}

impl Camera {
    pub(super) fn new(
        id: CameraId,
        config: &config::Camera,
        ice: &config::Ice,
        now: Instant,
    ) -> Self {
        Self {
            id,
            hub: Hub::new(Settings {
                payload: ice.mtu.saturating_sub(RTP_ROOM),
                gop_cache: config.gop_cache,
                epoch: now,
            }),
            config: config.clone(),
            state: State::Idle,
            since: now,
            viewers: Arc::default(),
            restarts: 0,
            errors: ErrorCounts::default(),
            error_log: ErrorLog::default(),
            away: None,
            notes: Vec::new(),
            load: None,
            stages: StageTimings::default(),
            is_proven: false,
            is_wanted: false,
            close_at: None,
        }
    }

    pub(super) fn on_event(&mut self, now: Instant, event: SourceEvent) -> Reaction {
        self.error_log.poll(now, &self.config.name);
        match event {
            SourceEvent::Opening => {
                self.notes.clear();
                if self.config.on_demand && self.state == State::Idle {
                    info!(camera = %self.config.name, "camera opens for a viewer");
                }
                self.enter(now, State::Opening)
            }
            SourceEvent::Playing(abilities) => {
                self.hub.restart(abilities);
                self.enter(now, State::Waiting);
                Reaction::Restarted
            }
            SourceEvent::Note(note) => {
                debug!(camera = %self.config.name, note, "note");
                if self.notes.len() == MAX_NOTES {
                    self.notes.remove(0);
                }
                self.notes.push(note);
                Reaction::None
            }
            SourceEvent::Load(load) => {
                self.on_load(load);
                Reaction::None
            }
            SourceEvent::Unit(unit) => match self.hub.push_unit(now, &unit) {
                Some(frame) => {
                    self.on_frame(now, &frame);
                    Reaction::Frame(frame)
                }
                None => Reaction::None,
            },
            SourceEvent::Error { kind, detail, .. } => {
                self.on_errors(now, kind, 1, &detail);
                Reaction::None
            }
            SourceEvent::LeftOut(pictures) => {
                for (kind, count) in pictures.by_kind() {
                    self.on_errors(now, kind, count, "");
                }
                Reaction::None
            }
            SourceEvent::Down {
                reason,
                detail,
                retry_at,
            } => self.on_down(now, reason, detail, retry_at),
            SourceEvent::Closed => {
                if self.config.on_demand && self.state != State::Idle {
                    info!(camera = %self.config.name, "camera closed");
                }
                self.load = None;
                self.away = None;
                self.hub.restart(Abilities::default());
                self.enter(now, State::Idle);
                Reaction::Restarted
            }
        }
    }

    /// What it was given made it panic, and is dropped: its stream begins anew at a key frame.
    pub(super) fn on_panic(&mut self, now: Instant) -> Reaction {
        error!(camera = %self.config.name, "a picture made its hub panic and was dropped");
        self.on_errors(now, ErrorKind::Picture, 1, "it made the hub panic");
        self.hub.renew();
        Reaction::Restarted
    }

    fn on_frame(&mut self, now: Instant, frame: &Frame) {
        if self.state != State::Playing {
            let size = frame.sps.size.unwrap_or_default();
            info!(
                camera = %self.config.name,
                size = %format_args!("{}x{}", size.0, size.1),
                profile = %frame.sps.profile_level_id,
                "camera plays"
            );
            self.enter(now, State::Playing);
            self.away = None;
        }
    }

    fn on_load(&mut self, load: Box<Load>) {
        let was = self.load.as_ref().and_then(|old| old.strain);
        if load.strain != was {
            let (cost, interval) = (load.cost, load.interval);
            let (fps, size) = (load.fps, load.size);
            match load.strain {
                Some(strain) => warn!(camera = %self.config.name, cause = strain.as_str(), ?cost,
                    ?interval, fps, ?size, celsius = load.celsius, mhz = load.cpu_mhz, "overloaded"),
                None => info!(camera = %self.config.name, fps, ?size, "no longer overloaded"),
            }
        }
        self.load = Some(load);
    }

    fn on_errors(&mut self, now: Instant, kind: ErrorKind, count: u64, detail: &str) {
        if count > 0 {
            self.errors.add(kind, count);
            let name = &self.config.name;
            self.error_log.push(now, name, kind, count, detail);
        }
    }

    fn on_down(
        &mut self,
        now: Instant,
        reason: DownReason,
        detail: String,
        retry_at: Option<Instant>,
    ) -> Reaction {
        self.restarts += 1;
        self.load = None;
        self.hub.restart(Abilities::default());
        // Away since it played last, whatever was tried since then; each reason is told once.
        let away = self.away.get_or_insert_with(|| Away {
            since: now,
            told: Vec::new(),
        });
        if !away.told.contains(&reason) {
            away.told.push(reason);
            warn!(camera = %self.config.name, reason = reason.as_str(), detail, "camera down");
        }
        let since = away.since;
        self.enter(
            now,
            State::Down {
                reason,
                detail,
                retry_at,
            },
        );
        self.since = since;
        Reaction::Restarted
    }

    /// The only door between states.
    fn enter(&mut self, now: Instant, next: State) -> Reaction {
        // A camera that is away stays away until it plays: an attempt is no news.
        if next == State::Opening && matches!(self.state, State::Down { .. }) {
            return Reaction::None;
        }
        debug!(camera = %self.config.name, from = self.state.as_str(), to = next.as_str(), "state");
        match &next {
            State::Playing => self.is_proven = true,
            State::Down { .. } => self.is_proven = false,
            State::Idle | State::Opening | State::Waiting => {}
        }
        self.state = next;
        self.since = now;
        Reaction::None
    }

    /// It plays, or need not. One that is opened for a viewer is up if it was so the last time;
    /// one that has yet to prove itself is not.
    pub(super) fn is_up(&self) -> bool {
        match self.state {
            State::Playing => true,
            State::Idle => self.config.on_demand,
            State::Opening | State::Waiting => self.is_proven,
            State::Down { .. } => false,
        }
    }

    pub(super) fn add_viewer(&mut self, id: ViewerId) {
        Arc::make_mut(&mut self.viewers).push(id);
        self.close_at = None;
    }

    pub(super) fn remove_viewer(&mut self, now: Instant, id: ViewerId) {
        Arc::make_mut(&mut self.viewers).retain(|viewer| *viewer != id);
        if self.viewers.is_empty() && self.config.on_demand {
            self.close_at = Some(now + self.config.linger);
        }
    }

    /// What its source shall be told now.
    pub(super) fn poll_demand(&mut self, now: Instant, is_draining: bool) -> Option<Demand> {
        let is_lingering = self.close_at.is_some_and(|at| at > now);
        let is_watched = !self.viewers.is_empty() || !self.config.on_demand || is_lingering;
        let is_wanted = is_watched && !is_draining;
        if is_wanted != self.is_wanted {
            self.is_wanted = is_wanted;
            return Some(if is_wanted {
                Demand::Open
            } else {
                Demand::Close
            });
        }
        self.hub.poll_key_frame(now).then_some(Demand::KeyFrame)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let close_at = self.close_at.filter(|_| self.is_wanted);
        let key_frame = self.hub.poll_timeout();
        [close_at, key_frame].into_iter().flatten().min()
    }

    /// Its source has let go of the device, or never had it.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_wanted && self.state == State::Idle
    }
}
