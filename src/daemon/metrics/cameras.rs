//! What is told of each camera.

use std::fmt;

use super::out::Out;
use crate::media::ErrorKind;
use crate::whep::status::{CameraStatus, LoadStatus};

/// All of it.
pub(super) fn write(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    facts(out, cameras)?;
    loads(out, cameras)?;
    errors(out, cameras)
}

fn facts(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    let by_state = cameras.iter().flat_map(|camera| {
        CAMERA_STATES.iter().map(|&state| {
            let labels = [("camera", camera.name.as_str()), ("state", state)];
            (labels, f64::from(u8::from(camera.state == state)))
        })
    });
    out.gauges(
        "camera_state",
        "1 for the state that the camera is in.",
        by_state,
    )?;
    let mut each = |name, help, value: fn(&CameraStatus) -> Option<f64>| {
        let rows = cameras.iter().filter_map(|camera| {
            value(camera).map(|value| ([("camera", camera.name.as_str())], value))
        });
        out.gauges(name, help, rows)
    };
    each(
        "camera_state_seconds",
        "How long the state has lasted.",
        |camera| Some(seconds(camera.since_ms)),
    )?;
    each(
        "camera_last_picture_seconds",
        "Since the last picture.",
        |camera| camera.last_picture_ms.map(seconds),
    )?;
    each(
        "camera_key_frame_interval_seconds",
        "Between the last two key frames.",
        |camera| camera.key_frame_interval_ms.map(seconds),
    )?;
    each(
        "camera_frames_per_second",
        "Pictures handed on.",
        |camera| Some(camera.fps),
    )?;
    each(
        "camera_bits_per_second",
        "Coded pictures handed on.",
        |camera| Some(camera.bitrate as f64),
    )?;
    each("camera_width_pixels", "Of the picture.", |camera| {
        camera.width.map(f64::from)
    })?;
    each("camera_height_pixels", "Of the picture.", |camera| {
        camera.height.map(f64::from)
    })?;
    each(
        "camera_has_b_frames",
        "1 when browsers cannot play it for its B-frames.",
        |camera| Some(f64::from(u8::from(camera.has_b_frames))),
    )?;
    each("camera_viewers", "Sessions on the camera.", |camera| {
        Some(camera.viewers as f64)
    })
}

/// Of cameras that are encoded here.
fn loads(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    let mut each = |name, help, value: fn(&LoadStatus) -> Option<f64>| {
        let rows = cameras.iter().filter_map(|camera| {
            let value = value(camera.load.as_ref()?)?;
            Some(([("camera", camera.name.as_str())], value))
        });
        out.gauges(name, help, rows)
    };
    each(
        "camera_overloaded",
        "1 when the machine is too slow for what was configured.",
        |load| Some(f64::from(u8::from(load.overloaded))),
    )?;
    each(
        "camera_coding_seconds",
        "One picture, from raw to coded.",
        |load| Some(load.encode_ms / 1000.0),
    )?;
    each(
        "camera_coding_interval_seconds",
        "The time that there is for one.",
        |load| Some(load.interval_ms / 1000.0),
    )?;
    each(
        "camera_coding_cpu_hertz",
        "Of the first processor, when the above was measured.",
        |load| load.cpu_mhz.map(|mhz| f64::from(mhz) * 1e6),
    )?;
    each(
        "camera_coding_temperature_celsius",
        "Of the hottest sensor, when the above was measured.",
        |load| load.temperature_c.map(f64::from),
    )
}

fn errors(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    let restarts = cameras
        .iter()
        .map(|camera| ([("camera", camera.name.as_str())], camera.restarts));
    out.counters(
        "camera_restarts",
        "Runs of the source that ended.",
        restarts,
    )?;
    let cut = cameras
        .iter()
        .map(|camera| ([("camera", camera.name.as_str())], camera.gops_cut));
    out.counters(
        "camera_gops_cut",
        "Groups of pictures that gop_cache had no room for, or that lasted too long for it.",
        cut,
    )?;
    let errors = cameras.iter().flat_map(|camera| {
        ErrorKind::ALL.map(|kind| {
            let labels = [("camera", camera.name.as_str()), ("kind", kind.as_str())];
            (labels, camera.errors.of(kind))
        })
    });
    out.counters("camera_errors", "Tolerated errors of the source.", errors)
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// As in [`CameraStatus::state`].
const CAMERA_STATES: [&str; 5] = ["idle", "opening", "waiting", "playing", "down"];
