//! Renders `/metrics`: OpenMetrics text, every name beginning with `pinhole_`.
//!
//! In: a [`Snapshot`] of what the loop knows. Out: text.
//! Not here: counting (where it happens), serving (net::http).
//!
//! Labels are cameras and fixed words only: viewers come and go, and a label for each would grow
//! a monitoring server's memory for ever. `/api/sessions` tells of each viewer.

mod process;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use self::process::ProcessFacts;
use crate::media::ErrorKind;
use crate::media::histogram::Histogram;
use crate::whep::status::{
    CameraStatus, Counters, HttpCounters, MediaCounters, PictureCounters, SessionCounters,
    SessionStatus, Timings,
};

/// What one scrape tells.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub cameras: Vec<CameraStatus>,
    pub sessions: Vec<SessionStatus>,
    pub counters: Counters,
    /// From [`Timings::scrape`].
    pub timings: Timings,
    pub process: ProcessFacts,
    /// Since start, by the monotonic clock.
    pub uptime: Duration,
}

/// The text of `/metrics`.
pub fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("pinhole");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::with_capacity(16 << 10);
    let encoded = text::encode(&mut text, &registry);
    encoded.expect("writing to a String does not fail");
    text
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauges("build_info", "This Pinhole.", [(version, 1.0)])?;
        let uptime = self.uptime.as_secs_f64();
        out.gauge("uptime_seconds", "Since start.", uptime)?;
        cameras(&mut out, &self.cameras)?;
        camera_errors(&mut out, &self.cameras)?;
        viewers(&mut out, &self.sessions)?;
        sessions(&mut out, &self.counters.sessions)?;
        pictures(&mut out, &self.counters.pictures)?;
        media(&mut out, &self.counters.media)?;
        http(&mut out, &self.counters.http)?;
        http_limits(&mut out, &self.counters.http)?;
        losses(&mut out, &self.counters)?;
        timings(&mut out, &self.timings)?;
        process(&mut out, &self.process)
    }
}

fn cameras(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
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

fn camera_errors(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    let restarts = cameras
        .iter()
        .map(|camera| ([("camera", camera.name.as_str())], camera.restarts));
    out.counters(
        "camera_restarts",
        "Runs of the source that ended.",
        restarts,
    )?;
    let errors = cameras.iter().flat_map(|camera| {
        ErrorKind::ALL.map(|kind| {
            let count = match kind {
                ErrorKind::Packet => camera.errors.packet,
                ErrorKind::Loss => camera.errors.loss,
                ErrorKind::Picture => camera.errors.picture,
                ErrorKind::Encode => camera.errors.encode,
                ErrorKind::Device => camera.errors.device,
            };
            let labels = [("camera", camera.name.as_str()), ("kind", kind.as_str())];
            (labels, count)
        })
    });
    out.counters("camera_errors", "Tolerated errors of the source.", errors)
}

fn viewers(out: &mut Out<'_>, sessions: &[SessionStatus]) -> fmt::Result {
    let by_state = SESSION_STATES.map(|state| {
        let count = sessions
            .iter()
            .filter(|session| session.state == state)
            .count();
        ([("state", state)], count as f64)
    });
    out.gauges("viewers", "Sessions by state.", by_state)?;
    let sum = |value: fn(&SessionStatus) -> f64| sessions.iter().map(value).sum();
    let max = |value: fn(&SessionStatus) -> f64| sessions.iter().map(value).fold(0.0, f64::max);
    out.gauge(
        "viewers_bits_per_second",
        "Media sent to all viewers together.",
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

fn sessions(out: &mut Out<'_>, count: &SessionCounters) -> fmt::Result {
    out.counter("sessions_opened", "Sessions created.", count.opened)?;
    out.counter("sessions_restarted", "ICE restarts.", count.restarted)?;
    let refused = &count.refused;
    out.by_reason(
        "sessions_refused",
        "POSTs that made no session.",
        &[
            ("viewers", refused.viewers),
            ("viewers_per_camera", refused.viewers_per_camera),
            ("half_open", refused.half_open),
            ("egress", refused.egress),
            ("bad_offer", refused.bad_offer),
            ("no_common_codec", refused.no_common_codec),
            ("draining", refused.draining),
        ],
    )?;
    let ended = &count.ended;
    out.by_reason(
        "sessions_ended",
        "Sessions that ended.",
        &[
            ("deleted", ended.deleted),
            ("closed", ended.closed),
            ("half_open", ended.half_open),
            ("consent", ended.consent),
            ("age", ended.age),
            ("error", ended.error),
            ("panic", ended.panic),
            ("drained", ended.drained),
        ],
    )
}

fn pictures(out: &mut Out<'_>, count: &PictureCounters) -> fmt::Result {
    for (name, help, value) in [
        (
            "skips",
            "Times that a viewer skipped to a key frame.",
            count.skips,
        ),
        (
            "egress_held",
            "Times that an egress limit held packets back.",
            count.egress_held,
        ),
        (
            "key_frame_requests",
            "PLI and FIR of viewers.",
            count.key_frame_requests,
        ),
        (
            "key_frames_forced",
            "Key frames asked of sources.",
            count.key_frames_forced,
        ),
        ("replays", "Catch-ups out of a GOP cache.", count.replays),
        ("stills", "Key frames shown as a still.", count.stills),
        (
            "gop_cache_overflows",
            "Groups larger than gop_cache.",
            count.gop_cache_overflows,
        ),
        ("repairs", "Packets sent again.", count.repairs),
        (
            "repairs_missed",
            "Packets asked for again too late.",
            count.repairs_missed,
        ),
    ] {
        out.counter(name, help, value)?;
    }
    Ok(())
}

fn media(out: &mut Out<'_>, count: &MediaCounters) -> fmt::Result {
    for (name, help, value) in [
        ("media_datagrams_in", "Received.", count.datagrams_in),
        ("media_bytes_in", "Received.", count.bytes_in),
        ("media_datagrams_out", "Sent.", count.datagrams_out),
        ("media_bytes_out", "Sent.", count.bytes_out),
        (
            "media_sends",
            "System calls that sent datagrams.",
            count.sends,
        ),
        (
            "media_datagrams_refused",
            "Refused by the kernel; lost.",
            count.datagrams_refused,
        ),
        (
            "media_datagrams_unknown",
            "From no viewer; dropped.",
            count.datagrams_unknown,
        ),
        (
            "media_datagrams_truncated",
            "Too long; dropped.",
            count.datagrams_truncated,
        ),
    ] {
        out.counter(name, help, value)?;
    }
    Ok(())
}

fn http(out: &mut Out<'_>, count: &HttpCounters) -> fmt::Result {
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| [("class", class)]);
    let responses = classes.into_iter().zip(count.responses);
    out.counters("http_responses", "Responses by class.", responses)?;
    out.counter(
        "http_connections",
        "Connections accepted.",
        count.connections,
    )?;
    out.gauge(
        "http_connections_open",
        "Connections open now.",
        count.connections_open as f64,
    )
}

fn http_limits(out: &mut Out<'_>, count: &HttpCounters) -> fmt::Result {
    out.by_reason(
        "http_refused",
        "Connections and requests refused or cut, by what they met.",
        &[
            ("connections", count.connections_refused),
            ("age", count.connections_aged),
            ("accept", count.accept_errors),
            ("unauthorized", count.unauthorized),
            ("foreign", count.foreign),
            ("requests", count.too_many_requests),
            ("body", count.body_too_large),
            ("body_time", count.body_too_slow),
            ("head", count.head_too_large),
            ("head_time", count.head_too_slow),
            ("unreadable", count.unreadable),
            ("calls", count.calls_refused),
            ("reply_time", count.replies_lost),
            ("panic", count.panics),
        ],
    )
}

fn losses(out: &mut Out<'_>, count: &Counters) -> fmt::Result {
    out.counter(
        "source_events_dropped",
        "Events of sources that found their channel full.",
        count.source_events_dropped,
    )?;
    out.counter(
        "source_threads_abandoned",
        "Threads of sources that made no progress and were left behind.",
        count.source_threads_abandoned,
    )?;
    out.counter(
        "log_lines_dropped",
        "Log lines that found the log writer behind.",
        count.log_lines_dropped,
    )
}

fn timings(out: &mut Out<'_>, timings: &Timings) -> fmt::Result {
    for (name, help, histogram) in [
        (
            "loop_lag_seconds",
            "From the wake-up meant to the wake-up.",
            &timings.lag,
        ),
        ("loop_turn_seconds", "One turn of the loop.", &timings.turn),
        (
            "join_seconds",
            "POST received to last packet of the first key frame sent.",
            &timings.join,
        ),
    ] {
        out.histogram(name, help, histogram)?;
    }
    for (name, histogram) in [
        ("loop_lag_longest_seconds", &timings.lag),
        ("loop_turn_longest_seconds", &timings.turn),
    ] {
        let longest = histogram.longest().as_secs_f64();
        out.gauge(name, "The longest since the last scrape.", longest)?;
    }
    let stages = [
        ("capture", &timings.stages.capture),
        ("decode", &timings.stages.decode),
        ("encode", &timings.stages.encode),
        ("packetize", &timings.stages.packetize),
        ("sent", &timings.stages.sent),
    ];
    out.histograms(
        "stage_seconds",
        "Time of one picture in each stage; sent is from arrival to the last packet, per viewer.",
        stages.map(|(stage, histogram)| ([("stage", stage)], histogram)),
    )
}

fn process(out: &mut Out<'_>, facts: &ProcessFacts) -> fmt::Result {
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Memory in RAM.",
            facts.resident_bytes,
        ),
        ("process_open_fds", "Open file descriptors.", facts.open_fds),
        ("process_threads", "Threads.", facts.threads),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            out.gauge(name, help, value as f64)?;
        }
    }
    match facts.cpu {
        Some(cpu) => out.counter(
            "process_cpu_seconds",
            "User and system time.",
            cpu.as_secs_f64(),
        ),
        None => Ok(()),
    }
}

/// Writes families of metrics: what they are first, then a row per label set.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    fn counter<V: EncodeCounterValue>(&mut self, name: &str, help: &str, value: V) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn by_reason(&mut self, name: &str, help: &str, rows: &[(&str, u64)]) -> fmt::Result {
        let rows = rows
            .iter()
            .map(|&(reason, count)| ([("reason", reason)], count));
        self.counters(name, help, rows)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            let mut row = family.encode_family(&labels)?;
            row.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        encode_histogram(&mut metric, histogram)
    }

    fn histograms<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in rows {
            encode_histogram(&mut family.encode_family(&labels)?, histogram)?;
        }
        Ok(())
    }
}

fn encode_histogram(metric: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let buckets: Vec<_> = histogram.buckets().collect();
    let sum = histogram.sum().as_secs_f64();
    metric.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// As in [`CameraStatus::state`].
const CAMERA_STATES: [&str; 5] = ["idle", "opening", "waiting", "playing", "down"];
/// As in [`SessionStatus::state`].
const SESSION_STATES: [&str; 4] = ["connecting", "waiting", "catching_up", "playing"];
