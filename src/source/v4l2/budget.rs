//! What one camera may cost this machine, and what a mode would.
//!
//! In: how fast the machine is (speed), its hardware encoder if there is one that works. Out:
//! seconds per picture, and whether a mode can be afforded.
//! Not here: measuring (speed), the camera's modes (mode).
//!
//! A camera's thread decodes and codes one picture after the other, so what counts is the time of
//! both together against the frame interval. Estimates err on the slow side; what really happens
//! is measured while it runs, and steps down where it must (encode::overload).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;

use super::mode::Coding;
use crate::config::EncoderChoice;
use crate::media::pixel::PixelFormat;
use crate::source::encode::m2m::Limits;
use crate::source::encode::{Makers, Settings};
use crate::source::speed::Speed;

/// What this machine can do for one camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub speed: Speed,
    pub encoder: Encoder,
}

/// What will code.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoder {
    Software,
    Hardware { card: String, limits: Limits },
}

impl Machine {
    /// The machine as `choice` lets it be used. With `proves`, a hardware encoder counts only
    /// once it has coded a picture; without, as soon as there is one. One that `is_out` is left
    /// alone by whoever opens an encoder, whatever the choice.
    pub fn of(
        speed: Speed,
        choice: EncoderChoice,
        makers: &mut dyn Makers,
        (proves, is_out): (bool, &dyn Fn(&Path) -> bool),
    ) -> Self {
        // Configured hardware is used or nothing is: no use in asking twice.
        let is_taken = choice == EncoderChoice::Hardware || !proves;
        let found = match choice {
            EncoderChoice::Software => Vec::new(),
            EncoderChoice::Auto | EncoderChoice::Hardware => makers.find(),
        };
        let mut found = found.into_iter().filter(|found| !is_out(&found.path));
        let hardware = found.find(|found| is_taken || makers.hardware(found, &PROOF).is_ok());
        let encoder = hardware.map_or(Encoder::Software, |found| Encoder::Hardware {
            card: found.card,
            limits: found.limits,
        });
        Self { speed, encoder }
    }

    /// Seconds of the camera's thread for one picture; nothing for one that is passed on.
    pub fn cost(&self, coding: Coding, (width, height): (u32, u32), fps: f64) -> f64 {
        let pixels = f64::from(width) * f64::from(height);
        let copy = pixels / (self.speed.encode * COPIES);
        let decode = match coding {
            Coding::H264 => return 0.0,
            Coding::Raw(PixelFormat::Mjpeg) => pixels / self.speed.jpeg,
            Coding::Raw(_) => copy,
        };
        let encode = match &self.encoder {
            Encoder::Hardware { .. } => copy,
            Encoder::Software => {
                let alone = pixels / self.speed.encode;
                match self.speed.slices(pixels * fps) {
                    1 => alone,
                    _ => alone / SHARED_GAIN,
                }
            }
        };
        decode + encode
    }

    /// Whether a mode leaves room for the rest of the machine's work.
    pub fn affords(&self, coding: Coding, size: (u32, u32), fps: f64) -> bool {
        if coding == Coding::H264 {
            return true;
        }
        let fits = match &self.encoder {
            Encoder::Software => true,
            Encoder::Hardware { limits, .. } => limits.hold(size, fps),
        };
        fits && self.cost(coding, size, fps) * fps <= SHARE
    }

    /// What a mode is expected to cost, for a person.
    pub fn told(&self, coding: Coding, size: (u32, u32), fps: f64) -> String {
        if coding == Coding::H264 {
            return "already coded by the camera".to_owned();
        }
        let (cost, interval) = (self.cost(coding, size, fps) * 1e3, 1e3 / fps.max(1.0));
        let time = format!("an estimated {cost:.1} of {interval:.1} ms for a picture");
        match &self.encoder {
            Encoder::Software => format!("{time}, coded in software"),
            Encoder::Hardware { card, limits } => {
                let (width, height) = limits.largest;
                let rate = limits.pixels_per_second / 1e6;
                format!("{time}, coded by {card}: up to {width}x{height}, {rate:.0} Mpixel/s")
            }
        }
    }
}

/// What a hardware encoder has to code to count: small, so that it is quick.
const PROOF: Settings = Settings {
    width: 640,
    height: 480,
    fps: 30,
    ceiling: 1_000_000,
};
/// Of the frame interval. Overload begins at 0.8; the scene may become busier than the one that
/// was measured, and the loop, the viewers and other cameras need their part.
const SHARE: f64 = 0.6;
/// Conversions and copies go so many times faster than coding (measured: 15 to 25 times; boards
/// whose camera buffers are not cached do worse).
const COPIES: f64 = 8.0;
/// What two slices gain in time.
const SHARED_GAIN: f64 = 1.3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::encode::m2m::Found;
    use crate::source::encode::{EncodeError, Encoder as Codes, Opened, Software};
    use std::path::PathBuf;

    const SPEED: Speed = Speed {
        encode: 60e6,
        jpeg: 40e6,
        processors: 4,
    };
    const MJPG: Coding = Coding::Raw(PixelFormat::Mjpeg);
    const YUYV: Coding = Coding::Raw(PixelFormat::Yuyv);
    const VGA: (u32, u32) = (640, 480);
    const HD: (u32, u32) = (1280, 720);
    const FULL_HD: (u32, u32) = (1920, 1080);

    /// Encoders by card, and whether each works.
    struct Chips(Vec<(&'static str, bool)>);

    impl Makers for Chips {
        fn find(&mut self) -> Vec<Found> {
            let chip = |(n, (card, _)): (usize, &(&str, bool))| Found {
                path: PathBuf::from(n.to_string()),
                driver: String::new(),
                card: (*card).to_owned(),
                pixels: Vec::new(),
                limits: Limits::default(),
            };
            self.0.iter().enumerate().map(chip).collect()
        }

        fn hardware(&mut self, found: &Found, with: &Settings) -> Result<Opened, EncodeError> {
            let index: usize = found.path.to_str().unwrap().parse().unwrap();
            match self.0[index].1 {
                true => Ok((Box::new(Software::open(with)?), Vec::new())),
                false => Err(EncodeError::NoHardware),
            }
        }

        fn software(&mut self, with: &Settings) -> Result<Box<dyn Codes>, EncodeError> {
            Ok(Box::new(Software::open(with)?))
        }
    }

    fn encoder_of(choice: EncoderChoice, proves: bool, chips: &[(&'static str, bool)]) -> String {
        // The node named 2 has failed.
        let is_out: &dyn Fn(&Path) -> bool = &|node| node == Path::new("2");
        let machine = Machine::of(SPEED, choice, &mut Chips(chips.to_vec()), (proves, is_out));
        match machine.encoder {
            Encoder::Software => "software".to_owned(),
            Encoder::Hardware { card, .. } => card,
        }
    }

    #[test]
    fn the_budget_is_that_of_the_encoder_that_will_code() {
        let (auto, hardware) = (EncoderChoice::Auto, EncoderChoice::Hardware);
        let chips = [("broken", false), ("good", true), ("better", true)];
        assert_eq!(encoder_of(auto, true, &chips), "good");
        assert_eq!(encoder_of(auto, true, &chips[..1]), "software");
        assert_eq!(encoder_of(auto, true, &[]), "software");
        assert_eq!(encoder_of(auto, false, &chips), "broken", "not asked");
        assert_eq!(encoder_of(hardware, true, &chips), "broken", "as told");
        let failed = [chips[0], chips[0], ("failed", true)];
        assert_eq!(encoder_of(auto, true, &failed), "software", "it is out");
        let software = EncoderChoice::Software;
        assert_eq!(encoder_of(software, true, &chips), "software");
    }

    fn software(speed: Speed) -> Machine {
        let encoder = Encoder::Software;
        Machine { speed, encoder }
    }

    fn hardware(speed: Speed) -> Machine {
        let card = "chip".to_owned();
        let limits = Limits::default();
        let encoder = Encoder::Hardware { card, limits };
        Machine { speed, encoder }
    }

    #[test]
    fn a_picture_costs_its_decoding_and_its_coding() {
        let ms = |machine: &Machine, coding, size| machine.cost(coding, size, 30.0) * 1e3;
        let near = |got: f64, expected: f64| assert!((got - expected).abs() < 0.05, "{got}");
        let machine = software(SPEED);
        near(ms(&machine, YUYV, VGA), 5.12 + 0.64);
        near(ms(&machine, MJPG, VGA), 5.12 + 7.68);
        near(ms(&machine, MJPG, HD), 15.36 / 1.3 + 23.04);
        near(ms(&machine, Coding::H264, HD), 0.0);
        near(ms(&hardware(SPEED), MJPG, HD), 1.92 + 23.04);
        let one = Speed {
            processors: 1,
            ..SPEED
        };
        near(ms(&software(one), MJPG, HD), 15.36 + 23.04);
    }

    #[test]
    fn more_than_three_fifths_of_the_interval_is_not_afforded() {
        let machine = software(SPEED);
        assert!(machine.affords(YUYV, HD, 30.0), "13.7 of 33.3 ms");
        assert!(!machine.affords(MJPG, HD, 30.0), "34.9 of 33.3 ms");
        assert!(machine.affords(MJPG, HD, 15.0), "34.9 of 66.7 ms");
        assert!(machine.affords(Coding::H264, (3840, 2160), 60.0));
    }

    #[test]
    fn hardware_sets_its_own_bounds_and_jpeg_is_still_decoded_here() {
        let fast = Speed {
            encode: 500e6,
            jpeg: 500e6,
            processors: 4,
        };
        let machine = hardware(fast);
        assert!(machine.affords(MJPG, FULL_HD, 30.0));
        assert!(!machine.affords(MJPG, FULL_HD, 60.0), "its rate");
        assert!(!machine.affords(MJPG, (2560, 1440), 15.0), "its size");
        assert!(!hardware(SPEED).affords(MJPG, FULL_HD, 30.0), "the JPEG");
        assert!(hardware(SPEED).affords(YUYV, FULL_HD, 30.0));
    }

    #[test]
    fn the_estimate_is_told() {
        assert_eq!(
            software(SPEED).told(YUYV, VGA, 30.0),
            "an estimated 5.8 of 33.3 ms for a picture, coded in software"
        );
        assert_eq!(
            hardware(SPEED).told(YUYV, VGA, 30.0),
            "an estimated 1.3 of 33.3 ms for a picture, coded by chip: up to 1920x1920, 63 \
             Mpixel/s"
        );
    }
}
