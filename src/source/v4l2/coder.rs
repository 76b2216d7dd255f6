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
use crate::media::{AccessUnit, ErrorKind, Load, Stages};
use crate::source::decode::{DecodeError, Decoder, PlaneRef, RawFrame};
use crate::source::encode::away::{Making, Progress, let_go};
use crate::source::encode::load::Reporter;
use crate::source::encode::overload::{Overload, Step};
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
        let picture = match &mut self.scaled {
            None => decoded.picture(ticks, taken)?,
            Some(scaled) => {
                let size = scaled.size();
                let planes = scaled.shrink(decoded.planes(), decoded.size());
                Picture::new(size, planes, ticks, taken)?
            }
        };
        let ready = Instant::now();
        let coded = self.encoder.encode(&picture)?;
        let finished = Instant::now();
        let cost = match self.encoder.is_behind() {
            // That picture waits for another one to be done, and is not even the next in turn.
            true => (finished - begun).max(2 * self.overload.step().interval()),
            false => finished - begun,
        };
        self.step = self.overload.push_picture(finished, cost);
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
        self.new_rate = Some(step.fps);
        let (width, height) = step.size;
        let settings = Settings {
            width,
            height,
            fps: step.fps,
            ..self.settings
        };
        self.next = None;
        if (self.settings.width, self.settings.height) == step.size {
            self.settings = settings;
            return Ok(self.encoder.set_frame_rate(step.fps)?);
        }
        let make = Arc::clone(&self.make);
        let Some(making) = Making::begin(move || make(&settings)) else {
            let detail = "no thread to open another encoder";
            return Err(Fault::new(ErrorKind::Encode, detail));
        };
        self.next = Some(Next { making, settings });
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
        self.settings = next.settings;
        self.next = None;
        let encoder = made?;
        let last = self.drain();
        let_go(std::mem::replace(&mut self.encoder, encoder));
        self.encoder.force_key_frame();
        let size = (self.settings.width as usize, self.settings.height as usize);
        let is_whole = self.decoder.even_size() == size;
        self.scaled = (!is_whole).then(|| Scaled::new(size));
        if let Some(bps) = self.bitrate {
            self.encoder.set_bitrate(bps)?;
        }
        Ok(last)
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
    use std::sync::Mutex;
    use std::sync::mpsc;
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

    #[test]
    fn pictures_go_on_at_the_old_size_until_an_encoder_of_the_new_one_is_there() {
        // The first is there at once, the second when it may be.
        let (open, gate) = mpsc::channel::<()>();
        let gates = Mutex::new(vec![Some(gate), None]);
        let opener: Arc<EncoderOpener> = Arc::new(move |settings, _| {
            let gate = gates.lock().unwrap().pop().flatten();
            let _ = gate.map(|gate| gate.recv_timeout(Duration::from_secs(20)));
            Ok(Box::new(Software::open(settings)?))
        });
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
        let mut coder = Coder::open(format, &agreed, &wish, &opener, None).expect("opens");
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
    fn the_usual_bit_rate_follows_size_and_rate_within_bounds() {
        assert_eq!(usual_bitrate((1280, 720), 30), 1_935_360);
        assert_eq!(usual_bitrate((160, 120), 5), USUAL_MIN);
        assert_eq!(usual_bitrate((3840, 2160), 60), USUAL_MAX);
    }
}
