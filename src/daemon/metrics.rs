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
use crate::gateway;
use crate::media::ErrorKind;
use crate::media::histogram::Histogram;
use crate::net::udp::{self, Refused};
use crate::whep::status::{CameraStatus, HttpCounters, LoadStatus, SessionStatus, Timings};

/// What one scrape tells.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub cameras: Vec<CameraStatus>,
    pub sessions: Vec<SessionStatus>,
    pub gateway: gateway::Counters,
    pub udp: udp::Counters,
    pub http: HttpCounters,
    /// Log lines that found the log writer behind, and were dropped.
    pub log_lines_lost: u64,
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
        loads(&mut out, &self.cameras)?;
        camera_errors(&mut out, &self.cameras)?;
        viewers(&mut out, &self.sessions)?;
        counted(&mut out, &self.gateway)?;
        media(&mut out, &self.udp)?;
        http(&mut out, &self.http)?;
        out.each(&[(
            "log_lines_lost",
            "Log lines that found the log writer behind.",
            self.log_lines_lost,
        )])?;
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
    // An empty sum is -0.0.
    let sum = |value: fn(&SessionStatus) -> f64| sessions.iter().map(value).sum::<f64>() + 0.0;
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

/// Names every field, here as in [`http()`], so that a counter that is not shown does not compile.
#[expect(clippy::too_many_lines, reason = "a table: one row per counter")]
fn counted(out: &mut Out<'_>, counters: &gateway::Counters) -> fmt::Result {
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
        key_frame_requests,
        unrepairable_losses,
        key_frames_forced,
        replays,
        stills,
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

fn media(out: &mut Out<'_>, counters: &udp::Counters) -> fmt::Result {
    out.each(&[
        ("udp_datagrams_in", "Received.", counters.datagrams_in),
        ("udp_bytes_in", "Received.", counters.bytes_in),
        (
            "udp_calls_in",
            "System calls that received.",
            counters.calls_in,
        ),
        (
            "udp_datagrams_out",
            "Taken by the kernel.",
            counters.datagrams_out,
        ),
        ("udp_bytes_out", "Taken by the kernel.", counters.bytes_out),
        (
            "udp_calls_out",
            "System calls that sent: few per datagram where batching works.",
            counters.calls_out,
        ),
        (
            "udp_truncated",
            "Received too long; dropped.",
            counters.truncated,
        ),
        (
            "udp_unusable",
            "Received empty or without an address; dropped.",
            counters.unusable,
        ),
        (
            "udp_errors_in",
            "System calls that failed to receive.",
            counters.errors_in,
        ),
    ])?;
    let refused = Refused::ALL.map(|why| (why.name(), counters.refused(why)));
    out.by_reason(
        "udp_refused",
        "Datagrams that the kernel did not take.",
        &refused,
    )
}

fn http(out: &mut Out<'_>, counters: &HttpCounters) -> fmt::Result {
    let HttpCounters {
        connections,
        connections_open,
        connections_refused,
        connections_aged,
        accept_errors,
        responses,
        unauthorized,
        foreign,
        too_many_requests,
        body_too_large,
        body_too_slow,
        head_too_large,
        head_too_slow,
        unreadable,
        calls_refused,
        replies_lost,
        panics,
    } = *counters;
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| [("class", class)]);
    let responses = classes.into_iter().zip(responses);
    out.counters("http_responses", "Responses by class.", responses)?;
    out.counter("http_connections", "Connections accepted.", connections)?;
    out.gauge(
        "http_connections_open",
        "Connections open now.",
        connections_open as f64,
    )?;
    out.by_reason(
        "http_refused",
        "Connections and requests refused or cut, by the bound they met.",
        &[
            ("connections", connections_refused),
            ("age", connections_aged),
            ("accept", accept_errors),
            ("unauthorized", unauthorized),
            ("foreign", foreign),
            ("requests", too_many_requests),
            ("body", body_too_large),
            ("body_time", body_too_slow),
            ("head", head_too_large),
            ("head_time", head_too_slow),
            ("unreadable", unreadable),
            ("calls", calls_refused),
            ("reply_time", replies_lost),
            ("panic", panics),
        ],
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

    fn each(&mut self, rows: &[(&str, &str, u64)]) -> fmt::Result {
        rows.iter()
            .try_for_each(|&(name, help, value)| self.counter(name, help, value))
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
const SESSION_STATES: [&str; 5] = ["connecting", "waiting", "catching_up", "playing", "ended"];
