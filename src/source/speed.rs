//! How fast this machine decodes and codes, measured once.
//!
//! In: the clock, the processor. Out: [`Speed`].
//! Not here: what a camera may cost (v4l2::budget).
//!
//! A guess by the kind of processor would be wrong by a factor of five between boards that say
//! the same of themselves, and again where the power supply is weak. Two small jobs tell: a
//! texture that pans is coded and a JPEG of a camera's usual density decoded, each for
//! [`EACH`] at most; the fastest picture counts, so that other work and a processor that is
//! still speeding up matter little.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::media::pixel::{Colour, PixelFormat};
use crate::source::decode::{Decoder, PlaneRef, RawFrame};
use crate::source::encode::{Encoder, Picture, Plane, Settings, Software};

/// Pixels per second that one processor does alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Coded by openh264, all of the picture moving.
    pub encode: f64,
    /// Decoded from JPEG.
    pub jpeg: f64,
    /// That there are.
    pub processors: usize,
}

impl Speed {
    /// Into how many parts openh264 is to cut its pictures, each with a thread of its own.
    ///
    /// Two take less than half of the time (2 idle x86 cores, all of the picture moving: 720p 3.3
    /// to 1.3 ms, 1080p 7.9 to 3.0 ms; two thirds of it while others want the cores, too), and
    /// cost no quality; but 10 MB more
    /// memory at 720p, and smoothness: with more than one slice openh264 steers its bits by whole
    /// pictures only and leaves out more of them after a key frame (of 90 pictures with two key
    /// frames 4 to 11, with one slice 2 to 5). So only where one thread would need more than
    /// [`ALONE`] of the frame interval. `cargo bench --bench encode` compares them.
    pub fn slices(&self, pixels_per_second: f64) -> u16 {
        let is_slow = pixels_per_second > self.encode * ALONE;
        if is_slow && self.processors > 1 { 2 } else { 1 }
    }
}

/// The speed of this machine. The first call measures it, [`EACH`] twice and a little, on the
/// calling thread; calls at the same time wait for that.
pub fn of_this_machine() -> Speed {
    static SPEED: OnceLock<Speed> = OnceLock::new();
    *SPEED.get_or_init(measure)
}

fn measure() -> Speed {
    let begun = Instant::now();
    let speed = Speed {
        encode: fastest("coding", encode()),
        jpeg: fastest("JPEG", decode()),
        processors: thread::available_parallelism().map_or(1, usize::from),
    };
    info!(
        coded = %format_args!("{:.0} Mpixel/s", speed.encode / 1e6),
        jpeg = %format_args!("{:.0} Mpixel/s", speed.jpeg / 1e6),
        processors = speed.processors,
        took = ?begun.elapsed(),
        "speed of this machine"
    );
    speed
}

/// Pixels per second of large pictures, by the fastest small one; a small board's where nothing
/// could be measured.
fn fastest(what: &str, best: Option<Duration>) -> f64 {
    let pixels = (SIZE.0 * SIZE.1) as f64;
    match best {
        Some(best) => pixels / best.as_secs_f64().max(1e-6) / FLATTERED,
        None => {
            warn!(what, "speed not measured");
            UNKNOWN
        }
    }
}

/// The shortest time for one of many pictures.
fn shortest(mut one: impl FnMut(usize) -> bool) -> Option<Duration> {
    let begun = Instant::now();
    let mut best = None;
    for number in 0..MOST {
        let start = Instant::now();
        if !one(number) {
            return None;
        }
        let took = start.elapsed();
        // The first one warms up.
        if number > 0 {
            best = Some(best.map_or(took, |best: Duration| best.min(took)));
        }
        if number > 0 && begun.elapsed() >= EACH {
            break;
        }
    }
    best
}

fn encode() -> Option<Duration> {
    let settings = Settings {
        width: SIZE.0 as u32,
        height: SIZE.1 as u32,
        fps: 30,
        ceiling: 500_000,
    };
    let mut encoder = Software::open_with(&settings, 1).ok()?;
    let stride = SIZE.0 + PAN * MOST;
    let texture = texture(stride * SIZE.1);
    let grey = vec![128; SIZE.0 / 2 * (SIZE.1 / 2)];
    let chroma = Plane::new(&grey, SIZE.0 / 2);
    shortest(|number| {
        let luma = Plane::new(&texture[number * PAN..], stride);
        let ticks = (number * 3000) as i64;
        let picture = Picture::new(SIZE, [luma, chroma, chroma], ticks, Instant::now());
        picture.is_ok_and(|picture| encoder.encode(&picture).is_ok())
    })
}

fn decode() -> Option<Duration> {
    let (width, height) = (SIZE.0 as u32, SIZE.1 as u32);
    let colour = Colour::of_stream(SIZE.1);
    let mut decoder = Decoder::new(PixelFormat::Mjpeg, width, height, colour).ok()?;
    let planes = [PlaneRef {
        bytes: JPEG,
        stride: 0,
    }];
    shortest(|_| {
        let frame = RawFrame {
            format: PixelFormat::Mjpeg,
            width,
            height,
            planes: &planes,
        };
        decoder.decode(&frame).is_ok()
    })
}

/// Smooth noise: about what a lively scene costs an encoder.
fn texture(length: usize) -> Vec<u8> {
    let mut seed = 1_u32;
    let mut last = 128_u32;
    let samples = (0..length).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        last = (last * 3 + 90 + seed % 76) / 4;
        last as u8
    });
    samples.collect()
}

/// 4:2:2, 320x240, standard tables: a synthetic scene with grain, 0.2 bytes a pixel.
const JPEG: &[u8] = include_bytes!("speed.jpg");
/// Pictures that are small, and the same again and again, go so much faster than a camera's at
/// 1080p: they stay in the caches, and the processor comes to know them. Measured: 1.6 (640x480)
/// to 2.0 for coding, 1.5 to 2.0 for JPEG.
const FLATTERED: f64 = 2.0;
/// Pixels.
const SIZE: (usize, usize) = (320, 240);
/// Pixels that the texture moves from picture to picture.
const PAN: usize = 4;
/// Pictures of a job at most; a fast machine needs no more.
const MOST: usize = 40;
/// Time for a job, unless one picture takes longer.
const EACH: Duration = Duration::from_millis(20);
/// Of the frame interval, for one thread that codes.
const ALONE: f64 = 0.35;
/// Pixels per second.
const UNKNOWN: f64 = 20e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_cut_only_where_one_thread_is_too_slow_and_there_is_another() {
        let speed = |encode, processors| Speed {
            encode,
            jpeg: 1.0,
            processors,
        };
        let hd30 = 1280.0 * 720.0 * 30.0;
        assert_eq!(speed(100e6, 4).slices(hd30), 1, "28 % of the time");
        assert_eq!(speed(60e6, 4).slices(hd30), 2, "46 %");
        assert_eq!(speed(60e6, 4).slices(hd30 / 2.0), 1, "at half the rate");
        assert_eq!(speed(60e6, 1).slices(hd30), 1, "nobody to share with");
    }

    #[test]
    fn both_jobs_are_done_and_measured_once() {
        let speed = of_this_machine();
        assert!(encode().is_some() && decode().is_some());
        // Any machine that runs this test; a job that was not done would be far outside.
        for figure in [speed.encode, speed.jpeg] {
            assert!((100e3..50e9).contains(&figure), "{speed:?}");
        }
        assert_eq!(of_this_machine(), speed);
    }

    #[test]
    fn a_job_ends_in_time_and_a_failed_one_says_so() {
        let begun = Instant::now();
        let mut count = 0;
        let best = shortest(|_| {
            count += 1;
            thread::sleep(Duration::from_millis(15));
            true
        });
        assert_eq!(
            count,
            2,
            "the second is beyond the limit: {:?}",
            begun.elapsed()
        );
        assert!(best >= Some(Duration::from_millis(15)));
        assert_eq!(shortest(|_| false), None);
        assert_eq!(fastest("nothing", None), UNKNOWN);
    }
}
