//! The seam between pictures and coded units: one [`Encoder`], whoever does the work.
//!
//! In: borrowed I420 pictures with their capture time, orders (key frame, bit rate, frame rate).
//! Out: H.264 access units in Annex B, constrained baseline, without reordering.
//! Not here: where pictures come from, when they are taken, who is sent the result.
//!
//! An encoder belongs to the one thread of its camera and may take its time there. [`open`] gives
//! the hardware's ([`m2m`]) or openh264, and goes from one to the other when the hardware fails.

pub mod away;
mod choose;
mod cut;
pub mod failures;
pub mod load;
pub mod m2m;
pub mod overload;
mod raw;
mod software;

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::EncoderChoice;
use crate::media::{AccessUnit, Codec, Stages};

pub use choose::{Chosen, Machine, Makers, Opened};
pub use failures::{FIRST_RETRY, Failures};
pub use software::Software;

/// Turns pictures into access units, in order, without B-pictures.
///
/// To drop one takes as long as its device hangs: [`away::let_go`] does so on another thread.
pub trait Encoder: Send {
    /// Codes one picture. A pipelined encoder may answer with the unit of an *earlier* picture:
    /// the unit carries the time of the picture that it belongs to.
    ///
    /// # Errors
    /// The picture was not coded. The encoder stays usable; what follows may refer to a picture
    /// that nobody received, so the caller forces a key frame next.
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError>;

    /// Makes the next picture an IDR. Asking again before it comes changes nothing.
    fn force_key_frame(&mut self);

    /// Codes from the next picture on at `bps` bits per second, held between [`MIN_BITRATE`] and
    /// the ceiling of [`Settings`]. Neither restarts the encoder nor makes a key frame.
    ///
    /// # Errors
    /// The encoder refused; the old rate stays.
    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError>;

    /// Spreads the bits over `fps` pictures per second (1 to [`MAX_FPS`]) from the next one on.
    ///
    /// # Errors
    /// The encoder refused; the old rate stays.
    fn set_frame_rate(&mut self, fps: u32) -> Result<(), EncodeError>;

    /// The last picture was left out because earlier ones are still being coded (hardware only):
    /// it cost no time here, and yet the device is too slow.
    fn is_behind(&self) -> bool {
        false
    }

    /// The part of the last [`Encoder::encode`] that was only waiting for a device.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// For logs and the API: "openh264".
    fn name(&self) -> &'static str;

    /// The units of pictures that were answered with [`Coded::Pending`]. The encoder can be used
    /// on, with a key frame first; worth a call before it is dropped.
    ///
    /// # Errors
    /// As in [`Encoder::encode`].
    fn drain(&mut self) -> Result<Vec<Unit>, EncodeError> {
        Ok(Vec::new())
    }

    /// What there is to tell since the last call; ask after opening and after every picture.
    fn poll_news(&mut self) -> Option<News> {
        None
    }
}

/// What an encoder has to tell about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What codes from now on, and why this: "openh264: no hardware encoder found".
    Chosen(String),
    /// The hardware failed, software took over and no picture was left out.
    Fault(String),
}

/// What became of one picture.
#[derive(Clone, Debug)]
pub enum Coded {
    /// An access unit.
    Unit(Unit),
    /// Left out by rate control to stay within the bit rate. References are intact.
    Skipped,
    /// Taken in; its unit follows with a later call (hardware only).
    Pending,
}

/// One coded picture.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Annex B. A key frame begins with SPS and PPS.
    pub data: Bytes,
    /// An IDR picture.
    pub is_key_frame: bool,
    /// As in the picture.
    pub ticks: i64,
    /// As in the picture.
    pub taken: Instant,
}

impl Unit {
    /// As a source hands it on, after a picture that was handed on too.
    pub fn into_access_unit(self, stages: Stages) -> AccessUnit {
        AccessUnit {
            codec: Codec::H264,
            data: self.data,
            is_key_frame: self.is_key_frame,
            ticks: self.ticks,
            received: self.taken,
            after_loss: false,
            stages,
        }
    }
}

/// How an encoder is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pixels, even, 16 to 3840 (and 2160 on the shorter side).
    pub width: u32,
    pub height: u32,
    /// Pictures per second, 1 to [`MAX_FPS`].
    pub fps: u32,
    /// Bits per second that are never exceeded in the mean; also the rate to begin with.
    pub ceiling: u32,
}

impl Settings {
    fn check(&self) -> Result<(), EncodeError> {
        let (long, short) = (self.width.max(self.height), self.width.min(self.height));
        let even = self.width.is_multiple_of(2) && self.height.is_multiple_of(2);
        if !even || short < 16 || long > 3840 || short > 2160 {
            return Err(EncodeError::Size {
                width: self.width,
                height: self.height,
            });
        }
        if !(1..=MAX_FPS).contains(&self.fps) {
            return Err(EncodeError::FrameRate(self.fps));
        }
        if !(MIN_BITRATE..=MAX_BITRATE).contains(&self.ceiling) {
            return Err(EncodeError::Bitrate(self.ceiling));
        }
        Ok(())
    }
}

/// Opens an encoder as `choice` wants it: `Auto` takes hardware that is there and proves that it
/// works, else software, and looks for hardware again meanwhile. [`Encoder::poll_news`] tells
/// which and why.
///
/// Hardware that fails while it runs is replaced by software within the same picture, whatever
/// the choice, and tried again after [`FIRST_RETRY`]; until then no other encoder of this process
/// is opened on it.
///
/// # Errors
/// Settings outside their bounds; with `Hardware`, that there is none that works.
pub fn open(settings: &Settings, choice: EncoderChoice) -> Result<Box<dyn Encoder>, EncodeError> {
    let chosen = Chosen::open(Machine, FAILURES.clone(), settings, choice)?;
    Ok(Box::new(chosen))
}

/// Whether a hardware encoder has failed lately: [`open`] leaves it alone.
pub fn has_failed(node: &Path) -> bool {
    FAILURES.of(node, Instant::now()).is_some()
}

static FAILURES: LazyLock<Failures> = LazyLock::new(Failures::default);

/// One plane of samples: rows of 8-bit values, `stride` bytes apart.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    pub stride: usize,
}

impl<'a> Plane<'a> {
    /// Rows of `data`, `stride` bytes apart.
    pub fn new(data: &'a [u8], stride: usize) -> Self {
        Self { data, stride }
    }

    /// The first `width` samples of a row that is there.
    fn row(&self, row: usize, width: usize) -> &'a [u8] {
        &self.data[row * self.stride..][..width]
    }

    fn holds(&self, width: usize, height: usize) -> bool {
        let needed = (height - 1)
            .checked_mul(self.stride)
            .and_then(|n| n.checked_add(width));
        self.stride >= width && needed.is_some_and(|needed| self.data.len() >= needed)
    }
}

/// A borrowed I420 picture whose planes are known to be large enough.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    width: usize,
    height: usize,
    planes: [Plane<'a>; 3],
    /// Capture time on the camera's own clock, 90 kHz, rising.
    pub ticks: i64,
    /// The same moment on the machine's monotonic clock.
    pub taken: Instant,
    due: Option<Instant>,
}

impl<'a> Picture<'a> {
    /// `planes` are Y, U and V; the chroma planes have half of each side and one stride (openh264
    /// reads V with the stride of U).
    ///
    /// # Errors
    /// An odd or empty size, a plane that is too short for it, or two chroma strides.
    pub fn new(
        (width, height): (usize, usize),
        planes: [Plane<'a>; 3],
        ticks: i64,
        taken: Instant,
    ) -> Result<Self, EncodeError> {
        let even = width > 0 && height > 0 && width.is_multiple_of(2) && height.is_multiple_of(2);
        let [y, u, v] = planes;
        let chroma = (width / 2, height / 2);
        if !even
            || !y.holds(width, height)
            || !u.holds(chroma.0, chroma.1)
            || !v.holds(chroma.0, chroma.1)
            || u.stride != v.stride
        {
            return Err(EncodeError::Planes { width, height });
        }
        Ok(Self {
            width,
            height,
            planes,
            ticks,
            taken,
            due: None,
        })
    }

    /// The same, with the moment at which the next one is expected: no device is waited for
    /// beyond it.
    #[must_use]
    pub fn with_next_at(self, due: Instant) -> Self {
        Self {
            due: Some(due),
            ..self
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Y, U, V.
    pub fn planes(&self) -> &[Plane<'a>; 3] {
        &self.planes
    }
}

/// What an encoder refuses.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("picture size {width}x{height}: accepted are even sides from 16 to 3840x2160")]
    Size { width: u32, height: u32 },
    #[error("{0} pictures per second: accepted are 1 to {MAX_FPS}")]
    FrameRate(u32),
    #[error("{0} bits per second: accepted are {MIN_BITRATE} to {MAX_BITRATE}")]
    Bitrate(u32),
    #[error("planes do not hold a picture of {width}x{height}")]
    Planes { width: usize, height: usize },
    #[error("picture of {}x{} for an encoder set up for {}x{}", got.0, got.1, expected.0, expected.1)]
    OtherSize {
        got: (usize, usize),
        expected: (usize, usize),
    },
    #[error("openh264: {doing}")]
    OpenH264 {
        doing: &'static str,
        #[source]
        source: openh264::Error,
    },
    #[error("openh264: option {option} refused with code {code}")]
    Option { option: &'static str, code: i32 },
    #[error("no hardware encoder found")]
    NoHardware,
    #[error("{node}: {doing}")]
    Hardware {
        node: String,
        doing: &'static str,
        #[source]
        source: nix::errno::Errno,
    },
    #[error("{node}: {why}")]
    HardwareUnfit { node: String, why: String },
    #[error("{node} failed before ({why})")]
    HardwareFailed { node: String, why: String },
    #[error("{node}: no coded picture for {millis} ms")]
    HardwareSilent { node: String, millis: u64 },
    #[error("{node}: damaged picture, {in_a_row} in a row")]
    Damaged { node: String, in_a_row: u32 },
}

impl EncodeError {
    /// Whether the hardware encoder that says so had better be left alone.
    pub fn is_hardware_fault(&self) -> bool {
        match self {
            Self::NoHardware
            | Self::Hardware { .. }
            | Self::HardwareUnfit { .. }
            | Self::HardwareFailed { .. }
            | Self::HardwareSilent { .. } => true,
            Self::Damaged { in_a_row, .. } => *in_a_row >= MAX_DAMAGED,
            Self::Size { .. }
            | Self::FrameRate(_)
            | Self::Bitrate(_)
            | Self::Planes { .. }
            | Self::OtherSize { .. }
            | Self::OpenH264 { .. }
            | Self::Option { .. } => false,
        }
    }

    /// With its causes, for a person.
    pub fn chain(&self) -> String {
        crate::media::with_causes(self)
    }
}

/// Lowest bit rate asked of an encoder: below it even 320x180 turns to blocks.
pub const MIN_BITRATE: u32 = 50_000;
/// Highest bit rate: beyond it H.264 level 5.2 in this profile ends (240 Mbit/s), and no viewer
/// follows.
pub const MAX_BITRATE: u32 = 100_000_000;
/// Highest frame rate openh264 plans its bits for.
pub const MAX_FPS: u32 = 60;

/// Damaged pictures in a row that hardware is forgiven, less one.
const MAX_DAMAGED: u32 = 3;
/// Key frames are made on demand; this one is for a viewer whose demand was lost.
const SAFETY_KEY_FRAME_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_refused_with_the_accepted_range() {
        let good = Settings {
            width: 640,
            height: 480,
            fps: 30,
            ceiling: 1_000_000,
        };
        assert!(good.check().is_ok());
        for bad in [
            Settings { width: 641, ..good },
            Settings { height: 8, ..good },
            Settings {
                width: 4096,
                ..good
            },
            Settings {
                width: 2400,
                height: 2400,
                ..good
            },
            Settings { fps: 0, ..good },
            Settings { fps: 61, ..good },
            Settings { ceiling: 1, ..good },
            Settings {
                ceiling: u32::MAX,
                ..good
            },
        ] {
            let error = open(&bad, EncoderChoice::Auto)
                .err()
                .expect("refused")
                .to_string();
            assert!(error.contains("accepted are"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_plane_that_is_too_short_is_refused_before_the_encoder_reads_past_it() {
        let y = vec![0; 16 * 15 + 15];
        let c = vec![0; 8 * 8];
        let (short, chroma) = (Plane::new(&y, 16), Plane::new(&c, 8));
        let narrow = Plane::new(&c, 7);
        let now = Instant::now();
        assert!(Picture::new((16, 16), [short, chroma, chroma], 0, now).is_err());
        assert!(Picture::new((14, 16), [short, narrow, narrow], 0, now).is_ok());
        assert!(Picture::new((16, 14), [short, chroma, narrow], 0, now).is_err());
        assert!(Picture::new((14, 14), [short, narrow, chroma], 0, now).is_err());
        assert!(Picture::new((15, 14), [short, chroma, chroma], 0, now).is_err());
        assert!(Picture::new((0, 0), [short, chroma, chroma], 0, now).is_err());
    }
}
