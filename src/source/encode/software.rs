//! openh264, set up for cameras on small machines.
//!
//! In: pictures, orders. Out: access units, one copy after the encoder's own buffer.
//! Not here: raw options (raw).

use std::thread;
use std::time::{Duration, Instant};

use openh264::OpenH264API;
use openh264::Timestamp;
use openh264::encoder::{
    BitRate, Complexity, EncodedBitStream, Encoder as OpenH264, EncoderConfig, FrameRate,
    FrameType, IntraFramePeriod, RateControlMode, SpsPpsStrategy, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;

use super::cut::CutDetector;
use super::{
    Coded, EncodeError, Encoder, MIN_BITRATE, Picture, Plane, SAFETY_KEY_FRAME_SECONDS, Settings,
    Unit, raw,
};
use crate::media::pixel::{Colour, Matrix};
use crate::source::speed;

/// An encoder on the calling thread's own processor time.
pub struct Software {
    inner: OpenH264,
    size: (usize, usize),
    ceiling: u32,
    stage: Stage,
    wants_key_frame: bool,
    cuts: CutDetector,
    has_slices: bool,
}

impl Drop for Software {
    /// A thread of openh264's pool that has told of the last slice has yet to unlock a mutex of the
    /// encoder's (`CWelsTaskManageBase::OnTaskMinusOne`), and nothing waits for that.
    fn drop(&mut self) {
        if self.has_slices {
            thread::sleep(LAST_WORD);
        }
    }
}

/// What such a thread needs is a microsecond, unless it has to wait for a processor.
const LAST_WORD: Duration = Duration::from_millis(20);

/// openh264 takes no option before its first picture.
enum Stage {
    /// Orders wait here for the first picture.
    Fresh {
        bitrate: Option<u32>,
        fps: Option<u32>,
    },
    Running,
}

impl Software {
    /// Sets openh264 up, with as many slices as are worth it.
    ///
    /// # Errors
    /// Settings outside their bounds, or openh264's own refusal.
    pub fn open(settings: &Settings) -> Result<Self, EncodeError> {
        Self::open_with(settings, slices(settings))
    }

    /// Sets openh264 up with every picture in `slices` parts (1 to 4), each coded by a thread of
    /// its own while the calling one waits; with one, the calling thread codes.
    ///
    /// # Errors
    /// As [`Software::open`].
    pub fn open_with(settings: &Settings, slices: u16) -> Result<Self, EncodeError> {
        settings.check()?;
        let threads = if slices > 1 { pool() } else { 1 };
        let config = config(settings).num_threads(threads);
        let mut inner =
            OpenH264::with_api_config(OpenH264API::from_source(), config).map_err(|source| {
                EncodeError::OpenH264 {
                    doing: "open",
                    source,
                }
            })?;
        raw::silence(&mut inner)?;
        if slices > 1 {
            slice(&mut inner, settings, (slices, threads))?;
        }
        Ok(Self {
            inner,
            size: (settings.width as usize, settings.height as usize),
            ceiling: settings.ceiling,
            stage: Stage::Fresh {
                bitrate: None,
                fps: None,
            },
            wants_key_frame: false,
            cuts: CutDetector::default(),
            has_slices: slices > 1,
        })
    }

    /// Passes on the orders that came before the first picture.
    fn catch_up(&mut self) -> Result<(), EncodeError> {
        let Stage::Fresh { bitrate, fps } = self.stage else {
            return Ok(());
        };
        self.stage = Stage::Running;
        if let Some(fps) = fps {
            self.set_frame_rate(fps)?;
        }
        bitrate.map_or(Ok(()), |bps| self.set_bitrate(bps))
    }
}

impl Encoder for Software {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        if picture.size() != self.size {
            return Err(EncodeError::OtherSize {
                got: picture.size(),
                expected: self.size,
            });
        }
        self.wants_key_frame |= self.cuts.is_cut(picture);
        if self.wants_key_frame && matches!(self.stage, Stage::Running) {
            self.inner.force_intra_frame();
        }
        let millis = u64::try_from(picture.ticks / 90).unwrap_or(0);
        let stream = self
            .inner
            .encode_at(&Borrowed(picture), Timestamp::from_millis(millis))
            .map_err(|source| EncodeError::OpenH264 {
                doing: "encode",
                source,
            })?;
        let coded = match stream.frame_type() {
            FrameType::Skip | FrameType::Invalid => Coded::Skipped,
            kind @ (FrameType::IDR | FrameType::I | FrameType::P | FrameType::IPMixed) => {
                Coded::Unit(Unit {
                    data: collect(&stream).into(),
                    is_key_frame: matches!(kind, FrameType::IDR),
                    ticks: picture.ticks,
                    taken: picture.taken,
                })
            }
        };
        if matches!(&coded, Coded::Unit(unit) if unit.is_key_frame) {
            self.wants_key_frame = false;
        }
        self.catch_up()?;
        Ok(coded)
    }

    fn force_key_frame(&mut self) {
        self.wants_key_frame = true;
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        let bps = bps.clamp(MIN_BITRATE, self.ceiling.max(MIN_BITRATE));
        match &mut self.stage {
            Stage::Fresh { bitrate, .. } => {
                *bitrate = Some(bps);
                Ok(())
            }
            Stage::Running => {
                let bps = i32::try_from(bps).unwrap_or(i32::MAX);
                raw::set_bitrate(&mut self.inner, bps)
            }
        }
    }

    fn set_frame_rate(&mut self, new: u32) -> Result<(), EncodeError> {
        if !(1..=super::MAX_FPS).contains(&new) {
            return Err(EncodeError::FrameRate(new));
        }
        match &mut self.stage {
            Stage::Fresh { fps, .. } => {
                *fps = Some(new);
                Ok(())
            }
            Stage::Running => raw::set_frame_rate(&mut self.inner, new as f32),
        }
    }

    fn name(&self) -> &'static str {
        "openh264"
    }
}

fn config(settings: &Settings) -> EncoderConfig {
    EncoderConfig::new()
        .usage_type(UsageType::CameraVideoRealTime)
        .complexity(Complexity::Low)
        .rate_control_mode(RateControlMode::Bitrate)
        // Without skipping, openh264 does not hold its bit rate (and says so on stderr).
        .skip_frames(true)
        .bitrate(BitRate::from_bps(settings.ceiling))
        .max_frame_rate(FrameRate::from_hz(settings.fps as f32))
        .intra_frame_period(IntraFramePeriod::from_num_frames(
            settings.fps * SAFETY_KEY_FRAME_SECONDS,
        ))
        // Takes a noisy picture that pans for a cut again and again; we look ourselves (cut).
        .scene_change_detect(false)
        .adaptive_quantization(false)
        .background_detection(true)
        // One id for ever: a decoder that missed an IDR still finds its parameters.
        .sps_pps_strategy(SpsPpsStrategy::ConstantId)
        .vui(match Colour::of_stream(settings.height as usize).matrix {
            Matrix::Bt709 => VuiConfig::bt709(),
            Matrix::Bt601 => VuiConfig::bt601(),
        })
}

/// As many as [`Speed::slices`](crate::source::speed::Speed::slices) finds worth it. Any machine
/// with a second processor does [`LITTLE`] on one.
fn slices(settings: &Settings) -> u16 {
    let pixels = f64::from(settings.width) * f64::from(settings.height);
    let per_second = pixels * f64::from(settings.fps);
    if per_second <= LITTLE {
        return 1;
    }
    speed::of_this_machine().slices(per_second)
}

/// openh264 has one pool of threads for all encoders of the process, of the size that the first
/// one asked for. With a thread for each slice of one camera, the cameras of a board with four
/// processors would wait for each other on two of them.
fn pool() -> u16 {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    processors.clamp(2, MOST_THREADS) as u16
}

/// Pixels per second: 640x480 at 30 fps.
const LITTLE: f64 = 640.0 * 480.0 * 30.0;
/// What openh264 takes (`MAX_THREADS_NUM`).
const MOST_THREADS: usize = 4;

/// The wrapper knows pictures of one slice only, and openh264 takes no options before its first
/// picture: so a grey one goes first and is thrown away. The next is a key frame of its own
/// accord.
fn slice(
    inner: &mut OpenH264,
    settings: &Settings,
    (slices, threads): (u16, u16),
) -> Result<(), EncodeError> {
    let (width, height) = (settings.width as usize, settings.height as usize);
    let grey = vec![128; width * height];
    let chroma = Plane::new(&grey, width / 2);
    let planes = [Plane::new(&grey, width), chroma, chroma];
    let picture = Picture::new((width, height), planes, 0, Instant::now())?;
    let first = inner.encode_at(&Borrowed(&picture), Timestamp::from_millis(0));
    let doing = "first picture";
    first.map_err(|source| EncodeError::OpenH264 { doing, source })?;
    raw::set_slices(inner, slices, threads)
}

fn collect(stream: &EncodedBitStream<'_>) -> Vec<u8> {
    let mut length = 0;
    for_each_nal(stream, |nal| length += nal.len());
    let mut data = Vec::with_capacity(length);
    for_each_nal(stream, |nal| data.extend_from_slice(nal));
    data
}

fn for_each_nal(stream: &EncodedBitStream<'_>, mut visit: impl FnMut(&[u8])) {
    for layer in (0..stream.num_layers()).filter_map(|n| stream.layer(n)) {
        for n in 0..layer.nal_count() {
            if let Some(nal) = layer.nal_unit(n) {
                visit(nal);
            }
        }
    }
}

/// The wrapper's own slices ask for planes without a byte too many; capture buffers have some.
struct Borrowed<'a>(&'a Picture<'a>);

impl YUVSource for Borrowed<'_> {
    fn dimensions(&self) -> (usize, usize) {
        self.0.size()
    }

    fn strides(&self) -> (usize, usize, usize) {
        let [y, u, v] = self.0.planes();
        (y.stride, u.stride, v.stride)
    }

    fn y(&self) -> &[u8] {
        self.0.planes()[0].data
    }

    fn u(&self) -> &[u8] {
        self.0.planes()[1].data
    }

    fn v(&self) -> &[u8] {
        self.0.planes()[2].data
    }
}
