//! A real camera: found, asked, set up, streaming.
//!
//! In: what the configuration wishes. Out: an open [`Camera`], or why not, for a person.
//! Not here: the capture loop (capture), restarts (keeper).
//!
//! The `v4l` crate opens nodes, lists sizes and rates and streams single-planar queues. Formats
//! and controls go through our own calls: the crate unwraps what a driver says of colours, names
//! and control types that are younger than itself, and has no multi-planar queue.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;
use tracing::warn;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::v4l_sys as raw;
use v4l::video::Capture;

use super::budget::Machine;
use super::control::{self, Described};
use super::mode::{self, Choice, Coding, Offer, Rates, Wish};
use super::names::Names;
use super::refusal::{absent, refused, unsupported};
use super::shared::{Brake, Shared};
use super::signal;
use super::sys::{
    self, Buffers, Dequeued, Format, FourCc, Node, Queue, Ready, Signal, SinglePlane, guarded,
};
use crate::config::{self, DeviceName};
use crate::media::DownReason;
use crate::media::pixel::Colour;
use crate::source::rtsp::verdict::{End, Pace};
use crate::source::{encode, speed};

/// How a run gets its camera; tests have their own.
pub trait Opener: Send + Sync + 'static {
    /// Opens the camera and starts it. Called on the capture thread; `shared` hears how far it
    /// is, and gets the brake.
    ///
    /// # Errors
    /// Why there are no pictures, for a person.
    fn open(&self, wish: &config::V4l2, shared: &Shared) -> Result<Opened, End>;

    /// Whether the device is plugged in. Quick.
    fn is_there(&self, device: &DeviceName) -> bool;
}

/// A camera that streams.
pub struct Opened {
    pub camera: Box<dyn Camera>,
    pub agreed: Agreed,
    /// Worth telling.
    pub notes: Vec<String>,
}

/// What comes out of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreed {
    pub coding: Coding,
    pub size: (u32, u32),
    /// Bytes from row to row of each buffer of a picture.
    pub strides: Vec<usize>,
    pub colour: Colour,
    /// Pictures per second that are wanted of it.
    pub fps: f64,
    /// Whether it may send more.
    pub is_limited: bool,
}

impl Agreed {
    /// More pictures a second than this are left out before they are decoded. A camera that keeps
    /// its word may be a little fast; one that does not is held to what was agreed.
    pub fn most_fps(&self) -> f64 {
        if self.is_limited {
            self.fps
        } else {
            self.fps * FAST_CLOCK
        }
    }
}

/// How fast a camera's own clock may be.
const FAST_CLOCK: f64 = 1.05;

/// An open camera. Dropping it stops it and lets go; that neither fails nor panics.
pub trait Camera {
    /// Waits for a buffer.
    ///
    /// # Errors
    /// Those of poll.
    fn wait(&mut self, limit: Duration) -> nix::Result<Ready>;

    /// Takes the next buffer; the one before goes back to the driver. Call when one is there.
    ///
    /// # Errors
    /// `EINVAL`: one buffer could not be given back, all else goes on. Any other ends the run.
    fn take(&mut self) -> nix::Result<Dequeued>;

    /// Whether another one is there already.
    fn has_more(&self) -> bool;

    /// The filled bytes of each buffer of the picture that was taken last.
    fn planes(&self) -> Vec<&[u8]>;

    /// Makes the next coded picture a key frame (cameras that code).
    ///
    /// # Errors
    /// The driver's.
    fn force_key_frame(&mut self) -> nix::Result<()>;

    /// Whether the camera has a control for that.
    fn can_force_key_frame(&self) -> bool;

    /// What the source at the camera's input has changed to, for a person, if it has: its pictures
    /// are others now, and the camera has to be opened anew. Ask when an event waits.
    fn take_change(&mut self) -> Option<String> {
        None
    }

    /// What its input lacks to give true pictures, for a person, where the driver knows.
    fn missing(&self) -> Option<String> {
        None
    }
}

/// The kernel's devices.
#[derive(Debug, Default)]
pub struct Kernel {
    pub names: Names,
    /// It was told that there is no signal: from then on a signal is waited for.
    lacks_signal: AtomicBool,
}

impl Opener for Kernel {
    fn is_there(&self, device: &DeviceName) -> bool {
        self.names.find(device).is_some()
    }

    fn open(&self, wish: &config::V4l2, shared: &Shared) -> Result<Opened, End> {
        shared.beat("opening");
        let Some(path) = self.names.find(&wish.device) else {
            return Err(absent(&wish.device, &self.names));
        };
        let node = Node::open(&path).map_err(|errno| refused(&path, "opening", errno))?;
        let queue = camera_queue(&node, &path)?;
        shared.beat("asking for its signal");
        let input = sys::input_in_use(node.fd()).ok();
        self.wait_for_signal(&node, input, &path, shared)?;
        let signal = signal::follow(&node, &path)?;
        shared.beat("listing modes");
        let offers = offers(&node, queue);
        let asked = Wish {
            size: wish.size.map(|size| (size.width, size.height)),
            fps: wish.fps,
        };
        shared.beat("measuring this machine");
        let speed = speed::of_this_machine();
        // A hardware encoder is proved where the choice of a mode rests on it.
        let (makers, proves) = (&mut encode::Machine, asked.size.is_none());
        let is_out = &|node: &Path| encode::has_failed(node);
        let machine = Machine::of(speed, wish.encoder, makers, (proves, is_out));
        let mut choice = mode::choose(&offers, &asked, &machine)
            .map_err(|why| unsupported(format!("{}: {why}", path.display())))?;
        shared.beat("setting the format");
        let format = set_format(&node, queue, &choice, &path)?;
        shared.beat("setting controls");
        let mut notes = set_controls(&node, wish, &path)?;
        let rate = set_rate(&node, queue, &mut choice);
        notes.insert(0, format!("{}: {}", path.display(), choice.why));
        notes.extend(rate);
        notes.extend(signal::note(&signal));
        let fd = node
            .duplicate()
            .map_err(|errno| refused(&path, "duplicating", errno))?;
        let can_force = choice.coding == Coding::H264 && has_key_frame_control(&fd);
        shared.set_brake(Some(Brake {
            fd: Arc::clone(&fd),
            queue,
        }));
        shared.beat("starting");
        let stream = Stream::start(node, fd, queue, format.planes.len())
            .map_err(|errno| refused(&path, "starting", errno))?;
        Ok(Opened {
            camera: Box::new(KernelCamera {
                stream,
                can_force,
                input,
                signal,
            }),
            agreed: agreed(&format, &choice),
            notes,
        })
    }
}

impl Kernel {
    /// The first time that nothing is there is told at once; after that it is waited for, so that
    /// the picture is back when the signal is.
    fn wait_for_signal(
        &self,
        node: &Node,
        input: Option<u32>,
        path: &Path,
        shared: &Shared,
    ) -> Result<(), End> {
        let missing = input.and_then(|input| match self.lacks_signal.load(Relaxed) {
            true => signal::still_missing(node.fd(), input, shared),
            false => signal::missing(node.fd(), input),
        });
        self.lacks_signal.store(missing.is_some(), Relaxed);
        missing.map_or(Ok(()), |missing| {
            Err(End {
                reason: DownReason::NoSignal,
                detail: format!("{}: {missing}", path.display()),
                pace: Pace::Soon,
            })
        })
    }
}

/// Cameras on USB have one that their driver must be told of.
fn has_key_frame_control(fd: &OwnedFd) -> bool {
    let _ = sys::offer_key_frames(fd);
    sys::control_info(fd, raw::V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME).is_ok()
}

#[allow(clippy::wildcard_enum_match_arm)] // the kernel's errors
fn camera_queue(node: &Node, path: &Path) -> Result<Queue, End> {
    let capability = sys::capability(node.fd()).map_err(|errno| match errno {
        Errno::ENOTTY => unsupported(format!("{} is no video device", path.display())),
        other => refused(path, "asking", other),
    })?;
    capability.camera_queue().ok_or_else(|| {
        let (path, card) = (path.display(), &capability.card);
        let what = match (capability.needs_libcamera(), capability.is_m2m()) {
            (true, _) => {
                let why = "needs libcamera, which Pinhole does not use";
                return unsupported(format!("{path} ({card}) {why}"));
            }
            (false, true) => "an encoder, decoder or converter",
            (false, false) => "a metadata or output node",
        };
        unsupported(format!(
            "{path} ({card}) is {what}, no camera; `pinhole devices` lists the cameras"
        ))
    })
}

/// What a camera offers that we can use.
pub fn offers(node: &Node, queue: Queue) -> Vec<Offer> {
    let mut offers = Vec::new();
    for entry in sys::formats(node.fd(), queue) {
        let Some(coding) = Coding::from_fourcc(entry.fourcc) else {
            continue;
        };
        for size in sizes(node, entry.fourcc) {
            if offers.len() < MAX_OFFERS {
                let rates = rates(node, entry.fourcc, size);
                offers.push(Offer {
                    coding,
                    size,
                    rates,
                });
            }
        }
    }
    if offers.is_empty() {
        offers.extend(current(node, queue));
    }
    offers
}

/// A driver that lists no sizes has the one that is set.
fn current(node: &Node, queue: Queue) -> Option<Offer> {
    let format = sys::format(node.fd(), queue).ok()?;
    Some(Offer {
        coding: Coding::from_fourcc(format.fourcc)?,
        size: (format.width, format.height),
        rates: Rates::Unknown,
    })
}

/// The sizes of one format.
pub fn sizes(node: &Node, fourcc: FourCc) -> Vec<(u32, u32)> {
    let listed = guarded(|| node.device().enum_framesizes(v4l::FourCC::new(&fourcc.0)));
    let mut sizes = Vec::new();
    for entry in listed.unwrap_or_default() {
        match entry.size {
            FrameSizeEnum::Discrete(one) => sizes.push((one.width, one.height)),
            FrameSizeEnum::Stepwise(range) => sizes.extend(mode::stepped_sizes(
                (range.min_width, range.min_height),
                (range.max_width, range.max_height),
                (range.step_width, range.step_height),
            )),
        }
    }
    sizes
}

/// The rates of one format at one size.
pub fn rates(node: &Node, fourcc: FourCc, (width, height): (u32, u32)) -> Rates {
    let listed = guarded(|| {
        let fourcc = v4l::FourCC::new(&fourcc.0);
        node.device().enum_frameintervals(fourcc, width, height)
    });
    let mut list = Vec::new();
    for entry in listed.unwrap_or_default() {
        match entry.interval {
            FrameIntervalEnum::Discrete(time) => list.push((time.numerator, time.denominator)),
            FrameIntervalEnum::Stepwise(range) => {
                return Rates::UpTo((range.min.numerator, range.min.denominator));
            }
        }
    }
    match list.is_empty() {
        true => Rates::Unknown,
        false => Rates::List(list),
    }
}

fn set_format(node: &Node, queue: Queue, choice: &Choice, path: &Path) -> Result<Format, End> {
    let mut ask = Format::ask(choice.coding.fourcc(), choice.size, 0);
    ask.field = raw::v4l2_field_V4L2_FIELD_NONE;
    let got = sys::set_format(node.fd(), queue, &ask)
        .map_err(|errno| refused(path, "setting the format", errno))?;
    if got.fourcc != ask.fourcc {
        return Err(unsupported(format!(
            "{}: asked for {}, the driver gives {}",
            path.display(),
            ask.fourcc,
            got.fourcc
        )));
    }
    if (got.width, got.height) != choice.size {
        let (width, height) = choice.size;
        return Err(unsupported(format!(
            "{}: asked for {width}x{height}, the driver gives {}x{}",
            path.display(),
            got.width,
            got.height
        )));
    }
    Ok(got)
}

/// The controls of a device with their menus.
pub fn described(node: &Node) -> Vec<Described> {
    let controls = sys::controls(node.fd()).into_iter();
    let with_menu = controls.map(|info| {
        let menu = match (Described {
            info: info.clone(),
            menu: Vec::new(),
        })
        .kind()
        {
            control::Kind::Menu => sys::menu(node.fd(), &info),
            control::Kind::Number
            | control::Kind::Flag
            | control::Kind::Button
            | control::Kind::Other => Vec::new(),
        };
        Described { info, menu }
    });
    with_menu.collect()
}

/// Sets the configured controls. What is worth telling comes back.
fn set_controls(node: &Node, wish: &config::V4l2, path: &Path) -> Result<Vec<String>, End> {
    if wish.controls.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |why: String| unsupported(format!("{}: controls: {why}", path.display()));
    let plan = control::plan(&wish.controls, &described(node)).map_err(wrong)?;
    let left = control::set_all(plan, |id, value| sys::set_control(node.fd(), id, value));
    let left = left.map_err(|errno| refused(path, "setting controls", errno))?;
    for note in &left {
        warn!(device = %path.display(), "{note}");
    }
    Ok(left)
}

/// Asks for the rate. Drivers without one, or with another, are taken as they are.
fn set_rate(node: &Node, queue: Queue, choice: &mut Choice) -> Option<String> {
    let wish = choice.interval?;
    let got = sys::set_frame_time(node.fd(), queue, wish).ok()?;
    granted(choice, mode::fps_of(wish), mode::fps_of(got))
}

/// Holds the choice to the rate that the driver gives; what is worth telling.
fn granted(choice: &mut Choice, asked: f64, gets: f64) -> Option<String> {
    if gets <= 0.0 {
        return None;
    }
    choice.is_limited = gets > choice.fps * 1.05;
    choice.fps = choice.fps.min(gets);
    ((asked - gets).abs() > 0.5)
        .then(|| format!("asked for {asked:.1} fps, the driver gives {gets:.1}"))
}

fn agreed(format: &Format, choice: &Choice) -> Agreed {
    let colour = match choice.coding {
        Coding::Raw(pixels) => Colour::from_v4l2(
            pixels,
            format.colorspace,
            format.encoding,
            format.quantization,
        ),
        Coding::H264 => Colour::of_stream(format.height as usize),
    };
    Agreed {
        coding: choice.coding,
        size: (format.width, format.height),
        strides: format.planes.iter().map(|p| p.stride as usize).collect(),
        colour,
        fps: choice.fps,
        is_limited: choice.is_limited,
    }
}

struct KernelCamera {
    stream: Stream,
    can_force: bool,
    /// Its number, where there are any.
    input: Option<u32>,
    /// What it was set up for.
    signal: Signal,
}

/// Both kinds of queues.
enum Stream {
    Single(SinglePlane),
    Multi {
        buffers: Buffers,
        fd: Arc<OwnedFd>,
        taken: Option<Dequeued>,
        // Kept open while it streams.
        _node: Node,
    },
}

impl Stream {
    fn start(node: Node, fd: Arc<OwnedFd>, queue: Queue, planes: usize) -> nix::Result<Self> {
        if !queue.is_mplane() {
            drop(fd);
            return SinglePlane::start(node, BUFFERS).map(Self::Single);
        }
        let mut buffers = Buffers::new(Arc::clone(&fd), queue, BUFFERS, planes)?;
        for index in 0..buffers.len() {
            buffers.queue(index, &[], Duration::ZERO)?;
        }
        buffers.start()?;
        Ok(Self::Multi {
            buffers,
            fd,
            taken: None,
            _node: node,
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Single(single) => single.node().fd(),
            Self::Multi { fd, .. } => fd.as_fd(),
        }
    }

    fn wait(&self, limit: Duration) -> nix::Result<Ready> {
        sys::wait(self.fd(), limit)
    }
}

impl Camera for KernelCamera {
    fn wait(&mut self, limit: Duration) -> nix::Result<Ready> {
        self.stream.wait(limit)
    }

    fn take(&mut self) -> nix::Result<Dequeued> {
        match &mut self.stream {
            Stream::Single(single) => single.take(),
            Stream::Multi { buffers, taken, .. } => {
                *taken = None;
                // Also one that an earlier call could not give back.
                while let Some(free) = buffers.free() {
                    buffers.queue(free, &[], Duration::ZERO)?;
                }
                // Of a stream that runs it cannot be EINVAL: it was stopped from outside.
                let next = buffers
                    .dequeue()
                    .map_err(|errno| match errno == Errno::EINVAL {
                        true => Errno::EPIPE,
                        false => errno,
                    })?;
                let next = next.ok_or(Errno::EAGAIN)?;
                *taken = Some(next.clone());
                Ok(next)
            }
        }
    }

    fn has_more(&self) -> bool {
        let ready = self.stream.wait(Duration::ZERO);
        ready.is_ok_and(|ready| ready.read && !ready.failed)
    }

    fn planes(&self) -> Vec<&[u8]> {
        match &self.stream {
            Stream::Single(single) => vec![single.bytes()],
            Stream::Multi { buffers, taken, .. } => {
                let Some(taken) = taken else {
                    return Vec::new();
                };
                let planes = 0..taken.planes.len();
                planes
                    .filter_map(|plane| buffers.bytes(taken.index, plane))
                    .collect()
            }
        }
    }

    fn force_key_frame(&mut self) -> nix::Result<()> {
        let id = raw::V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME;
        sys::set_control(self.stream.fd(), id, 1)
    }

    fn can_force_key_frame(&self) -> bool {
        self.can_force
    }

    fn take_change(&mut self) -> Option<String> {
        let fd = self.stream.fd();
        sys::source_changed(fd)
            .then(|| signal::change(fd, &self.signal))
            .flatten()
    }

    fn missing(&self) -> Option<String> {
        let fd = self.stream.fd();
        let missing = self.input.and_then(|input| signal::missing(fd, input));
        missing.or_else(|| signal::fault(fd))
    }
}

/// Buffers of a camera: one being read, three with the driver.
const BUFFERS: u32 = 4;
/// Modes that are looked at.
const MAX_OFFERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_rate_that_the_driver_gives_is_the_one_that_is_reckoned_with() {
        let with = |gets| {
            let mut choice = Choice {
                coding: Coding::H264,
                size: (640, 480),
                interval: Some((1, 30)),
                fps: 20.0,
                is_limited: true,
                why: String::new(),
            };
            let note = granted(&mut choice, 30.0, gets);
            (choice.fps, choice.is_limited, note.is_some())
        };
        assert_eq!(with(30.0), (20.0, true, false));
        assert_eq!(with(20.0), (20.0, false, true));
        assert_eq!(with(7.5), (7.5, false, true));
        assert_eq!(with(0.0), (20.0, true, false), "no answer");
    }
}
