//! Finds hardware encoders and makes one ready: formats, crop, rate, controls.
//!
//! In: nodes of this machine, settings. Out: an open device with its layout, and what it lacks.
//! Not here: buffers and pictures (the module above).
//!
//! The order is that of the kernel's "Memory-to-Memory Stateful Video Encoder Interface": coded
//! format, raw format, crop, rate, controls, then buffers.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::super::{EncodeError, Settings};
use super::layout::{Layout, Pixel};
use super::limits::Limits;
use crate::media::pixel::{Colour, Matrix};
use crate::source::v4l2::sys::{self, Format, FourCc, Queue, Rectangle};

/// A node that takes raw pictures in and gives H.264 out.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub path: PathBuf,
    pub driver: String,
    pub card: String,
    /// The raw formats that it takes, of those we can write.
    pub pixels: Vec<Pixel>,
    /// How large and how fast.
    pub limits: Limits,
}

/// Hardware encoders of this machine, lowest node first, [`MAX_NODES`] nodes looked at. Those of
/// USB cameras are not opened: one that hangs would hang whoever looks for an encoder.
pub fn find() -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir("/dev") else {
        return Vec::new();
    };
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("video")?.parse::<u32>().ok()
    };
    let mut numbers: Vec<u32> = entries.flatten().filter_map(number).collect();
    numbers.sort_unstable();
    let paths = numbers
        .iter()
        .filter(|n| !is_usb_camera(Path::new(SYS), **n))
        .map(|n| PathBuf::from(format!("/dev/video{n}")));
    paths
        .take(MAX_NODES)
        .filter_map(|path| look(&path))
        .collect()
}

/// Whether the driver of a node is that of USB cameras, as `/sys/class/video4linux` says. Asks the
/// file system alone, never the device.
fn is_usb_camera(sys: &Path, number: u32) -> bool {
    let driver = sys.join(format!("video{number}/device/driver"));
    let target = std::fs::read_link(driver).ok();
    target.is_some_and(|target| target.ends_with("uvcvideo"))
}

/// What there is at `path`, if it is a hardware encoder.
pub fn look(path: &Path) -> Option<Found> {
    let fd = sys::open(path).ok()?;
    let capability = sys::capability(&fd).ok()?;
    let (raw, coded) = capability.m2m_queues()?;
    let has = |queue, fourcc| sys::formats(&fd, queue).iter().any(|f| f.fourcc == fourcc);
    if !has(coded, H264) {
        return None;
    }
    let offered = sys::formats(&fd, raw);
    let is_offered = |pixel: &Pixel| offered.iter().any(|f| f.fourcc == pixel.fourcc());
    let pixels: Vec<Pixel> = Pixel::ALL.into_iter().filter(is_offered).collect();
    (!pixels.is_empty()).then(|| Found {
        path: path.to_owned(),
        driver: capability.driver,
        card: capability.card,
        pixels,
        limits: Limits::of(path),
    })
}

/// A device that is set up and has no buffers yet.
pub(super) struct Ready {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) queues: (Queue, Queue),
    pub(super) layout: Layout,
    /// Memory planes of raw pictures.
    pub(super) planes: usize,
    /// What the device would not do, for a person.
    pub(super) lacks: Vec<String>,
}

/// Opens `path` for `settings`, with pictures written as `pixel`.
pub(super) fn prepare(
    path: &Path,
    settings: &Settings,
    pixel: Pixel,
) -> Result<Ready, EncodeError> {
    let call = Call(path);
    let fd = Arc::new(call.check("open", sys::open(path))?);
    let capability = call.check("ask what it is", sys::capability(&fd))?;
    let queues = capability.m2m_queues();
    let (raw, coded) = queues.ok_or_else(|| call.unfit("no encoder".to_owned()))?;
    let mut lacks = Vec::new();
    let format = formats(&call, &fd, (raw, coded), settings, pixel)?;
    crop(&fd, raw, settings, &format, &mut lacks);
    if sys::set_frame_time(&fd, raw, (1, settings.fps)).is_err() {
        lacks.push("frame rate".to_owned());
    }
    controls(&call, &fd, settings, &mut lacks)?;
    let layout = Layout::new(pixel, &format, settings.width as usize);
    let layout = layout.ok_or_else(|| {
        let planes = &format.planes;
        call.unfit(format!("{} in planes of {planes:?}", format.fourcc))
    })?;
    Ok(Ready {
        fd,
        queues: (raw, coded),
        layout,
        planes: format.planes.len(),
        lacks,
    })
}

/// Sets both formats, and gives that of raw pictures.
fn formats(
    call: &Call<'_>,
    fd: &OwnedFd,
    (raw, coded): (Queue, Queue),
    settings: &Settings,
    pixel: Pixel,
) -> Result<Format, EncodeError> {
    let size = (settings.width, settings.height);
    let room = (size.0 * size.1).max(MIN_CODED);
    let set = sys::set_format(fd, coded, &Format::ask(H264, size, room));
    let got = call.check("set the coded format", set)?;
    if got.fourcc != H264 {
        return Err(call.unfit(format!("gives {} for H264", got.fourcc)));
    }
    let mut wish = Format::ask(pixel.fourcc(), size, 0);
    wish.colorspace = match Colour::of_stream(settings.height as usize).matrix {
        Matrix::Bt709 => REC709,
        Matrix::Bt601 => SMPTE170M,
    };
    wish.quantization = LIMITED_RANGE;
    let got = call.check("set the raw format", sys::set_format(fd, raw, &wish))?;
    let is_large_enough = got.width >= size.0 && got.height >= size.1;
    if got.fourcc != wish.fourcc || !is_large_enough {
        let (fourcc, width, height) = (got.fourcc, got.width, got.height);
        let asked = wish.fourcc;
        let why = format!(
            "takes {fourcc} {width}x{height} for {asked} {}x{}",
            size.0, size.1
        );
        return Err(call.unfit(why));
    }
    Ok(got)
}

/// Tells the device which part of its rounded picture is ours.
fn crop(fd: &OwnedFd, raw: Queue, settings: &Settings, format: &Format, lacks: &mut Vec<String>) {
    let wish = Rectangle {
        left: 0,
        top: 0,
        width: settings.width,
        height: settings.height,
    };
    let is_cropped = sys::set_selection(fd, raw, wish) == Ok(wish);
    if !is_cropped && (format.width, format.height) != (settings.width, settings.height) {
        lacks.push(format!("crop (codes {}x{})", format.width, format.height));
    }
}

fn controls(
    call: &Call<'_>,
    fd: &OwnedFd,
    settings: &Settings,
    lacks: &mut Vec<String>,
) -> Result<(), EncodeError> {
    // Without these two nobody could join, nor any network be spared.
    if sys::control_info(fd, control::FORCE_KEY_FRAME).is_err() {
        return Err(call.unfit("cannot be asked for key frames".to_owned()));
    }
    set_near(fd, control::BITRATE, i64::from(settings.ceiling))
        .map_err(|source| call.error("set the bit rate", source))?;
    // Each has no more than a slower start or a longer stream to lose.
    let set = |id, value| set_near(fd, id, value).is_ok();
    set(control::FRAME_RATE_CONTROL, 1);
    set(control::HEADER_MODE, JOINED_WITH_FIRST);
    set(control::B_FRAMES, 0);
    let period = i64::from(settings.fps * super::super::SAFETY_KEY_FRAME_SECONDS);
    let has_period = [control::I_PERIOD, control::GOP_SIZE].map(|id| set(id, period));
    let repeats = [control::REPEAT_HEADERS, control::PREPEND_HEADERS].map(|id| set(id, 1));
    let is_baseline =
        set(control::PROFILE, CONSTRAINED_BASELINE) || set(control::PROFILE, BASELINE);
    for (is_set, name) in [
        (
            set(control::BITRATE_MODE, CONSTANT_BITRATE),
            "constant bit rate",
        ),
        (has_period.contains(&true), "key frame interval"),
        (repeats.contains(&true), "repeated headers"),
        (is_baseline, "constrained baseline"),
        (set(control::LEVEL, level(settings)), "level"),
    ] {
        if !is_set {
            lacks.push(name.to_owned());
        }
    }
    Ok(())
}

/// Sets a control to the value nearest to `value` that it takes.
pub(super) fn set_near(fd: &OwnedFd, id: u32, value: i64) -> nix::Result<()> {
    let info = sys::control_info(fd, id)?;
    if info.min > info.max {
        return Err(Errno::ERANGE);
    }
    let value = value.clamp(info.min, info.max);
    let step = i64::try_from(info.step).unwrap_or(1).max(1);
    let value = value - (value - info.min).rem_euclid(step);
    if sys::control(fd, id) == Ok(value) {
        return Ok(()); // some drivers refuse to set what is set while they stream
    }
    sys::set_control(fd, id, value)
}

/// The menu index of the lowest level that holds the stream, 3.1 at least, which every browser
/// offers (H.264 table A-1).
fn level(settings: &Settings) -> i64 {
    let blocks = settings.width.div_ceil(16) * settings.height.div_ceil(16);
    let rate = blocks * settings.fps;
    let fits = |level: &&(i64, u32, u32, u32)| {
        blocks <= level.1 && rate <= level.2 && settings.ceiling <= level.3
    };
    LEVELS
        .iter()
        .find(fits)
        .unwrap_or(&LEVELS[LEVELS.len() - 1])
        .0
}

/// Menu index, macroblocks of a picture, macroblocks per second, bits per second.
const LEVELS: &[(i64, u32, u32, u32)] = &[
    (9, 3600, 108_000, 14_000_000),     // 3.1
    (10, 5120, 216_000, 20_000_000),    // 3.2
    (11, 8192, 245_760, 20_000_000),    // 4
    (12, 8192, 245_760, 50_000_000),    // 4.1
    (13, 8704, 522_240, 50_000_000),    // 4.2
    (14, 22_080, 589_824, 135_000_000), // 5
    (15, 36_864, 983_040, 240_000_000), // 5.1
];

/// Words for what a call was about.
pub(super) struct Call<'a>(pub(super) &'a Path);

impl Call<'_> {
    pub(super) fn error(&self, doing: &'static str, source: Errno) -> EncodeError {
        EncodeError::Hardware {
            node: self.0.display().to_string(),
            doing,
            source,
        }
    }

    pub(super) fn check<T>(
        &self,
        doing: &'static str,
        result: nix::Result<T>,
    ) -> Result<T, EncodeError> {
        result.map_err(|source| self.error(doing, source))
    }

    pub(super) fn unfit(&self, why: String) -> EncodeError {
        EncodeError::HardwareUnfit {
            node: self.0.display().to_string(),
            why,
        }
    }
}

/// `V4L2_CID_MPEG_VIDEO_*`: the kernel's numbers, which never change.
pub(super) mod control {
    const CODEC: u32 = 0x0099_0900;
    pub(crate) const B_FRAMES: u32 = CODEC + 202;
    pub(crate) const GOP_SIZE: u32 = CODEC + 203;
    pub(crate) const BITRATE_MODE: u32 = CODEC + 206;
    pub(crate) const BITRATE: u32 = CODEC + 207;
    pub(crate) const FRAME_RATE_CONTROL: u32 = CODEC + 215;
    pub(crate) const HEADER_MODE: u32 = CODEC + 216;
    pub(crate) const REPEAT_HEADERS: u32 = CODEC + 226;
    pub(crate) const FORCE_KEY_FRAME: u32 = CODEC + 229;
    pub(crate) const I_PERIOD: u32 = CODEC + 358;
    pub(crate) const LEVEL: u32 = CODEC + 359;
    pub(crate) const PROFILE: u32 = CODEC + 363;
    pub(crate) const PREPEND_HEADERS: u32 = CODEC + 644;
}

const SYS: &str = "/sys/class/video4linux";
const H264: FourCc = FourCc::new(b"H264");
const CONSTANT_BITRATE: i64 = 1;
const JOINED_WITH_FIRST: i64 = 1;
const BASELINE: i64 = 0;
const CONSTRAINED_BASELINE: i64 = 1;
/// `enum v4l2_colorspace`, `enum v4l2_quantization`.
const SMPTE170M: u32 = 1;
const REC709: u32 = 3;
const LIMITED_RANGE: u32 = 2;
/// Bytes for a coded picture at least; one byte per pixel in larger ones, which no key frame at
/// our bit rates comes near.
const MIN_CODED: u32 = 256 << 10;
/// A machine has some dozens at most (a Raspberry Pi 5 more than thirty).
pub const MAX_NODES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_the_lowest_that_holds_size_rate_and_bits() {
        let level = |width, height, fps, ceiling| {
            level(&Settings {
                width,
                height,
                fps,
                ceiling,
            })
        };
        assert_eq!(level(640, 480, 30, 1_000_000), 9);
        assert_eq!(level(1280, 720, 30, 4_000_000), 9);
        assert_eq!(level(1280, 720, 60, 4_000_000), 10);
        assert_eq!(level(1920, 1080, 30, 4_000_000), 11);
        assert_eq!(level(1920, 1080, 30, 30_000_000), 12);
        assert_eq!(level(1920, 1080, 60, 8_000_000), 13);
        assert_eq!(level(3840, 2160, 30, 8_000_000), 15);
        assert_eq!(level(3840, 2160, 60, 8_000_000), 15, "beyond the last");
    }

    #[test]
    fn usb_cameras_are_known_by_their_driver() {
        let name = format!("pinhole-drivers-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        for (number, driver) in [(0, "uvcvideo"), (1, "bcm2835-codec")] {
            let device = root.join(format!("video{number}/device"));
            std::fs::create_dir_all(&device).unwrap();
            let target = Path::new("../../../bus/drivers").join(driver);
            std::os::unix::fs::symlink(target, device.join("driver")).unwrap();
        }
        let known = [0, 1, 2].map(|number| is_usb_camera(&root, number));
        assert_eq!(known, [true, false, false]);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_is_no_encoder_is_not_found() {
        assert_eq!(look(Path::new("/dev/null")), None);
        assert_eq!(look(Path::new("/dev/no-such-node")), None);
    }
}
