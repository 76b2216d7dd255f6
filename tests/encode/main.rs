//! The encoder seam and the test picture, through the real encoder and a real decoder. Pictures
//! are counted in simulated frame time; only `source` runs a thread.

mod source;

use std::process::Command;
use std::time::{Duration, Instant};

use openh264::decoder::{DecodedYUV, Decoder};
use openh264::formats::YUVSource;
use openh264::nal_units;
use pinhole::config::EncoderChoice;
use pinhole::source::encode::{
    self, Coded, EncodeError, Encoder, MAX_BITRATE, MIN_BITRATE, Picture, Plane, Settings,
    Software, Unit,
};
use pinhole::source::pattern::marks::Marks;
use pinhole::source::pattern::{Moment, Painter};

const FPS: u64 = 30;

fn settings(width: u32, height: u32, ceiling: u32) -> Settings {
    Settings {
        width,
        height,
        fps: FPS as u32,
        ceiling,
    }
}

/// The test picture and its encoder, in simulated time.
struct Studio {
    painter: Painter,
    encoder: Box<dyn Encoder>,
    epoch: Instant,
    number: u64,
}

impl Studio {
    fn new(width: u32, height: u32, ceiling: u32) -> Self {
        Self {
            painter: Painter::new(width as usize, height as usize, "front-door", "INFO"),
            encoder: encode::open(&settings(width, height, ceiling), EncoderChoice::Software)
                .expect("openh264"),
            epoch: Instant::now(),
            number: 0,
        }
    }

    fn moment(number: u64) -> Moment {
        let elapsed = Duration::from_micros(number * 1_000_000 / FPS);
        Moment {
            number,
            elapsed,
            wall: Duration::from_secs(1_750_000_000) + elapsed,
        }
    }

    fn next(&mut self) -> Coded {
        self.painter.draw(&Self::moment(self.number));
        let ticks = (self.number * 90_000 / FPS) as i64;
        self.number += 1;
        let picture = self.painter.picture(ticks, self.epoch).expect("even");
        let coded = self.encoder.encode(&picture).expect("encodes");
        if let Coded::Unit(unit) = &coded {
            assert_eq!(unit.ticks, ticks);
        }
        coded
    }

    fn next_unit(&mut self) -> Unit {
        for _ in 0..FPS {
            if let Coded::Unit(unit) = self.next() {
                return unit;
            }
        }
        panic!("a second without a picture")
    }
}

fn nal_types(unit: &[u8]) -> Vec<u8> {
    nal_units(unit).map(|nal| body(nal)[0] & 31).collect()
}

/// A NAL unit without its start code.
fn body(nal: &[u8]) -> &[u8] {
    let zeros = nal.iter().take_while(|b| **b == 0).count();
    assert_eq!(nal[zeros], 1, "start code");
    &nal[zeros + 1..]
}

/// Slice type from the head of a slice (H.264 7.3.3): first_mb_in_slice, then slice_type.
fn slice_type(slice: &[u8]) -> u32 {
    let mut bits = slice[1..]
        .iter()
        .flat_map(|b| (0..8).map(move |n| b >> (7 - n) & 1));
    let mut exp_golomb = || {
        let zeros = bits.by_ref().take_while(|bit| *bit == 0).count();
        let tail = bits
            .by_ref()
            .take(zeros)
            .fold(0, |v, bit| v << 1 | u32::from(bit));
        (1 << zeros) - 1 + tail
    };
    exp_golomb();
    exp_golomb() % 5
}

fn psnr(decoded: &DecodedYUV<'_>, original: &Picture<'_>) -> f64 {
    let (width, height) = original.size();
    assert_eq!(decoded.dimensions(), (width, height));
    let source = original.planes()[0];
    let stride = decoded.strides().0;
    let mut squares = 0.0;
    for y in 0..height {
        let (got, want) = (
            &decoded.y()[y * stride..][..width],
            &source.data[y * source.stride..],
        );
        squares += got
            .iter()
            .zip(want)
            .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
            .sum::<f64>();
    }
    10.0 * (255.0_f64.powi(2) * (width * height) as f64 / squares.max(1.0)).log10()
}

#[test]
fn what_is_decoded_looks_like_what_was_drawn_and_says_its_number() {
    for (width, height, ceiling) in [
        (320, 180, 300_000),
        (640, 480, 1_000_000),
        (1280, 720, 2_000_000),
    ] {
        let mut studio = Studio::new(width, height, ceiling);
        let mut decoder = Decoder::new().expect("openh264");
        for number in 0..90 {
            let Coded::Unit(unit) = studio.next() else {
                continue;
            };
            let decoded = decoder
                .decode(&unit.data)
                .expect("valid")
                .expect("no delay");
            let quality = psnr(
                &decoded,
                &studio.painter.picture(0, studio.epoch).expect("even"),
            );
            assert!(
                quality > 30.0,
                "{width}x{height} picture {number}: {quality:.1} dB"
            );
            let size = (width as usize, height as usize);
            let marks = Marks::read(decoded.y(), decoded.strides().0, size);
            let wall = Studio::moment(number).wall;
            let expected = Marks {
                number: number as u16,
                millis: wall.as_millis() as u16,
            };
            assert_eq!(marks, Some(expected), "{width}x{height} picture {number}");
        }
    }
}

#[test]
fn numbers_stay_readable_at_a_tenth_of_the_usual_bit_rate() {
    let mut studio = Studio::new(640, 480, 1_000_000);
    studio.encoder.set_bitrate(100_000).expect("in bounds");
    let mut decoder = Decoder::new().expect("openh264");
    let (mut units, mut read) = (0, 0);
    for _ in 0..10 * FPS {
        let Coded::Unit(unit) = studio.next() else {
            continue;
        };
        let decoded = decoder
            .decode(&unit.data)
            .expect("valid")
            .expect("no delay");
        let marks = Marks::read(decoded.y(), decoded.strides().0, (640, 480));
        units += 1;
        read += u32::from(marks.is_some_and(|m| u64::from(m.number) == studio.number - 1));
    }
    println!("{read} of {units} read");
    assert!(units > 100 && read * 100 >= units * 95, "{read} of {units}");
}

#[test]
fn a_forced_key_frame_is_the_very_next_picture_and_asking_twice_costs_one() {
    let mut studio = Studio::new(640, 480, 1_000_000);
    assert!(studio.next_unit().is_key_frame, "the first");
    for spacing in [1, 2, 7, 30] {
        for _ in 0..spacing {
            assert!(!studio.next_unit().is_key_frame);
        }
        studio.encoder.force_key_frame();
        studio.encoder.force_key_frame();
        assert!(studio.next_unit().is_key_frame, "after {spacing}");
    }
    assert!(!studio.next_unit().is_key_frame);
}

#[test]
fn a_stream_that_nobody_asks_has_a_key_frame_every_ten_seconds() {
    let mut studio = Studio::new(320, 180, 500_000);
    let keys: Vec<u64> = (0..21 * FPS)
        .filter(|_| matches!(studio.next(), Coded::Unit(unit) if unit.is_key_frame))
        .collect();
    assert_eq!(keys, [0, 10 * FPS, 20 * FPS]);
}

#[test]
fn key_frames_carry_their_parameters_and_nothing_is_reordered() {
    let mut studio = Studio::new(1280, 720, 2_000_000);
    for n in 0..60 {
        if n % 20 == 0 {
            studio.encoder.force_key_frame();
        }
        let unit = studio.next_unit();
        let mut types = nal_types(&unit.data);
        types.dedup(); // several slices
        if unit.is_key_frame {
            assert_eq!(types, [7, 8, 5], "SPS, PPS, IDR");
        } else {
            assert_eq!(types, [1], "no parameters");
        }
        let slices = nal_units(&unit.data).map(body);
        let expected = if unit.is_key_frame { 2 } else { 0 };
        for slice in slices.filter(|nal| [1, 5].contains(&(nal[0] & 31))) {
            assert_eq!(slice_type(slice), expected, "I or P, never B");
        }
    }
}

#[test]
fn the_profile_is_constrained_baseline_and_says_that_nothing_waits_for_reordering() {
    for (width, height) in [(320, 180), (1280, 720), (1920, 1080)] {
        let unit = Studio::new(width, height, 2_000_000).next_unit();
        let nal = nal_units(&unit.data).next().map(body).expect("an SPS");
        assert_eq!(nal[1], 66, "profile_idc");
        assert_eq!(nal[2] & 0xc0, 0xc0, "constraint_set0 and 1");
        let bits = h264_reader::rbsp::decode_nal(nal).expect("valid");
        let sps = h264_reader::nal::sps::SeqParameterSet::from_bits(
            h264_reader::rbsp::BitReader::new(&bits[..]),
        )
        .expect("valid");
        assert_eq!(sps.pixel_dimensions().expect("known"), (width, height));
        let vui = sps.vui_parameters.expect("present");
        let limits = vui.bitstream_restrictions.expect("present");
        assert_eq!(limits.max_num_reorder_frames, 0);
    }
}

/// A picture that no bit rate is enough for: noise that pans.
struct Noise {
    size: (usize, usize),
    luma: Vec<u8>,
    chroma: Vec<u8>,
    seed: u32,
}

const NOISE: (usize, usize) = (320, 240);

impl Noise {
    fn new() -> Self {
        Self::of(NOISE)
    }

    fn of(size: (usize, usize)) -> Self {
        Self {
            size,
            luma: vec![128; size.0 * size.1],
            chroma: vec![128; size.0 * size.1 / 4],
            seed: 1,
        }
    }

    fn next(&mut self, number: u64) -> Picture<'_> {
        for (n, luma) in self.luma.iter_mut().enumerate() {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 17;
            self.seed ^= self.seed << 5;
            let texture = (((n as u64 + number) * 2_654_435_761) >> 13) % 90;
            *luma = (70 + texture + u64::from(self.seed % 8)) as u8;
        }
        let chroma = Plane::new(&self.chroma, self.size.0 / 2);
        let planes = [Plane::new(&self.luma, self.size.0), chroma, chroma];
        let ticks = (number * 90_000 / FPS) as i64;
        Picture::new(self.size, planes, ticks, Instant::now()).expect("even")
    }
}

#[test]
fn a_forced_key_frame_comes_at_once_where_rate_control_leaves_pictures_out() {
    for (size, ceiling, slices) in [
        ((320, 240), 250_000, 1),
        ((640, 480), 500_000, 1),
        ((640, 480), 500_000, 2),
    ] {
        let settings = settings(size.0 as u32, size.1 as u32, ceiling);
        let mut encoder = Software::open_with(&settings, slices).expect("openh264");
        let (mut noise, mut skipped) = (Noise::of(size), 0);
        let (mut asked_at, mut waits) = (None, Vec::new());
        for number in 0..9 * FPS {
            // At moments that fall anywhere between the pictures that are left out.
            if asked_at.is_none() && number % 13 == 7 {
                encoder.force_key_frame();
                asked_at = Some(number);
            }
            match encoder.encode(&noise.next(number)).expect("encodes") {
                Coded::Unit(unit) if unit.is_key_frame => {
                    waits.extend(asked_at.take().map(|at| number - at + 1));
                }
                Coded::Unit(_) => {}
                Coded::Skipped => skipped += 1,
                Coded::Pending => panic!("software waits for nothing"),
            }
        }
        println!(
            "{size:?}, {slices} slices: {skipped} left out, key frames after {waits:?} pictures"
        );
        assert!(skipped > 20, "{size:?}: {skipped} left out: no test");
        assert!(waits.len() > 10, "{size:?}: {waits:?}");
        assert!(waits.iter().all(|wait| *wait == 1), "{size:?}: {waits:?}");
    }
}

#[test]
fn a_step_of_the_bit_rate_holds_in_every_second_that_follows() {
    for (size, ceiling, slices) in [
        ((320, 240), 1_000_000, 1),
        ((640, 480), 2_000_000, 1),
        ((640, 480), 2_000_000, 2),
    ] {
        let settings = settings(size.0 as u32, size.1 as u32, ceiling);
        let mut encoder = Software::open_with(&settings, slices).expect("openh264");
        let mut noise = Noise::of(size);
        let mut number = 0;
        for share in [1.0, 0.25, 0.6, 0.4, 1.0] {
            let asked = f64::from(ceiling) * share;
            encoder.set_bitrate(asked as u32).expect("taken");
            let mut bits = Vec::new();
            for _ in 0..2 * FPS {
                let coded = encoder.encode(&noise.next(number)).expect("encodes");
                bits.push(match coded {
                    Coded::Unit(unit) => unit.data.len() as f64 * 8.0,
                    Coded::Skipped | Coded::Pending => 0.0,
                });
                number += 1;
            }
            let settled = &bits[FPS as usize / 3..];
            let seconds = settled.windows(FPS as usize);
            let rates: Vec<f64> = seconds
                .map(|second| second.iter().sum::<f64>() / asked)
                .collect();
            let least = rates.iter().copied().fold(f64::MAX, f64::min);
            let most = rates.iter().copied().fold(0.0, f64::max);
            println!(
                "{size:?}, {slices} slices, {asked:.0} bit/s: {least:.2} to {most:.2} of it in a second"
            );
            // The key frame that begins the stream is paid back in its first second.
            let is_first = number == 2 * FPS;
            assert!(
                is_first || (0.7..1.25).contains(&least),
                "{size:?} {share}: {least}"
            );
            assert!(most < 1.25, "{size:?} {share}: {most}");
        }
    }
}

/// Mean bits per second over `pictures`.
fn rate(encoder: &mut dyn Encoder, noise: &mut Noise, pictures: std::ops::Range<u64>) -> f64 {
    let seconds = (pictures.end - pictures.start) as f64 / FPS as f64;
    let mut bytes = 0;
    for number in pictures {
        if let Coded::Unit(unit) = encoder.encode(&noise.next(number)).expect("encodes") {
            bytes += unit.data.len();
            assert!(
                !unit.is_key_frame || number == 0,
                "no key frame for a new rate"
            );
        }
    }
    bytes as f64 * 8.0 / seconds
}

#[test]
fn steps_of_the_bit_rate_are_followed_within_the_ceiling_without_key_frames() {
    let ceiling = 1_000_000;
    let mut encoder =
        encode::open(&settings(320, 240, ceiling), EncoderChoice::Software).expect("openh264");
    let mut noise = Noise::new();
    let mut from = 0; // eight seconds in all: the safety key frame comes after ten
    for (asked, expected) in [
        (1_000_000, 1_000_000.0),
        (300_000, 300_000.0),
        (700_000, 700_000.0),
        (5_000_000, 1_000_000.0), // the ceiling holds
    ] {
        encoder.set_bitrate(asked).expect("taken");
        rate(encoder.as_mut(), &mut noise, from..from + FPS / 2);
        let measured = rate(encoder.as_mut(), &mut noise, from + FPS / 2..from + 2 * FPS);
        from += 2 * FPS;
        println!("asked {asked}: {measured:.0} bit/s");
        let ratio = measured / expected;
        assert!(
            (0.7..1.2).contains(&ratio),
            "asked {asked}: {measured:.0} bit/s"
        );
    }
}

#[test]
fn orders_before_the_first_picture_are_followed_after_it() {
    let mut encoder =
        encode::open(&settings(320, 240, 2_000_000), EncoderChoice::Software).expect("openh264");
    encoder.set_bitrate(250_000).expect("kept");
    encoder.set_frame_rate(30).expect("kept");
    encoder.force_key_frame();
    let mut noise = Noise::new();
    rate(encoder.as_mut(), &mut noise, 0..FPS);
    let measured = rate(encoder.as_mut(), &mut noise, FPS..5 * FPS);
    assert!(
        (150_000.0..320_000.0).contains(&measured),
        "{measured:.0} bit/s"
    );
}

/// A view with large, middle and small structure: `base` is its brightness.
fn view(base: f32, contrast: f32, (a, b): (f32, f32)) -> Vec<u8> {
    let pixels = (0..NOISE.1).flat_map(|y| (0..NOISE.0).map(move |x| (x, y)));
    pixels
        .map(|(x, y)| {
            let (x, y) = (x as f32 / NOISE.0 as f32, y as f32 / NOISE.1 as f32);
            let waves = (a * x).sin() * (b * y).cos()
                + (7.3 * a * x + 5.1 * b * y).sin() / 2.0
                + (31.0 * a * x - 27.0 * b * y).sin() / 4.0;
            (base + contrast * waves).clamp(16.0, 230.0) as u8
        })
        .collect()
}

#[test]
fn a_cut_costs_one_key_frame_of_bounded_size_and_no_gap() {
    let (dim, lit) = (view(30.0, 8.0, (9.0, 7.0)), view(115.0, 40.0, (9.0, 7.0)));
    let elsewhere = view(120.0, 40.0, (13.0, 17.0));
    let ceiling = 200_000;
    for (what, before, after) in [
        ("light on", &dim, &lit),
        ("light off", &lit, &dim),
        ("camera turned", &lit, &elsewhere),
    ] {
        let mut encoder =
            encode::open(&settings(320, 240, ceiling), EncoderChoice::Software).expect("openh264");
        let chroma = vec![128; NOISE.0 * NOISE.1 / 4];
        let grey = Plane::new(&chroma, NOISE.0 / 2);
        let (mut keys, mut gap, mut longest) = (Vec::new(), 0, 0);
        for number in 0..4 * FPS {
            let luma = if number < 2 * FPS { before } else { after };
            let planes = [Plane::new(luma, NOISE.0), grey, grey];
            let ticks = (number * 90_000 / FPS) as i64;
            let picture = Picture::new(NOISE, planes, ticks, Instant::now()).expect("holds");
            gap += 1;
            if let Coded::Unit(unit) = encoder.encode(&picture).expect("encodes") {
                gap = 0;
                if unit.is_key_frame || number == 2 * FPS {
                    keys.push((number, unit.is_key_frame, unit.data.len()));
                }
            }
            longest = longest.max(gap);
        }
        println!("{what}: {keys:?}, {longest} pictures left out in a row at most");
        let [(0, true, _), (at, true, size)] = keys[..] else {
            panic!("{what}: {keys:?}")
        };
        assert_eq!(at, 2 * FPS, "{what}");
        assert!(
            size < ceiling as usize / 8 / 2,
            "{what}: half a second of bits in {size} bytes"
        );
        assert!(longest <= 2, "{what}: {longest} pictures in a row left out");
    }
}

#[test]
fn half_the_frame_rate_gets_twice_the_bits_for_each_picture() {
    let mut encoder =
        encode::open(&settings(320, 240, 600_000), EncoderChoice::Software).expect("openh264");
    let mut noise = Noise::new();
    let full = rate(encoder.as_mut(), &mut noise, 0..4 * FPS);
    encoder.set_frame_rate(15).expect("in bounds");
    rate(encoder.as_mut(), &mut noise, 4 * FPS..5 * FPS);
    let half = rate(encoder.as_mut(), &mut noise, 5 * FPS..9 * FPS);
    println!("per second of 30 pictures: {full:.0}, then {half:.0} bits");
    assert!((1.6..2.4).contains(&(half / full)));
    assert!(encoder.set_frame_rate(0).is_err());
    assert!(encoder.set_frame_rate(1000).is_err());
}

#[test]
fn a_picture_of_another_size_is_refused_and_the_encoder_goes_on() {
    let mut studio = Studio::new(640, 480, 1_000_000);
    studio.next_unit();
    let other = Painter::new(320, 240, "other", "");
    let picture = other.picture(0, Instant::now()).expect("even");
    let refused = studio.encoder.encode(&picture);
    assert!(matches!(refused, Err(EncodeError::OtherSize { .. })));
    assert!(!studio.next_unit().is_key_frame);
}

#[test]
fn planes_with_padding_are_coded_like_planes_without() {
    let painter = Painter::new(320, 180, "padded", "");
    let tight = painter.picture(0, Instant::now()).expect("even");
    let padded: Vec<(Vec<u8>, usize)> = tight
        .planes()
        .iter()
        .map(|plane| {
            let rows = plane.data.chunks(plane.stride);
            let wide = rows.flat_map(|row| row.iter().copied().chain([77; 24]));
            let mut data: Vec<u8> = wide.collect();
            data.truncate(data.len() - 24); // drivers need not pad the last row
            (data, plane.stride + 24)
        })
        .collect();
    let planes = [0, 1, 2].map(|n| Plane::new(&padded[n].0, padded[n].1));
    let loose = Picture::new((320, 180), planes, 0, Instant::now()).expect("holds");
    let code = |picture| {
        let mut encoder =
            encode::open(&settings(320, 180, 500_000), EncoderChoice::Software).expect("openh264");
        let Coded::Unit(unit) = encoder.encode(picture).expect("encodes") else {
            panic!("the first picture was left out")
        };
        unit.data
    };
    assert_eq!(code(&tight), code(&loose));
}

/// On its own: encoders at the ends of what is accepted work. As a child of the next test: what
/// they say on stderr.
#[test]
fn encoders_at_the_ends_of_their_bounds_work() {
    for (width, height) in [(16, 16), (18, 640), (2160, 3840)] {
        for (fps, ceiling) in [(1, MIN_BITRATE), (60, MAX_BITRATE)] {
            let bounds = Settings {
                fps,
                ..settings(width, height, ceiling)
            };
            let mut encoder = encode::open(&bounds, EncoderChoice::Software).expect("in bounds");
            let painter = Painter::new(width as usize, height as usize, "x", "");
            for n in 0..2 {
                let picture = painter.picture(n * 90_000, Instant::now()).expect("even");
                let coded = encoder.encode(&picture).expect("encodes");
                assert!(n > 0 || matches!(coded, Coded::Unit(_)));
                encoder.set_bitrate(0).expect("held at the bound");
                encoder.set_bitrate(u32::MAX).expect("held at the bound");
            }
        }
    }
}

#[test]
fn the_encoder_prints_nothing() {
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "encoders_at_the_ends_of_their_bounds_work",
            "--nocapture",
        ])
        .output()
        .expect("runs");
    assert!(child.status.success());
    assert_eq!(String::from_utf8_lossy(&child.stderr), "");
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(
        stdout.contains("1 passed") && !stdout.contains("OpenH264"),
        "{stdout}"
    );
}

#[test]
fn pictures_in_two_slices_decode_and_begin_with_one_key_frame() {
    let mut studio = Studio::new(1280, 720, 2_000_000);
    let settings = settings(1280, 720, 2_000_000);
    studio.encoder = Box::new(Software::open_with(&settings, 2).expect("openh264"));
    let mut decoder = Decoder::new().expect("openh264");
    for number in 0..30 {
        if number == 20 {
            studio.encoder.force_key_frame();
        }
        let unit = studio.next_unit();
        assert_eq!(unit.is_key_frame, [0, 20].contains(&number), "{number}");
        let slices = nal_types(&unit.data)
            .into_iter()
            .filter(|kind| [1, 5].contains(kind));
        assert_eq!(slices.count(), 2, "{number}");
        decoder.decode(&unit.data).expect("valid");
    }
}

/// openh264 has one pool of threads for all encoders of a process.
#[test]
fn cameras_that_share_openh264s_threads_all_get_their_pictures() {
    let settings = settings(640, 480, 8_000_000);
    let cameras: Vec<_> = (0..4)
        .map(|camera| {
            std::thread::spawn(move || {
                let slices = 1 + camera % 3;
                let mut encoder = Software::open_with(&settings, slices).expect("openh264");
                let mut noise = Noise::of((640, 480));
                let coded = (0..FPS).filter(|number| {
                    let coded = encoder.encode(&noise.next(*number)).expect("encodes");
                    matches!(coded, Coded::Unit(_))
                });
                coded.count()
            })
        })
        .collect();
    for camera in cameras {
        let pictures = camera.join().expect("no panic");
        assert!(pictures >= FPS as usize / 3, "{pictures}");
    }
}
