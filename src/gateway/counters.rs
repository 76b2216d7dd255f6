//! What the gateway counts, since its start.

use crate::session::Drops;
use crate::session::queue::Pace;

/// Each bound that drops or refuses something has its counter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub frames: u64,
    pub datagrams_in: u64,
    /// From nobody we know: dropped.
    pub datagrams_unknown: u64,
    /// Refused by the kernel: lost.
    pub datagrams_refused: u64,
    pub sessions_opened: u64,
    pub sessions_connected: u64,
    /// Ended by the viewer (DELETE, DTLS close).
    pub sessions_left: u64,
    /// Ended because ICE consent was lost.
    pub sessions_lost: u64,
    /// Ended by an error.
    pub sessions_failed: u64,
    /// Ended by a panic, which was caught.
    pub sessions_panicked: u64,
    /// Not connected within `limits.setup_timeout`.
    pub sessions_half_open_reaped: u64,
    /// Older than `limits.session_age`.
    pub sessions_expired: u64,
    /// Ended because the process ends.
    pub sessions_drained: u64,
    /// Refused: `limits.viewers`.
    pub refused_viewers: u64,
    /// Refused: `limits.viewers_per_camera` or `max_viewers`.
    pub refused_viewers_per_camera: u64,
    /// Refused: `limits.half_open`.
    pub refused_half_open: u64,
    /// Refused: the offer could not be used.
    pub refused_offers: u64,
    /// Frames left out for a viewer that was behind (`limits.queue`).
    pub skips: u64,
    /// Turns in which packets waited for the viewer's own pace: `limits.egress_per_viewer`, what
    /// may leave at once (a large key frame, a replay), the pause after a refusal.
    pub held_by_own_pace: u64,
    /// Turns in which packets waited for the pace of all: `limits.egress`.
    pub held_by_egress: u64,
    /// PLI and FIR.
    pub key_frame_requests: u64,
    /// Second NACKs of viewers that cannot be repaired.
    pub unrepairable_losses: u64,
    /// Asked of sources.
    pub key_frames_forced: u64,
    /// Groups of pictures replayed to a viewer.
    pub replays: u64,
    /// Replays that were a key frame alone.
    pub stills: u64,
    /// Dropped for or from viewers, by the bound that each met.
    pub drops: Drops,
}

impl Counters {
    /// Which pace one viewer's packets wait for after its turn.
    pub(super) fn on_held(&mut self, by: Option<Pace>) {
        match by {
            Some(Pace::Own) => self.held_by_own_pace += 1,
            Some(Pace::Common) => self.held_by_egress += 1,
            None => {}
        }
    }

    /// What one viewer has dropped.
    pub(super) fn add(&mut self, drops: Drops) {
        self.drops.inputs += drops.inputs;
        self.drops.candidates += drops.candidates;
        self.drops.repairs += drops.repairs;
        self.drops.outputs += drops.outputs;
    }
}
