//! Commands from HTTP: admission, WHEP sessions, the API.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::Rng;
use tracing::{debug, error, info};

use super::Gateway;
use super::viewer::{NewViewer, Viewer, ViewerId};
use crate::media::CameraId;
use crate::session::offer::OfferError;
use crate::session::{End, Session, Setup, State};
use crate::whep::{Command, ETag, Fragment, IfMatch, Outcome, Refusal, SessionKey};

/// Told to a client that came when a limit was reached.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Half-open sessions end soon.
const RETRY_AFTER_HALF_OPEN: Duration = Duration::from_secs(2);

impl Gateway {
    /// Carries a command out. `candidates` are the addresses of the media port as they are now.
    pub fn handle_command(
        &mut self,
        now: Instant,
        command: Command,
        candidates: &[SocketAddr],
    ) -> Outcome {
        let outcome = match command {
            Command::Open {
                camera,
                offer,
                peer,
            } => self.open(now, &camera, &offer, peer, candidates),
            Command::Patch {
                session,
                if_match,
                fragment,
            } => self.patch(now, session, &if_match, &fragment, candidates),
            Command::Close { session } => self.close(session),
            Command::Find { camera } => self.camera_named(&camera).map(|_| Outcome::Found),
            Command::Cameras => Ok(Outcome::Cameras(self.camera_statuses(now))),
            Command::Sessions => Ok(Outcome::Sessions(self.session_statuses(now))),
            Command::Health => Ok(Outcome::Health(self.health())),
            // The daemon has more to tell and answers it.
            Command::Metrics => Ok(Outcome::Metrics(String::new())),
        };
        outcome.unwrap_or_else(Outcome::Refused)
    }

    fn open(
        &mut self,
        now: Instant,
        camera: &str,
        offer: &str,
        peer: IpAddr,
        candidates: &[SocketAddr],
    ) -> Result<Outcome, Refusal> {
        let id = self.camera_named(camera)?;
        self.admit(id)?;
        let setup = Setup {
            offer,
            candidates,
            certificate: &self.certificate,
            latency: self.config.latency,
            mtu: self.config.ice.mtu,
            rate: self.config.limits.egress_per_viewer,
            max_queue: self.config.limits.queue,
            seed: self.rng.random(),
        };
        // An offer is a stranger's text: where str0m panics on it, nobody else may suffer.
        let opened = catch_unwind(AssertUnwindSafe(|| Session::open(now, &setup)));
        let opened = opened.unwrap_or_else(|_| {
            error!(%peer, "an offer made the WebRTC library panic and was refused");
            self.common.counters.sessions_panicked += 1;
            Err(OfferError::Bad("it cannot be processed".to_owned()))
        });
        let (session, answer) = opened.map_err(|error| {
            self.common.counters.refused_offers += 1;
            match error {
                OfferError::Bad(what) => Refusal::BadOffer(what),
                OfferError::NoCommonCodec(what) => Refusal::NoCommonCodec(what),
            }
        })?;
        let viewer = ViewerId(self.next_viewer);
        self.next_viewer += 1;
        self.demux.name(session.local_ufrag().to_owned(), viewer);
        let (key, etag) = (SessionKey(self.rng.random()), self.fresh_etag());
        let new = NewViewer {
            session,
            camera: id,
            key,
            etag: etag.clone(),
            peer,
            setup_timeout: self.config.limits.setup_timeout,
            session_age: self.config.limits.session_age,
            advertised: if self.config.ice.advertise.is_empty() {
                Vec::new()
            } else {
                candidates.to_vec()
            },
        };
        self.viewers.insert(viewer, Viewer::new(now, new));
        self.cameras[id.0 as usize].add_viewer(viewer);
        self.with_viewer(viewer, |_, _| {});
        self.common.counters.sessions_opened += 1;
        info!(viewer = viewer.0, %camera, %peer, "viewer joins");
        Ok(Outcome::Opened {
            session: key,
            etag,
            answer,
        })
    }

    fn admit(&mut self, id: CameraId) -> Result<(), Refusal> {
        if self.is_draining {
            return Err(Refusal::Draining);
        }
        let limits = &self.config.limits;
        let camera = &self.cameras[id.0 as usize];
        let half_open = self.viewers.values();
        let half_open = half_open.filter(|v| v.session.state() == State::Connecting);
        let (per_camera, per_camera_key) = match camera.config.max_viewers {
            Some(max) => (max, "camera.max_viewers"),
            None => (limits.viewers_per_camera, "limits.viewers_per_camera"),
        };
        let (limit, retry_after, counter) = if self.viewers.len() >= limits.viewers {
            let counter = &mut self.common.counters.refused_viewers;
            ("limits.viewers", RETRY_AFTER, counter)
        } else if camera.viewers.len() >= per_camera {
            let counter = &mut self.common.counters.refused_viewers_per_camera;
            (per_camera_key, RETRY_AFTER, counter)
        } else if half_open.count() >= limits.half_open {
            let counter = &mut self.common.counters.refused_half_open;
            ("limits.half_open", RETRY_AFTER_HALF_OPEN, counter)
        } else {
            return Ok(());
        };
        *counter += 1;
        Err(Refusal::OverLimit { limit, retry_after })
    }

    fn patch(
        &mut self,
        now: Instant,
        key: SessionKey,
        if_match: &IfMatch,
        fragment: &Fragment,
        candidates: &[SocketAddr],
    ) -> Result<Outcome, Refusal> {
        let id = self.viewer_with(key)?;
        let fresh = self.fresh_etag();
        let viewer = self.viewers.get_mut(&id).ok_or(Refusal::UnknownSession)?;
        if matches!(if_match, IfMatch::Tags(tags) if !tags.contains(&viewer.etag)) {
            return Err(Refusal::StaleETag);
        }
        // Some clients send `*` with every PATCH: only new credentials tell a restart.
        let ufrag = fragment.ufrag.as_deref();
        if ufrag.is_some() && ufrag == viewer.session.old_remote_ufrag() {
            return Ok(Outcome::Trickled); // late: from before the last restart, and of no use
        }
        let is_restart = ufrag.is_some() && ufrag != viewer.session.remote_ufrag();
        if !is_restart {
            self.with_viewer(id, |viewer, _| {
                viewer.session.add_candidates(now, &fragment.candidates);
            });
            return Ok(Outcome::Trickled);
        }
        let (Some(ufrag), Some(pwd)) = (&fragment.ufrag, &fragment.pwd) else {
            let what = "an ICE restart needs a=ice-ufrag and a=ice-pwd";
            return Err(Refusal::BadFragment(what.to_owned()));
        };
        let mut restarted = None;
        self.guard(id, |viewer, _| {
            let session = &mut viewer.session;
            let theirs = &fragment.candidates;
            restarted = Some(session.restart_ice(now, ufrag, pwd, theirs, candidates));
        });
        let ours = restarted
            .ok_or(Refusal::UnknownSession)?
            .map_err(|error| Refusal::BadFragment(error.to_string()))?;
        let viewer = self.viewers.get_mut(&id).ok_or(Refusal::UnknownSession)?;
        viewer.etag = fresh.clone();
        viewer.on_restart(now);
        self.demux.name(viewer.session.local_ufrag().to_owned(), id);
        self.with_viewer(id, |_, _| {});
        debug!(viewer = id.0, "ice restart");
        Ok(Outcome::Restarted {
            etag: fresh,
            fragment: ours,
        })
    }

    fn close(&mut self, key: SessionKey) -> Result<Outcome, Refusal> {
        let id = self.viewer_with(key)?;
        self.with_viewer(id, |viewer, _| viewer.session.close(End::Left));
        Ok(Outcome::Closed)
    }

    fn camera_named(&self, name: &str) -> Result<CameraId, Refusal> {
        let mut cameras = self.cameras.iter();
        let found = cameras.find(|camera| camera.config.name == name);
        found
            .map(|camera| camera.id)
            .ok_or_else(|| Refusal::UnknownCamera(name.to_owned()))
    }

    fn viewer_with(&self, key: SessionKey) -> Result<ViewerId, Refusal> {
        let mut viewers = self.viewers.iter();
        let found = viewers.find(|(_, viewer)| viewer.key == key && !viewer.is_over());
        found.map(|(id, _)| *id).ok_or(Refusal::UnknownSession)
    }

    fn fresh_etag(&mut self) -> ETag {
        ETag(format!("{:016x}", self.rng.random::<u64>()))
    }
}
