//! The words every room shares: access units, what a source says and is told, media time.
//!
//! In: bytes and numbers. Out: facts about them.
//! Not here: anything that moves, waits or opens something.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod frame;
pub mod h264;
pub mod histogram;
pub mod ice;
pub mod packetize;
pub mod pixel;
pub mod time;

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// One entry of the camera list, by its place in the configuration. Never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraId(pub u32);

/// The coding of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264, Annex B byte stream.
    H264,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H264",
        })
    }
}

/// One coded picture, as a source hands it on.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    pub codec: Codec,
    /// Annex B: every NAL unit behind a start code. Shared, never copied. A key frame carries
    /// its SPS and PPS. Each source bounds its length; the hub and the queues bound how many live.
    pub data: Bytes,
    /// An IDR picture: decoding can start here.
    pub is_key_frame: bool,
    /// The camera's own clock in 90 kHz ticks, extended beyond 32 bits. Meaningful only against
    /// other units of the same run of the same source.
    pub ticks: i64,
    /// When the last byte of this unit reached the process (RTSP), or when the picture was taken
    /// (V4L2, pattern).
    pub received: Instant,
    /// Something before this unit was lost: what follows must wait for the next key frame.
    pub after_loss: bool,
    /// How long each stage before this point took; zero where a stage does not exist.
    pub stages: Stages,
}

/// Time that one picture spent in each stage before it was handed on. No bound: a source that
/// hangs is restarted, so a stage takes `stall` at most where it hands on anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub capture: Duration,
    pub decode: Duration,
    pub encode: Duration,
}

/// What a source can do when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// A [`Demand::KeyFrame`] makes the next coded picture an IDR.
    pub can_force_key_frame: bool,
    /// A [`Demand::Bitrate`] is followed.
    pub can_change_rate: bool,
}

/// What a source says to the loop. Each comes with the [`CameraId`] that it belongs to.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// A new run begins: the source tries to open its camera. Time bases start afresh.
    Opening,
    /// The camera answers and pictures are expected.
    Playing(Abilities),
    /// A fact worth telling about the running stream (transport used, server name, H.264 profile).
    Note(String),
    /// What coding costs, from sources that code themselves: at the start, when it changes, and
    /// every few seconds.
    Load(Box<Load>),
    /// One coded picture.
    Unit(AccessUnit),
    /// A tolerated error: counted, and the stream goes on.
    Error {
        kind: ErrorKind,
        /// How many came in a row without a unit handed on between them.
        in_a_row: u32,
        /// For a person; never holds a secret.
        detail: String,
    },
    /// Pictures were not handed on, and none of them is an error of a row. Told every second at
    /// most.
    LeftOut(LeftOut),
    /// The run is over. Sent *before* the source's loop ends or waits.
    Down {
        reason: DownReason,
        /// For a person; never holds a secret.
        detail: String,
        /// When the next attempt begins; `None` when none will be made.
        retry_at: Option<Instant>,
    },
    /// The source was asked to stop and has let go of its camera.
    Closed,
}

/// How hard the machine works for one camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What codes, and why this.
    pub encoder: String,
    /// The machine is too slow for what was configured, for this reason: rate or size are lower.
    pub strain: Option<Strain>,
    /// Pictures per second that are coded at most.
    pub fps: u32,
    /// Pixels.
    pub size: (u32, u32),
    /// One picture, from raw to coded, mean of a second; zero in the first one.
    pub cost: Duration,
    /// The time that there is for it.
    pub interval: Duration,
    /// Part of the pictures of that second that rate control left out ([`LeftOut::skipped`]).
    pub skipped: f32,
    /// Of the first processor, now and at most, where the kernel says so.
    pub cpu_mhz: Option<u32>,
    pub cpu_max_mhz: Option<u32>,
    /// Of the hottest sensor.
    pub celsius: Option<f32>,
}

/// Why a machine cannot keep up with a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    /// Decoding and coding a picture take most of the frame interval.
    Cost,
    /// The hardware encoder is behind, and pictures are left out for it.
    Device,
    /// Pictures are outdated before the camera's thread gets to them, though each is cheap: others
    /// have the processor.
    Starved,
}

impl Strain {
    /// The word used in logs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Device => "device",
            Self::Starved => "starved",
        }
    }
}

/// Pictures that a source did not hand on, by why. Those that come are whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Never came out of the device: a gap in the driver's numbers.
    pub lost: u64,
    /// Raw ones that were outdated before there was time to code them: the machine is too slow.
    pub late: u64,
    /// There was no place for them in the channel to the loop.
    pub full: u64,
    /// The encoder's rate control kept to the bit rate: they hold more than it carries.
    pub skipped: u64,
}

impl LeftOut {
    /// What was left out since `self` was `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            lost: self.lost - before.lost,
            late: self.late - before.late,
            full: self.full - before.full,
            skipped: self.skipped - before.skipped,
        }
    }

    /// Some more.
    pub fn add(&mut self, more: Self) {
        self.lost += more.lost;
        self.late += more.late;
        self.full += more.full;
        self.skipped += more.skipped;
    }

    /// By the kind that it is counted as.
    pub fn by_kind(self) -> [(ErrorKind, u64); 4] {
        [
            (ErrorKind::Lost, self.lost),
            (ErrorKind::Late, self.late),
            (ErrorKind::Full, self.full),
            (ErrorKind::Skipped, self.skipped),
        ]
    }
}

/// Errors of a source, by kind: a label in metrics and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// RTP or RTCP that could not be understood or assembled.
    Packet,
    /// Packets that never came (sequence gap).
    Loss,
    /// A picture that could not be decoded or that breaks its codec's rules.
    Picture,
    /// The encoder refused a picture.
    Encode,
    /// The device or kernel driver reported an error for one buffer.
    Device,
    /// [`LeftOut::lost`].
    Lost,
    /// [`LeftOut::late`].
    Late,
    /// [`LeftOut::full`].
    Full,
    /// [`LeftOut::skipped`].
    Skipped,
    /// The hardware encoder failed and software took over. No picture was left out.
    Fallback,
}

impl ErrorKind {
    /// Every kind, in the order of the labels.
    pub const ALL: [Self; 10] = [
        Self::Packet,
        Self::Loss,
        Self::Picture,
        Self::Encode,
        Self::Device,
        Self::Lost,
        Self::Late,
        Self::Full,
        Self::Skipped,
        Self::Fallback,
    ];

    /// Something went wrong; the others are pictures left out ([`LeftOut`]).
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Lost | Self::Late | Self::Full | Self::Skipped)
    }

    /// The word used in logs, API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Loss => "loss",
            Self::Picture => "picture",
            Self::Encode => "encode",
            Self::Device => "device",
            Self::Lost => "lost",
            Self::Late => "late",
            Self::Full => "full",
            Self::Skipped => "skipped",
            Self::Fallback => "fallback",
        }
    }
}

/// Why a run of a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DownReason {
    /// The camera (or its network) does not answer.
    Unreachable,
    /// The camera refuses our user name or password.
    Unauthorized,
    /// The camera answers, but with nothing that we can use (H.265 only, no video).
    Unsupported,
    /// The camera went silent.
    Stalled,
    /// Nothing is connected to the input of a grabber, or nothing that it can lock on to.
    NoSignal,
    /// Too many errors in a row.
    Errors,
    /// The camera ended the stream itself (TEARDOWN, end of file).
    Ended,
    /// A fault of ours: the task or thread panicked.
    Internal,
}

impl DownReason {
    /// The word used in logs, API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Unsupported => "unsupported",
            Self::Stalled => "stalled",
            Self::NoSignal => "no_signal",
            Self::Errors => "errors",
            Self::Ended => "ended",
            Self::Internal => "internal",
        }
    }
}

/// What the loop tells a source. Later demands replace earlier ones of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Open the camera and keep it open.
    Open,
    /// Let go of the camera; answered with [`SourceEvent::Closed`].
    Close,
    /// Make the next picture a key frame.
    KeyFrame,
    /// Encode at this many bits per second from now on.
    Bitrate(u32),
}

/// An error and its causes in one line, for a log or a person.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
}
