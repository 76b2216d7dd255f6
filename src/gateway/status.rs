//! What the API says of cameras and sessions.

use std::time::{Duration, Instant};

use super::Gateway;
use super::camera::{Camera, State as CameraState};
use super::viewer::{Viewer, ViewerId};
use crate::media::Codec;
use crate::session::State;
use crate::whep::status::{CameraStatus, DownCamera, Health, LoadStatus, SessionStatus};

impl Gateway {
    /// Every camera, in the order of the configuration.
    pub fn camera_statuses(&self, now: Instant) -> Vec<CameraStatus> {
        self.cameras.iter().map(|c| c.status(now)).collect()
    }

    /// Every session, oldest first.
    pub fn session_statuses(&self, now: Instant) -> Vec<SessionStatus> {
        let viewers = self.viewers.iter();
        viewers
            .map(|(id, viewer)| {
                let camera = &self.cameras[viewer.camera.0 as usize].config.name;
                viewer.status(now, *id, camera)
            })
            .collect()
    }

    /// How things are in one look.
    pub fn health(&self) -> Health {
        let down: Vec<_> = self.cameras.iter().filter_map(Camera::trouble).collect();
        Health {
            cameras: self.cameras.len(),
            cameras_down: down.len(),
            viewers: self.viewers.len(),
            down,
        }
    }
}

impl Camera {
    /// `None` while all is as it should be.
    fn trouble(&self) -> Option<DownCamera> {
        (!self.is_up()).then(|| DownCamera {
            name: self.config.name.clone(),
            state: self.state.as_str(),
            reason: self.down_reason(),
        })
    }

    fn down_reason(&self) -> Option<&'static str> {
        match &self.state {
            CameraState::Down { reason, .. } => Some(reason.as_str()),
            CameraState::Idle
            | CameraState::Opening
            | CameraState::Waiting
            | CameraState::Playing => None,
        }
    }

    fn status(&self, now: Instant) -> CameraStatus {
        let facts = self.hub.facts();
        let (detail, retry_at) = match &self.state {
            CameraState::Down {
                detail, retry_at, ..
            } => (Some(detail.clone()), *retry_at),
            CameraState::Idle
            | CameraState::Opening
            | CameraState::Waiting
            | CameraState::Playing => (None, None),
        };
        let sps = facts.sps();
        CameraStatus {
            name: self.config.name.clone(),
            state: self.state.as_str(),
            since_ms: millis(now.saturating_duration_since(self.since)),
            reason: self.down_reason(),
            detail,
            retry_in_ms: retry_at.map(|at| millis(at.saturating_duration_since(now))),
            last_picture_ms: facts
                .last_frame()
                .map(|at| millis(now.saturating_duration_since(at))),
            codec: sps.map(|_| Codec::H264.to_string()),
            profile_level: sps.map(|sps| sps.profile_level_id.to_string()),
            width: sps.and_then(|sps| sps.size).map(|size| size.0),
            height: sps.and_then(|sps| sps.size).map(|size| size.1),
            fps: (facts.fps(now) * 10.0).round() / 10.0,
            bitrate: facts.bitrate(now),
            key_frame_interval_ms: facts.key_frame_interval().map(millis),
            has_b_frames: facts.has_b_frames(),
            can_force_key_frame: self.hub.abilities().can_force_key_frame,
            viewers: self.viewers.len(),
            restarts: self.restarts,
            errors: self.errors,
            gops_cut: self.hub.gops_cut(),
            load: self.load.as_deref().map(LoadStatus::from),
            stages: self.stages.clone(),
            notes: self.notes.clone(),
        }
    }
}

impl Viewer {
    fn status(&self, now: Instant, id: ViewerId, camera: &str) -> SessionStatus {
        let tally = self.session.tally();
        let age = now.saturating_duration_since(self.opened);
        SessionStatus {
            viewer: id.0,
            camera: camera.to_owned(),
            peer: self.peer.to_string(),
            state: match self.session.state() {
                State::Connecting => "connecting",
                State::Waiting => "waiting",
                State::CatchingUp => "catching_up",
                State::Playing => "playing",
                State::Ended => "ended",
            },
            since_ms: millis(now.saturating_duration_since(self.since)),
            age_ms: millis(age),
            first_picture_ms: self.first_picture.map(millis),
            round_trip_ms: tally.round_trip.map(|rtt| rtt.as_secs_f64() * 1000.0),
            loss: tally.loss.map(f64::from),
            bitrate: self.rate.bits_per_second(now, tally.bytes),
            packets: tally.packets,
            repairs: tally.repairs,
            queued_bytes: self.session.queued_bytes(),
            skips: tally.skips,
            key_frame_requests: tally.key_frame_requests,
        }
    }
}

fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}
