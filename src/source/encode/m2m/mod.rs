//! Hardware encoders: V4L2 memory-to-memory devices, single- and multi-planar.
//!
//! In: pictures, orders. Out: access units as the device finishes them, each with the time of its
//! picture; every failing call as an error that says it is the hardware's.
//! Not here: which encoder is taken, and what happens when it fails (choose); kernel calls
//! (v4l2::sys).
//!
//! Works on the calling thread: [`Hardware::encode`] gives a picture to the device and waits for
//! a coded one until the next picture is due, a frame interval at most. A device that takes longer
//! is pipelined and answers a picture later; one that has a picture in each of its raw buffers is
//! given no new one until it has caught up (the newest raw picture wins, and nothing coded is ever
//! dropped).

mod layout;
mod limits;
mod pending;
mod setup;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Coded, EncodeError, Encoder, MAX_FPS, MIN_BITRATE, Picture, Plane, Settings, Unit};
use crate::media::h264::{SpsFacts, nal_type, nal_type_of, nal_units};
use crate::source::v4l2::sys::{self, Buffers, Dequeued, Queue};
use layout::Layout;
pub use layout::Pixel;
pub use limits::Limits;
use pending::Pending;
use setup::{Call, control};
pub use setup::{Found, MAX_NODES, find, look};

/// One open encoder.
pub struct Hardware {
    path: PathBuf,
    fd: Arc<OwnedFd>,
    raw_queue: Queue,
    raw: Buffers,
    coded: Buffers,
    layout: Layout,
    size: (usize, usize),
    ceiling: u32,
    /// As long as one call waits for a coded picture.
    patience: Duration,
    pending: Pending,
    /// Coded and not yet handed on.
    done: VecDeque<Unit>,
    /// The last picture found no room.
    is_behind: bool,
    /// For the device, in the last call.
    waited: Duration,
    key: Key,
    /// When the device last gave something, or was last given something while it had nothing.
    moved_at: Instant,
    damaged_in_a_row: u32,
    lacks: Vec<String>,
}

/// Whether somebody waits for a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    No,
    Wanted,
    /// The device was asked, before the picture of these ticks.
    Asked(i64),
}

impl Hardware {
    /// Opens an encoder and proves that it works, by one grey picture that it codes.
    ///
    /// # Errors
    /// Settings outside their bounds; calls that fail; a device that cannot be asked for key
    /// frames, gives no picture within [`PROBE_LIMIT`], or codes something else than we asked.
    pub fn open(found: &Found, settings: &Settings) -> Result<Self, EncodeError> {
        first_that_works(&found.pixels, |pixel| {
            Self::open_as(&found.path, settings, pixel)
        })
    }

    /// As [`Hardware::open`], with pictures written in one format.
    ///
    /// # Errors
    /// As there.
    pub fn open_as(path: &Path, settings: &Settings, pixel: Pixel) -> Result<Self, EncodeError> {
        settings.check()?;
        let ready = setup::prepare(path, settings, pixel)?;
        let call = Call(path);
        let (raw, coded) = ready.queues;
        let buffers = |queue, planes| Buffers::new(Arc::clone(&ready.fd), queue, BUFFERS, planes);
        let raw_buffers = call.check("get raw buffers", buffers(raw, ready.planes))?;
        let mut coded_buffers = call.check("get coded buffers", buffers(coded, 1))?;
        for index in 0..coded_buffers.len() {
            let queued = coded_buffers.queue(index, &[], Duration::ZERO);
            call.check("queue a coded buffer", queued)?;
        }
        call.check("start raw pictures", raw_buffers.start())?;
        call.check("start coded pictures", coded_buffers.start())?;
        let mut encoder = Self {
            path: path.to_owned(),
            fd: ready.fd,
            raw_queue: raw,
            raw: raw_buffers,
            coded: coded_buffers,
            layout: ready.layout,
            size: (settings.width as usize, settings.height as usize),
            ceiling: settings.ceiling,
            patience: PROBE_LIMIT,
            pending: Pending::default(),
            done: VecDeque::new(),
            is_behind: false,
            waited: Duration::ZERO,
            key: Key::No,
            moved_at: Instant::now(),
            damaged_in_a_row: 0,
            lacks: ready.lacks,
        };
        encoder.prove()?;
        encoder.patience = patience(settings.fps);
        Ok(encoder)
    }

    /// What the device would not do, for a person.
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// Codes a grey picture. What comes first in a stream tells most of what can be wrong. Some
    /// devices keep a picture until they have seen the next one: then that is what they get.
    fn prove(&mut self) -> Result<(), EncodeError> {
        let (width, height) = self.size;
        let (luma, chroma) = (vec![128; width * height], vec![128; width * height / 4]);
        let grey = Plane::new(&chroma, width / 2);
        let planes = [Plane::new(&luma, width), grey, grey];
        let picture = |ticks| Picture::new(self.size, planes, ticks, Instant::now());
        let (first, second) = (picture(0)?, picture(3000)?);
        self.patience = PROBE_LIMIT / 2;
        let mut coded = self.encode(&first)?;
        if matches!(coded, Coded::Pending) {
            coded = self.encode(&second)?;
        }
        let call = Call(&self.path);
        let Coded::Unit(unit) = coded else {
            return Err(self.silent());
        };
        let mut headers = nal_units(&unit.data).filter(|nal| nal_type_of(nal) == nal_type::SPS);
        let facts = headers.next().and_then(SpsFacts::parse);
        let Some(facts) = facts.filter(|_| unit.is_key_frame) else {
            return Err(call.unfit("does not begin with a key frame and its parameters".to_owned()));
        };
        if facts.size.is_some_and(|coded| {
            (coded.0 as usize, coded.1 as usize) != (width, height)
                && !self.lacks.iter().any(|lack| lack.starts_with("crop"))
        }) {
            self.lacks.push(format!("size (codes {:?})", facts.size));
        }
        if self.pending.len() > 0 || !self.done.is_empty() {
            self.done.clear();
            return self.reset(); // what it still has belongs to no picture of anybody
        }
        self.pending.restart();
        self.key = Key::Wanted;
        Ok(())
    }

    /// Begins a stream anew after a drain. `V4L2_ENC_CMD_START` would do by the book, but leaves
    /// some drivers saying `EPIPE` for ever.
    fn reset(&mut self) -> Result<(), EncodeError> {
        let stopped = self.raw.stop().and_then(|()| self.coded.stop());
        self.check("end the stream", stopped)?;
        for index in 0..self.coded.len() {
            let queued = self.coded.queue(index, &[], Duration::ZERO);
            self.check("queue a coded buffer", queued)?;
        }
        let started = self.raw.start().and_then(|()| self.coded.start());
        self.check("start again", started)?;
        self.pending.restart();
        self.key = Key::Wanted;
        Ok(())
    }

    /// Takes back all that the device is done with; true after the last buffer of a drain.
    fn collect(&mut self) -> Result<bool, EncodeError> {
        while self.raw.queued() > 0 {
            let taken = self.raw.dequeue();
            if self.check("take a raw buffer back", taken)?.is_none() {
                break;
            }
        }
        loop {
            let coded = match self.coded.dequeue() {
                Err(Errno::EPIPE) => return Ok(true),
                other => self.check("take a coded picture", other)?,
            };
            let Some(coded) = coded else {
                return Ok(false);
            };
            self.moved_at = Instant::now();
            let damaged = self.take(&coded);
            let queued = self.coded.queue(coded.index, &[], Duration::ZERO);
            self.check("queue a coded buffer", queued)?;
            if damaged {
                self.key = Key::Wanted;
                self.damaged_in_a_row += 1;
                return Err(EncodeError::Damaged {
                    node: self.path.display().to_string(),
                    in_a_row: self.damaged_in_a_row,
                });
            }
            if coded.is_last() {
                return Ok(true);
            }
        }
    }

    /// Makes a unit of one coded buffer; true when the device says that it is damaged.
    fn take(&mut self, coded: &Dequeued) -> bool {
        let (start, end) = coded.planes.first().copied().unwrap_or_default();
        let whole = self.coded.bytes(coded.index, 0).unwrap_or_default();
        let is_damaged = coded.is_damaged();
        let bytes = match is_damaged {
            true => &[],
            false => whole.get(start..end).unwrap_or_default(),
        };
        let is_end = coded.is_last() && bytes.is_empty();
        if is_end {
            return false;
        }
        if let Some(unit) = self.pending.on_coded(coded.timestamp, bytes) {
            self.damaged_in_a_row = 0;
            self.on_unit(&unit);
            self.done.push_back(unit);
        }
        is_damaged
    }

    /// Asks again where a device has let several pictures pass after it was asked.
    fn on_unit(&mut self, unit: &Unit) {
        let Key::Asked(ticks) = self.key else {
            return;
        };
        if unit.is_key_frame && unit.ticks >= ticks {
            self.key = Key::No;
        } else if unit.ticks > ticks {
            self.key = Key::Wanted;
        }
    }

    /// Puts a picture into a free buffer and hands it to the device.
    fn feed(&mut self, index: usize, picture: &Picture<'_>) -> Result<(), EncodeError> {
        for plane in 0..self.layout.used().len() {
            let memory = self.raw.bytes_mut(index, plane);
            if !memory.is_some_and(|memory| self.layout.write(plane, picture, memory)) {
                return Err(Call(&self.path).unfit("buffers shorter than announced".to_owned()));
            }
        }
        if self.key == Key::Wanted {
            let pressed = sys::set_control(&*self.fd, control::FORCE_KEY_FRAME, 1);
            self.check("ask for a key frame", pressed)?;
            self.key = Key::Asked(picture.ticks);
        }
        if self.pending.len() == 0 {
            self.moved_at = Instant::now();
        }
        let stamp = self.pending.stamp(picture.ticks);
        let queued = self.raw.queue(index, self.layout.used(), stamp);
        self.check("queue a picture", queued)?;
        self.pending
            .push_picture(stamp, picture.ticks, picture.taken);
        Ok(())
    }

    /// Waits for a coded picture until `deadline`.
    fn wait(&mut self, deadline: Instant) -> Result<(), EncodeError> {
        while self.done.is_empty() && self.pending.len() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let begun = Instant::now();
            let waited = sys::wait(&*self.fd, left);
            self.waited += begun.elapsed();
            let ready = self.check("wait", waited)?;
            self.collect()?;
            if ready.failed && self.done.is_empty() {
                return Err(Call(&self.path).error("wait", Errno::EIO));
            }
        }
        let is_silent = self.pending.len() > 0 && self.moved_at.elapsed() >= SILENCE;
        if is_silent {
            Err(self.silent())
        } else {
            Ok(())
        }
    }

    fn silent(&self) -> EncodeError {
        EncodeError::HardwareSilent {
            node: self.path.display().to_string(),
            millis: SILENCE.as_millis() as u64,
        }
    }

    fn check<T>(&self, doing: &'static str, result: nix::Result<T>) -> Result<T, EncodeError> {
        Call(&self.path).check(doing, result)
    }
}

impl Encoder for Hardware {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        if picture.size() != self.size {
            return Err(EncodeError::OtherSize {
                got: picture.size(),
                expected: self.size,
            });
        }
        let deadline = Instant::now() + self.patience;
        let deadline = picture.due.map_or(deadline, |due| due.min(deadline));
        self.waited = Duration::ZERO;
        self.collect()?;
        let free = self.raw.free().filter(|_| self.done.len() < 2);
        self.is_behind = free.is_none();
        if let Some(index) = free {
            self.feed(index, picture)?;
        }
        self.wait(deadline)?;
        Ok(match (self.done.pop_front(), free) {
            (Some(unit), _) => Coded::Unit(unit),
            (None, Some(_)) if self.pending.len() > 0 => Coded::Pending,
            (None, _) => Coded::Skipped,
        })
    }

    fn force_key_frame(&mut self) {
        // One that is on its way serves everybody.
        if self.key == Key::No {
            self.key = Key::Wanted;
        }
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        let bps = bps.clamp(MIN_BITRATE, self.ceiling.max(MIN_BITRATE));
        let set = setup::set_near(&self.fd, control::BITRATE, i64::from(bps));
        self.check("set the bit rate", set)
    }

    fn set_frame_rate(&mut self, fps: u32) -> Result<(), EncodeError> {
        if !(1..=MAX_FPS).contains(&fps) {
            return Err(EncodeError::FrameRate(fps));
        }
        match sys::set_frame_time(&*self.fd, self.raw_queue, (1, fps)) {
            // Told when it was opened ("without frame rate"): it goes by the pictures that come.
            Ok(_) | Err(Errno::ENOTTY | Errno::EINVAL) => {}
            Err(errno) => return self.check("set the frame rate", Err(errno)),
        }
        self.patience = patience(fps);
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn waited(&self) -> Duration {
        self.waited
    }

    fn name(&self) -> &'static str {
        "V4L2 M2M"
    }

    /// An end that does not come within [`SILENCE`] is an error.
    fn drain(&mut self) -> Result<Vec<Unit>, EncodeError> {
        let stopped = sys::encoder_drain(&*self.fd, true);
        self.check("stop", stopped)?;
        let deadline = Instant::now() + SILENCE;
        while !self.collect()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.silent());
            }
            let waited = sys::wait(&*self.fd, left);
            if self.check("wait for the end", waited)?.failed && !self.collect()? {
                return Err(Call(&self.path).error("wait for the end", Errno::EIO));
            }
        }
        self.reset()?;
        Ok(self.done.drain(..).collect())
    }
}

/// The first format that the device codes. One that does not answer is asked for no other: that
/// would only take as long again.
fn first_that_works<T>(
    pixels: &[Pixel],
    mut open: impl FnMut(Pixel) -> Result<T, EncodeError>,
) -> Result<T, EncodeError> {
    let mut last = EncodeError::NoHardware;
    for pixel in pixels {
        match open(*pixel) {
            Ok(encoder) => return Ok(encoder),
            Err(error @ EncodeError::HardwareSilent { .. }) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A frame interval: longer, and the next picture would wait for this one. A device that needs
/// more than a quarter of a second is no use at any rate.
fn patience(fps: u32) -> Duration {
    (Duration::from_secs(1) / fps.max(1)).min(Duration::from_millis(250))
}

/// Buffers of each queue: one in work, one waiting, one being written, one spare.
const BUFFERS: u32 = 4;
/// So long may a device say nothing while it has pictures.
pub const SILENCE: Duration = Duration::from_secs(1);
/// So long may it take for its very first picture: firmware is started, clocks are raised.
pub const PROBE_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_answer_is_asked_once_and_one_that_refuses_for_every_format() {
        let node = || "/dev/video11".to_owned();
        let why = "takes no NV12".to_owned();
        let refused = || EncodeError::HardwareUnfit {
            node: node(),
            why: why.clone(),
        };
        let silent = || EncodeError::HardwareSilent {
            node: node(),
            millis: 1000,
        };
        let asked = |error: &dyn Fn() -> EncodeError| {
            let mut times = 0;
            let opened = first_that_works::<()>(&Pixel::ALL, |_| {
                times += 1;
                Err(error())
            });
            assert!(opened.is_err());
            times
        };
        assert_eq!(asked(&silent), 1);
        assert_eq!(asked(&refused), Pixel::ALL.len());
        let works = first_that_works(&Pixel::ALL, |pixel| {
            if pixel == Pixel::ALL[1] {
                Ok(pixel)
            } else {
                Err(refused())
            }
        });
        assert_eq!(works.ok(), Some(Pixel::ALL[1]));
    }
}
