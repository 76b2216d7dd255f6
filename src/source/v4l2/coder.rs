//! Decoder and encoder of one run, and what they cost.
//!
//! In: raw pictures, orders. Out: units; how hard the machine works; steps down when it is too
//! slow.
//! Not here: which pictures (capture), when to step (encode::overload).

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::capture::{EncoderOpener, Fault};
use super::device::Agreed;
use super::scale::Scaled;
use crate::config::{self, EncoderChoice};
use crate::media::pixel::PixelFormat;
use crate::media::{AccessUnit, ErrorKind, LeftOut, Load, Stages};
use crate::source::decode::{DecodeError, Decoder, PlaneRef, RawFrame};
use crate::source::encode::away::{Making, Progress, let_go};
use crate::source::encode::load::Reporter;
use crate::source::encode::overload::{Cost, Overload, Step};
use crate::source::encode::{
    Coded, EncodeError, Encoder, MAX_BITRATE, MAX_FPS, MIN_BITRATE, News, Picture, Settings,
};

pub(super) struct Coder {
    format: PixelFormat,
    decoder: Decoder,
    encoder: Box<dyn Encoder>,
    /// For another encoder, of another size.
    make: Arc<Make>,
    /// The one that takes over once it is there.
    next: Option<Next>,
    settings: Settings,
    bitrate: Option<u32>,
    overload: Overload,
    reporter: Reporter,
    /// Smaller pictures, while the machine is too slow for the whole.
    scaled: Option<Scaled>,
    /// To be taken before the next picture.
    step: Option<Step>,
    new_rate: Option<u32>,
    /// Not told yet.
    left_out: LeftOut,
}

type Make = dyn Fn(&Settings) -> Result<Box<dyn Encoder>, EncodeError> + Send + Sync;

/// An encoder that is being opened, and for what.
struct Next {
    making: Making<Result<Box<dyn Encoder>, EncodeError>>,
    settings: Settings,
}

impl Coder {
    /// Sets both up; the error is for a person.
    pub(super) fn open(
        format: PixelFormat,
        agreed: &Agreed,
        wish: &config::V4l2,
        opener: &Arc<EncoderOpener>,
        bitrate: Option<u32>,
    ) -> Result<Self, String> {
        let (width, height) = agreed.size;
        let decoder = Decoder::new(format, width, height, agreed.colour)
            .map_err(|error| error.to_string())?;
        let (width, height) = decoder.even_size();
        let fps = (agreed.fps.round() as u32).clamp(1, MAX_FPS);
        let usual = || usual_bitrate((width, height), fps);
        let settings = Settings {
            width: width as u32,
            height: height as u32,
            fps,
            ceiling: wish.bitrate.unwrap_or_else(usual),
        };
        let (opener, choice): (_, EncoderChoice) = (Arc::clone(opener), wish.encoder);
        let make = move |settings: &Settings| opener(settings, choice);
        let mut coder = Self {
            format,
            decoder,
            encoder: make(&settings).map_err(|error| error.chain())?,
            make: Arc::new(make),
            next: None,
            settings,
            bitrate: None,
            overload: Overload::new(Step {
                fps,
                size: (settings.width, settings.height),
            }),
            reporter: Reporter::default(),
            scaled: None,
            step: None,
            new_rate: None,
            left_out: LeftOut::default(),
        };
        if let Some(bps) = bitrate {
            coder.follow_bitrate(bps).map_err(|error| error.chain())?;
        }
        Ok(coder)
    }

    pub(super) fn name(&self) -> &'static str {
        self.encoder.name()
    }

    pub(super) fn force_key_frame(&mut self) {
        self.encoder.force_key_frame();
    }

    /// Follows an order for a bit rate, once.
    pub(super) fn follow_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        if self.bitrate == Some(bps) {
            return Ok(());
        }
        self.bitrate = Some(bps);
        self.encoder.set_bitrate(bps)
    }

    /// Another rate that is coded from now on.
    pub(super) fn take_new_rate(&mut self) -> Option<u32> {
        self.new_rate.take()
    }

    /// Pictures that went in and did not come out, since the last time.
    pub(super) fn take_left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.left_out)
    }

    /// What the encoder has to tell.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        let news = self.encoder.poll_news()?;
        if let News::Chosen(said) = &news {
            self.reporter.set_encoder(said.clone());
        }
        Some(news)
    }

    /// How hard the machine works, when that is due.
    pub(super) fn poll_load(&mut self) -> Option<Load> {
        self.reporter.poll(Instant::now(), &self.overload)
    }

    /// Pictures were left out before the next one.
    pub(super) fn leave_out(&mut self, some: LeftOut) {
        self.overload.leave_out(some);
    }

    /// Goes on at another rate or size where that is due. What the encoder still had comes back:
    /// to be handed on before the next picture.
    pub(super) fn step(&mut self) -> Result<Vec<AccessUnit>, Fault> {
        if let Some(step) = self.step.take() {
            self.follow_step(step)?;
        }
        self.take_next()
    }

    /// What the encoder still has. One that cannot give it any more is about to be dropped.
    pub(super) fn drain(&mut self) -> Vec<AccessUnit> {
        let units = self.encoder.drain().unwrap_or_else(|error| {
            warn!(error = error.chain(), "the encoder keeps its last pictures");
            Vec::new()
        });
        let last = units
            .into_iter()
            .map(|unit| unit.into_access_unit(Stages::default()));
        last.collect()
    }

    /// Decodes and codes one picture. `None` for one that rate control left out or that is still
    /// inside.
    pub(super) fn code(
        &mut self,
        agreed: &Agreed,
        planes: &[&[u8]],
        (ticks, taken): (i64, Instant),
    ) -> Result<Option<AccessUnit>, Fault> {
        let begun = Instant::now();
        let strides = agreed.strides.iter().copied().chain(std::iter::repeat(0));
        let planes: Vec<PlaneRef<'_>> = planes
            .iter()
            .zip(strides)
            .map(|(bytes, stride)| PlaneRef { bytes, stride })
            .collect();
        let decoded = self.decoder.decode(&RawFrame {
            format: self.format,
            width: agreed.size.0,
            height: agreed.size.1,
            planes: &planes,
        })?;
        let decoded_at = Instant::now();
        let picture = match &mut self.scaled {
            None => decoded.picture(ticks, taken)?,
            Some(scaled) => {
                let size = scaled.size();
                let planes = scaled.shrink(decoded.planes(), decoded.size());
                Picture::new(size, planes, ticks, taken)?
            }
        };
        // The device codes on while the next picture is taken and decoded.
        let picture = picture.with_next_at(begun + self.overload.step().interval());
        let ready = Instant::now();
        let coded = self.encoder.encode(&picture)?;
        let finished = Instant::now();
        let (waited, is_behind) = (self.encoder.waited(), self.encoder.is_behind());
        let cost = Cost {
            all: (finished - begun).saturating_sub(waited),
            of_size: (finished - decoded_at).saturating_sub(waited),
            is_behind,
            is_skipped: matches!(coded, Coded::Skipped) && !is_behind,
        };
        self.step = self.overload.push_picture(finished, cost);
        // What a device has no room for is outdated by the time that it has.
        self.left_out.late += u64::from(cost.is_behind);
        self.left_out.skipped += u64::from(cost.is_skipped);
        let Coded::Unit(unit) = coded else {
            return Ok(None);
        };
        let stages = Stages {
            capture: begun.saturating_duration_since(taken),
            decode: ready - begun,
            encode: finished - ready,
        };
        Ok(Some(unit.into_access_unit(stages)))
    }

    /// Goes on at another rate at once, at another size as soon as there is an encoder for it:
    /// hardware takes its time, and pictures do not wait for it.
    fn follow_step(&mut self, step: Step) -> Result<(), Fault> {
        let (width, height) = step.size;
        let settings = Settings {
            width,
            height,
            fps: step.fps,
            ..self.settings
        };
        self.next = None;
        if (self.settings.width, self.settings.height) == step.size {
            let set = self.encoder.set_frame_rate(step.fps);
            set.map_err(|error| self.refuse_step(error.into()))?;
            self.settings = settings;
        } else {
            let make = Arc::clone(&self.make);
            let making = Making::begin(move || make(&settings)).ok_or_else(|| {
                let detail = "no thread to open another encoder";
                self.refuse_step(Fault::new(ErrorKind::Encode, detail))
            })?;
            self.next = Some(Next { making, settings });
        }
        self.new_rate = Some(step.fps);
        Ok(())
    }

    /// Goes on with the next encoder once it is there. What the one before still had comes back.
    fn take_next(&mut self) -> Result<Vec<AccessUnit>, Fault> {
        let Some(next) = &mut self.next else {
            return Ok(Vec::new());
        };
        let made = match next.making.poll() {
            Progress::Pending => return Ok(Vec::new()),
            Progress::Made(made) => made.map_err(Fault::from),
            Progress::Lost => Err(Fault::new(ErrorKind::Encode, "opening an encoder panicked")),
        };
        let settings = next.settings;
        self.next = None;
        let mut encoder = made.map_err(|fault| self.refuse_step(fault))?;
        if let Some(Err(error)) = self.bitrate.map(|bps| encoder.set_bitrate(bps)) {
            let_go(encoder);
            return Err(self.refuse_step(error.into()));
        }
        encoder.force_key_frame();
        let last = self.drain();
        let_go(std::mem::replace(&mut self.encoder, encoder));
        self.settings = settings;
        let size = (settings.width as usize, settings.height as usize);
        let is_whole = self.decoder.even_size() == size;
        self.scaled = (!is_whole).then(|| Scaled::new(size));
        Ok(last)
    }

    /// All goes on as before a step that cannot be taken.
    fn refuse_step(&mut self, fault: Fault) -> Fault {
        let Settings {
            width, height, fps, ..
        } = self.settings;
        self.overload.stay(Step {
            fps,
            size: (width, height),
        });
        self.new_rate = Some(fps);
        fault
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::new(ErrorKind::Picture, error.to_string())
    }
}

impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Self {
        Self::new(ErrorKind::Encode, error.chain())
    }
}

/// Bits per second for pictures that nobody set a rate for: 0.07 a pixel, 1.9 Mbit/s at 720p30.
fn usual_bitrate((width, height): (usize, usize), fps: u32) -> u32 {
    let bits = width as f64 * height as f64 * f64::from(fps) * 0.07;
    let bits = (bits as u32).clamp(USUAL_MIN, USUAL_MAX);
    bits.clamp(MIN_BITRATE, MAX_BITRATE)
}

/// Bounds of the usual bit rate.
const USUAL_MIN: u32 = 300_000;
const USUAL_MAX: u32 = 8_000_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Mutex, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::config::DeviceName;
    use crate::media::h264::{SpsFacts, nal_units};
    use crate::media::pixel::Colour;
    use crate::source::encode::Software;
    use crate::source::v4l2::mode::Coding;

    fn size_of(unit: &AccessUnit) -> Option<(u32, u32)> {
        let facts = nal_units(&unit.data).find_map(SpsFacts::parse);
        facts.and_then(|facts| facts.size)
    }

    /// A camera of 640x360 whose encoders come from `opener`.
    fn coder(opener: Arc<EncoderOpener>) -> (Coder, Agreed) {
        let format = PixelFormat::Grey;
        let agreed = Agreed {
            coding: Coding::Raw(format),
            size: (640, 360),
            strides: vec![640],
            colour: Colour::of_stream(360),
            fps: 30.0,
            is_limited: false,
        };
        let wish = config::V4l2::new(DeviceName::new("fake"));
        let coder = Coder::open(format, &agreed, &wish, &opener, None).expect("opens");
        (coder, agreed)
    }

    #[test]
    fn pictures_go_on_at_the_old_size_until_an_encoder_of_the_new_one_is_there() {
        // The first is there at once, the second when it may be.
        let (open, gate) = mpsc::channel::<()>();
        let gates = Mutex::new(vec![Some(gate), None]);
        let opener: Arc<EncoderOpener> = Arc::new(move |settings: &Settings, _| {
            let gate = gates.lock().unwrap().pop().flatten();
            let _ = gate.map(|gate| gate.recv_timeout(Duration::from_secs(20)));
            Ok(Box::new(Software::open(settings)?))
        });
        let (mut coder, agreed) = coder(opener);
        let picture = vec![100; 640 * 360];
        let mut ticks = 0;
        let mut next = |coder: &mut Coder| {
            ticks += 3000;
            assert!(coder.step().is_ok_and(|late| late.is_empty()));
            let coded = coder.code(&agreed, &[&picture], (ticks, Instant::now()));
            coded.ok().flatten().expect("a unit")
        };
        assert_eq!(size_of(&next(&mut coder)), Some((640, 360)));
        coder.step = Some(Step {
            fps: 15,
            size: (480, 270),
        });
        for _ in 0..20 {
            assert!(!next(&mut coder).is_key_frame, "the old one codes on");
        }
        assert_eq!(coder.take_new_rate(), Some(15), "fewer at once");
        drop(open);
        let first = loop {
            let unit = next(&mut coder);
            if unit.is_key_frame {
                break unit;
            }
            thread::yield_now();
        };
        assert_eq!(size_of(&first), Some((480, 270)));
        assert!(!next(&mut coder).is_key_frame);
    }

    #[test]
    fn pictures_that_hold_more_than_the_bit_rate_carries_are_counted() {
        let (mut coder, agreed) = coder(Arc::new(|settings: &Settings, _| {
            Ok(Box::new(Software::open(settings)?))
        }));
        coder.follow_bitrate(MIN_BITRATE).expect("a bit rate");
        let mut noise = 1u32;
        let mut shown = 0;
        for number in 0..60 {
            let picture: Vec<u8> = std::iter::repeat_with(|| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .take(640 * 360)
            .collect();
            let coded = coder.code(&agreed, &[&picture], (number * 3000, Instant::now()));
            shown += u64::from(coded.is_ok_and(|unit| unit.is_some()));
        }
        let left_out = coder.take_left_out();
        assert!(left_out.skipped > 30, "{left_out:?}");
        assert_eq!((left_out.late, shown + left_out.skipped), (0, 60));
        assert_eq!(coder.take_left_out(), LeftOut::default(), "told once");
    }

    #[test]
    fn a_step_whose_encoder_does_not_open_changes_nothing() {
        let opened = AtomicUsize::new(0);
        let (mut coder, agreed) = coder(Arc::new(move |settings: &Settings, _| {
            match opened.fetch_add(1, SeqCst) {
                0 => Ok(Box::new(Software::open(settings)?)),
                _ => Err(EncodeError::NoHardware),
            }
        }));
        coder.step = Some(Step {
            fps: 10,
            size: (480, 270),
        });
        let picture = vec![100; 640 * 360];
        let mut faults = 0;
        for number in 0.. {
            match coder.step() {
                Ok(_) if faults > 0 => break,
                Ok(_) => thread::yield_now(),
                Err(_) => faults += 1,
            }
            let coded = coder.code(&agreed, &[&picture], (number * 3000, Instant::now()));
            let unit = coded.ok().flatten().expect("a unit");
            assert_eq!(unit.is_key_frame, number == 0);
        }
        assert_eq!(faults, 1);
        let Settings { width, height, .. } = coder.settings;
        assert_eq!((width, height, coder.settings.fps), (640, 360, 30));
        assert_eq!(coder.take_new_rate(), Some(30), "as before");
    }

    /// Software as a device that is waited for, and whose units are of earlier pictures.
    struct Slow(Software);

    const WAITS: Duration = Duration::from_millis(25);

    impl Encoder for Slow {
        fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
            thread::sleep(WAITS);
            self.0.encode(picture)
        }

        fn waited(&self) -> Duration {
            WAITS
        }

        fn is_behind(&self) -> bool {
            true
        }

        fn force_key_frame(&mut self) {
            self.0.force_key_frame();
        }

        fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
            self.0.set_bitrate(bps)
        }

        fn set_frame_rate(&mut self, fps: u32) -> Result<(), EncodeError> {
            self.0.set_frame_rate(fps)
        }

        fn name(&self) -> &'static str {
            "slow"
        }
    }

    #[test]
    fn waiting_for_a_device_is_no_work_and_what_it_has_no_room_for_is_late() {
        let (mut coder, agreed) = coder(Arc::new(|settings: &Settings, _| {
            Ok(Box::new(Slow(Software::open(settings)?)))
        }));
        let (start, picture) = (Instant::now(), vec![100; 640 * 360]);
        let mut whole = Duration::ZERO;
        for number in 0.. {
            let begun = Instant::now();
            let coded = coder.code(&agreed, &[&picture], (number * 3000, begun));
            assert!(coded.is_ok());
            whole += begun.elapsed();
            let mean = coder.overload.mean();
            if !mean.is_zero() {
                let expected = whole / (number as u32 + 1) - WAITS;
                assert!(
                    mean <= expected,
                    "{mean:?} {expected:?} {:?}",
                    start.elapsed()
                );
                let left_out = coder.take_left_out();
                assert_eq!((left_out.late, left_out.skipped), (number as u64 + 1, 0));
                break;
            }
        }
    }

    #[test]
    fn the_usual_bit_rate_follows_size_and_rate_within_bounds() {
        assert_eq!(usual_bitrate((1280, 720), 30), 1_935_360);
        assert_eq!(usual_bitrate((160, 120), 5), USUAL_MIN);
        assert_eq!(usual_bitrate((3840, 2160), 60), USUAL_MAX);
    }
}
