//! What the API says of cameras and sessions, and what `/metrics` is made of. The former are
//! serialized as JSON as they stand: ages and spans in milliseconds, rates in bits per second.

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::media::histogram::Histogram;
use crate::media::{ErrorKind, Load, Stages, Strain};

/// One camera in `GET /api/cameras`.
#[derive(Clone, Debug, Serialize)]
pub struct CameraStatus {
    pub name: String,
    /// `idle`, `opening`, `waiting` (connected, no picture yet), `playing`, `down`.
    pub state: &'static str,
    /// How long the state has lasted.
    pub since_ms: u64,
    /// Why it is down: a short word (`unreachable`, `stalled` ...).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Why it is down, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// Since the last picture was handed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_picture_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// H.264 profile and level, e.g. `42c01f`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    pub fps: f64,
    pub bitrate: u64,
    /// Between the last two key frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_frame_interval_ms: Option<u64>,
    /// Browsers cannot play B-frames.
    pub has_b_frames: bool,
    pub can_force_key_frame: bool,
    pub viewers: usize,
    /// Runs of the source that ended, since start.
    pub restarts: u64,
    pub errors: ErrorCounts,
    /// Groups of pictures that `gop_cache` had no room for, or that lasted too long for it: who
    /// joined in one of them saw its key frame as a still.
    pub gops_cut: u64,
    /// Of cameras that are encoded here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadStatus>,
    pub stages: StageTimings,
    /// Facts from the source (transport, server).
    pub notes: Vec<String>,
}

/// How hard the machine works for one camera.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadStatus {
    /// What codes, and why this.
    pub encoder: String,
    /// The machine is too slow for what was configured; what follows is why.
    pub overloaded: bool,
    /// Of the overload: [`Strain`] as a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overload_cause: Option<&'static str>,
    /// Coded at most.
    pub fps: u32,
    pub width: u32,
    pub height: u32,
    /// One picture, from raw to coded.
    pub encode_ms: f64,
    /// The time that there is for it.
    pub interval_ms: f64,
    /// Of the pictures of the last second, left out to keep to the bit rate.
    pub skipped_percent: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_mhz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max_mhz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f32>,
}

impl From<&Load> for LoadStatus {
    fn from(load: &Load) -> Self {
        Self {
            encoder: load.encoder.clone(),
            overloaded: load.strain.is_some(),
            overload_cause: load.strain.map(Strain::as_str),
            fps: load.fps,
            width: load.size.0,
            height: load.size.1,
            encode_ms: millis(load.cost),
            interval_ms: millis(load.interval),
            skipped_percent: (load.skipped * 100.0).round() as u8,
            cpu_mhz: load.cpu_mhz,
            cpu_max_mhz: load.cpu_max_mhz,
            temperature_c: load.celsius,
        }
    }
}

/// Tolerated errors since start, by [`ErrorKind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorCounts {
    pub packet: u64,
    pub loss: u64,
    pub picture: u64,
    pub encode: u64,
    pub device: u64,
    pub lost: u64,
    pub late: u64,
    pub full: u64,
    pub skipped: u64,
    pub fallback: u64,
}

impl ErrorCounts {
    /// So many more of a kind.
    pub fn add(&mut self, kind: ErrorKind, count: u64) {
        *match kind {
            ErrorKind::Packet => &mut self.packet,
            ErrorKind::Loss => &mut self.loss,
            ErrorKind::Picture => &mut self.picture,
            ErrorKind::Encode => &mut self.encode,
            ErrorKind::Device => &mut self.device,
            ErrorKind::Lost => &mut self.lost,
            ErrorKind::Late => &mut self.late,
            ErrorKind::Full => &mut self.full,
            ErrorKind::Skipped => &mut self.skipped,
            ErrorKind::Fallback => &mut self.fallback,
        } += count;
    }

    /// How many of a kind.
    pub fn of(&self, kind: ErrorKind) -> u64 {
        match kind {
            ErrorKind::Packet => self.packet,
            ErrorKind::Loss => self.loss,
            ErrorKind::Picture => self.picture,
            ErrorKind::Encode => self.encode,
            ErrorKind::Device => self.device,
            ErrorKind::Lost => self.lost,
            ErrorKind::Late => self.late,
            ErrorKind::Full => self.full,
            ErrorKind::Skipped => self.skipped,
            ErrorKind::Fallback => self.fallback,
        }
    }
}

/// One viewer in `GET /api/sessions`. Carries no session key: that would be a key to end it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// A number that names the viewer in the log.
    pub viewer: u64,
    pub camera: String,
    pub peer: String,
    /// `connecting`, `waiting` (for a key frame), `catching_up`, `playing`.
    pub state: &'static str,
    pub since_ms: u64,
    pub age_ms: u64,
    /// POST received to last packet of the first key frame sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_picture_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// Share of packets lost on the way, 0 to 1, over the last second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Over the last two to four seconds: bits of every datagram made for it.
    pub bitrate: u64,
    /// Datagrams made for it: pictures, repairs, STUN, DTLS and RTCP.
    pub packets: u64,
    pub repairs: u64,
    pub queued_bytes: usize,
    /// Times that frames were skipped to the next key frame because the viewer was behind.
    pub skips: u64,
    pub key_frame_requests: u64,
}

/// `GET /healthz`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    pub cameras: usize,
    /// Cameras that ought to play and do not: as many as `down` names.
    pub cameras_down: usize,
    pub viewers: usize,
    /// Told to whoever may ask for the list of cameras.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<DownCamera>,
}

/// A camera that ought to play and does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DownCamera {
    pub name: String,
    /// As in [`CameraStatus`].
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// How long things take, recorded by the loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the time that the loop meant to wake to the time that it did.
    pub lag: Histogram,
    /// One turn of the loop, from wake to wait.
    pub turn: Histogram,
    /// POST received to last packet of the first key frame sent.
    pub join: Histogram,
}

/// How long one camera's pictures take in each stage, since start. A stage that its source does
/// not have stays empty and is not told. The API tells a [`Summary`] of each, `/metrics` all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageTimings {
    pub capture: Histogram,
    pub decode: Histogram,
    pub encode: Histogram,
    /// In the loop, until it is cut into packets and queued for its viewers.
    pub packetize: Histogram,
    /// Of live pictures, per viewer: from arrival to the last packet handed to the kernel. What is
    /// coded here arrived when it was taken, so this is all of its way.
    pub sent: Histogram,
}

/// One histogram in few numbers. The quantiles are the bounds of their buckets: estimates from
/// above.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl StageTimings {
    /// One picture was cut into packets.
    pub fn record(&mut self, before: Stages, packetize: Duration) {
        for (histogram, took) in [
            (&mut self.capture, before.capture),
            (&mut self.decode, before.decode),
            (&mut self.encode, before.encode),
            (&mut self.packetize, packetize),
        ] {
            if !took.is_zero() {
                histogram.record(took);
            }
        }
    }

    /// Each stage that pictures went through, by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let all = [
            ("capture", &self.capture),
            ("decode", &self.decode),
            ("encode", &self.encode),
            ("packetize", &self.packetize),
            ("sent", &self.sent),
        ];
        all.into_iter().filter(|(_, stage)| stage.count() > 0)
    }
}

impl Serialize for StageTimings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut stages = serializer.serialize_map(None)?;
        for (name, histogram) in self.named() {
            stages.serialize_entry(name, &Summary::of(histogram))?;
        }
        stages.end()
    }
}

impl Summary {
    fn of(histogram: &Histogram) -> Self {
        let longest = histogram.longest();
        let quantile = |share| histogram.quantile(share).unwrap_or_default().min(longest);
        Self {
            count: histogram.count(),
            p50_ms: millis(quantile(0.5)),
            p99_ms: millis(quantile(0.99)),
            max_ms: millis(longest),
        }
    }
}

/// To a hundredth of a millisecond.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e5).round() / 100.0
}

impl Timings {
    /// A copy for one scrape; the longest spans begin anew.
    pub fn scrape(&mut self) -> Self {
        let copy = self.clone();
        for histogram in [&mut self.lag, &mut self.turn, &mut self.join] {
            histogram.take_longest();
        }
        copy
    }
}

/// What the HTTP server has counted since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpCounters {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now: the only one here that falls again.
    pub connections_open: u64,
    /// Over `limits.connections`, or more than half of them from one address.
    pub connections_refused: u64,
    /// Closed for their age.
    pub connections_aged: u64,
    /// `accept` failed (no file descriptors left, client already gone).
    pub accept_errors: u64,
    /// Responses by class: `1xx` to `5xx`.
    pub responses: [u64; 5],
    /// 401
    pub unauthorized: u64,
    /// 403 and 421: a foreign page or host name.
    pub foreign: u64,
    /// 429: over `limits.requests`.
    pub too_many_requests: u64,
    /// 413: over `limits.body`.
    pub body_too_large: u64,
    /// 408
    pub body_too_slow: u64,
    /// 431
    pub head_too_large: u64,
    /// Closed because no whole head came in time; idle connections end so too.
    pub head_too_slow: u64,
    /// 400: not HTTP.
    pub unreadable: u64,
    /// 503: too many requests were waiting for the loop.
    pub calls_refused: u64,
    /// 503: the loop did not answer.
    pub replies_lost: u64,
    /// Connections ended by a fault of ours.
    pub panics: u64,
}

impl HttpCounters {
    /// Counts one response by its status.
    pub fn on_response(&mut self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5);
        self.responses[class - 1] += 1;
        match status {
            401 => self.unauthorized += 1,
            403 | 421 => self.foreign += 1,
            408 => self.body_too_slow += 1,
            413 => self.body_too_large += 1,
            429 => self.too_many_requests += 1,
            _ => {}
        }
    }
}
