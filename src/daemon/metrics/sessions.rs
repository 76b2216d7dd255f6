//! What is told of all viewers together, and what the gateway has counted.

use std::fmt;

use super::out::Out;
use crate::gateway;
use crate::session::Drops;
use crate::whep::status::SessionStatus;

pub(super) fn viewers(out: &mut Out<'_>, sessions: &[SessionStatus]) -> fmt::Result {
    let by_state = SESSION_STATES.map(|state| {
        let count = sessions
            .iter()
            .filter(|session| session.state == state)
            .count();
        ([("state", state)], count as f64)
    });
    out.gauges("viewers", "Sessions by state.", by_state)?;
    // An empty sum is -0.0.
    let sum = |value: fn(&SessionStatus) -> f64| sessions.iter().map(value).sum::<f64>() + 0.0;
    let max = |value: fn(&SessionStatus) -> f64| sessions.iter().map(value).fold(0.0, f64::max);
    out.gauge(
        "viewers_bits_per_second",
        "Sent to all viewers together, over the last two to four seconds.",
        sum(|session| session.bitrate as f64),
    )?;
    out.gauge(
        "viewers_queued_bytes",
        "Waiting to be sent to all viewers together.",
        sum(|session| session.queued_bytes as f64),
    )?;
    out.gauge(
        "viewers_queued_bytes_max",
        "Waiting for the viewer that is furthest behind.",
        max(|session| session.queued_bytes as f64),
    )?;
    out.gauge(
        "viewers_round_trip_seconds_max",
        "Round trip of the most distant viewer.",
        max(|session| session.round_trip_ms.unwrap_or(0.0) / 1000.0),
    )?;
    out.gauge(
        "viewers_loss_ratio_max",
        "Share of packets lost on the way to the viewer that loses most.",
        max(|session| session.loss.unwrap_or(0.0)),
    )
}

/// Names every field, here as in [`super::traffic::http`], so that a counter that is not shown does not compile.
#[expect(clippy::too_many_lines, reason = "a table: one row per counter")]
pub(super) fn counted(out: &mut Out<'_>, counters: &gateway::Counters) -> fmt::Result {
    let gateway::Counters {
        frames,
        datagrams_in,
        datagrams_unknown,
        datagrams_refused,
        sessions_opened,
        sessions_connected,
        sessions_left,
        sessions_lost,
        sessions_failed,
        sessions_panicked,
        sessions_half_open_reaped,
        sessions_expired,
        sessions_drained,
        refused_viewers,
        refused_viewers_per_camera,
        refused_half_open,
        refused_offers,
        skips,
        held_by_own_pace,
        held_by_egress,
        key_frame_requests,
        unrepairable_losses,
        key_frames_forced,
        replays,
        stills,
        drops,
    } = *counters;
    out.each(&[
        ("frames", "Pictures of all cameras.", frames),
        (
            "datagrams_handled",
            "Datagrams that reached the gateway.",
            datagrams_in,
        ),
        (
            "datagrams_unknown",
            "From no viewer; dropped.",
            datagrams_unknown,
        ),
        (
            "datagrams_lost",
            "To viewers, refused by the kernel.",
            datagrams_refused,
        ),
        ("sessions_opened", "Sessions created.", sessions_opened),
        (
            "sessions_connected",
            "Sessions that connected.",
            sessions_connected,
        ),
        (
            "skips",
            "Pictures left out for viewers that were behind.",
            skips,
        ),
        (
            "key_frame_requests",
            "PLI and FIR of viewers.",
            key_frame_requests,
        ),
        (
            "key_frames_forced",
            "Key frames asked of sources.",
            key_frames_forced,
        ),
        (
            "unrepairable_losses",
            "Packets that could not be sent again.",
            unrepairable_losses,
        ),
        (
            "replays",
            "Groups of pictures sent again out of a cache.",
            replays,
        ),
        ("stills", "Replays that were a key frame alone.", stills),
    ])?;
    out.by_reason(
        "viewers_held_back",
        "Turns in which a viewer's packets waited: for its own pace (limits.egress_per_viewer, \
         bursts, the pause after a refusal) or for that of all viewers (limits.egress).",
        &[
            ("egress_per_viewer", held_by_own_pace),
            ("egress", held_by_egress),
        ],
    )?;
    out.by_reason(
        "sessions_ended",
        "Sessions that ended.",
        &[
            ("left", sessions_left),
            ("lost", sessions_lost),
            ("failed", sessions_failed),
            ("panicked", sessions_panicked),
            ("half_open", sessions_half_open_reaped),
            ("expired", sessions_expired),
            ("drained", sessions_drained),
        ],
    )?;
    let Drops {
        inputs,
        candidates,
        repairs,
        outputs,
    } = drops;
    out.by_reason(
        "viewers_dropped",
        "Dropped for or from viewers: datagrams of theirs that are of no use, ICE candidates, \
         repairs and datagrams past their bounds.",
        &[
            ("input", inputs),
            ("candidate", candidates),
            ("repair", repairs),
            ("output", outputs),
        ],
    )?;
    out.by_reason(
        "sessions_refused",
        "POSTs that made no session.",
        &[
            ("viewers", refused_viewers),
            ("viewers_per_camera", refused_viewers_per_camera),
            ("half_open", refused_half_open),
            ("offer", refused_offers),
        ],
    )
}

/// As in [`SessionStatus::state`].
const SESSION_STATES: [&str; 5] = ["connecting", "waiting", "catching_up", "playing", "ended"];
