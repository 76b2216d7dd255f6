//! A hardware encoder, for real: its node is named by `PINHOLE_M2M_NODE`. Where that is not set,
//! each case says so and does nothing. The virtual machine of tests/vm has such encoders; where
//! `/sys/module/vh264` is theirs, they are also made to fail.
#![allow(clippy::print_stdout)] // figures, and why nothing ran

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use pinhole::config::EncoderChoice;
use pinhole::source::encode::m2m::{self, Hardware, Pixel};
use pinhole::source::encode::{
    self, Chosen, Coded, Encoder, Failures, Machine, News, Picture, Settings, Unit,
};
use pinhole::source::pattern::{Moment, Painter};

/// So few that the encoder waits 250 ms for each: at 30 it waits 33, and an emulated machine may
/// stand still for longer.
const FPS: u32 = 4;
/// A height that is no multiple of 16.
const SIZE: (u32, u32) = (640, 360);

const SETTINGS: Settings = Settings {
    width: SIZE.0,
    height: SIZE.1,
    fps: FPS,
    ceiling: 2_000_000,
};

/// The node, and the right to be the only one that uses it.
fn node() -> Option<(PathBuf, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let Some(path) = std::env::var_os("PINHOLE_M2M_NODE") else {
        println!("skipped: PINHOLE_M2M_NODE names no hardware encoder");
        return None;
    };
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some((path.into(), guard))
}

/// As `encode::open`, without a memory of what the other cases broke.
fn whichever_works() -> Chosen<Machine> {
    let failures = Failures::default();
    Chosen::open(Machine, failures, &SETTINGS, EncoderChoice::Auto).expect("opens")
}

/// The test picture, in simulated frame time.
struct Scene {
    painter: Painter,
    epoch: Instant,
    number: u64,
}

impl Scene {
    fn new() -> Self {
        Self {
            painter: Painter::new(SIZE.0 as usize, SIZE.1 as usize, "board", "M2M"),
            epoch: Instant::now(),
            number: 0,
        }
    }

    fn ticks(number: u64) -> i64 {
        1_000_000 + (number * 90_000 / u64::from(FPS)) as i64
    }

    fn draw(&mut self) -> Picture<'_> {
        let elapsed = Duration::from_secs(self.number) / FPS;
        self.painter.draw(&Moment {
            number: self.number,
            elapsed,
            wall: elapsed,
        });
        let ticks = Self::ticks(self.number);
        self.number += 1;
        self.painter
            .picture(ticks, self.epoch + elapsed)
            .expect("even")
    }

    /// The same with a device so far behind that it leaves pictures out.
    fn code_if_free(&mut self, encoder: &mut dyn Encoder) -> Option<Unit> {
        match encoder.encode(&self.draw()).expect("no error") {
            Coded::Unit(unit) => Some(unit),
            Coded::Pending | Coded::Skipped => None,
        }
    }

    /// Codes `count` pictures; all of them have come out at the end, once each and in order.
    fn code_all(&mut self, encoder: &mut dyn Encoder, count: u64) -> Vec<Unit> {
        let asked: Vec<i64> = (self.number..self.number + count)
            .map(Self::ticks)
            .collect();
        let mut units: Vec<Unit> = (0..count).filter_map(|_| self.code(encoder)).collect();
        let last = encoder.drain();
        units.extend(last.unwrap_or_else(|error| panic!("drained: {}", error.chain())));
        let ticks: Vec<i64> = units.iter().map(|unit| unit.ticks).collect();
        assert_eq!(ticks, asked, "each once, in order");
        units
    }

    /// Codes the next picture; none while the device is a picture behind.
    fn code(&mut self, encoder: &mut dyn Encoder) -> Option<Unit> {
        match encoder.encode(&self.draw()).expect("coded") {
            Coded::Unit(unit) => Some(unit),
            Coded::Pending => None,
            Coded::Skipped => panic!("a picture was left out"),
        }
    }
}

fn psnr(decoded: &[u8], stride: usize, picture: &Picture<'_>) -> f64 {
    let luma = picture.planes()[0];
    let (width, height) = picture.size();
    let mut squares = 0.0;
    for row in 0..height {
        let got = &decoded[row * stride..][..width];
        let want = &luma.data[row * luma.stride..][..width];
        let errors = got
            .iter()
            .zip(want)
            .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        squares += errors.sum::<f64>();
    }
    10.0 * (255.0_f64.powi(2) * (width * height) as f64 / squares.max(1.0)).log10()
}

#[test]
fn every_raw_format_is_coded_at_the_right_size_and_looks_like_what_went_in() {
    let Some((path, _alone)) = node() else { return };
    let found = m2m::look(&path).expect("an H.264 encoder");
    println!("{found:?}");
    assert!(m2m::find().contains(&found));
    for pixel in &found.pixels {
        let mut encoder = Hardware::open_as(&path, &SETTINGS, *pixel).expect("opens");
        // The virtual encoder takes no frame rate.
        let lacks: Vec<_> = encoder
            .lacks()
            .iter()
            .filter(|lack| *lack != "frame rate")
            .collect();
        assert_eq!(lacks, [""; 0], "{pixel:?}");
        let mut scene = Scene::new();
        let mut unit = scene.code(&mut encoder);
        if unit.is_none() {
            unit = encoder.drain().expect("drained").pop();
        }
        let unit = unit.expect("the first picture");
        assert!(unit.is_key_frame, "{pixel:?}");
        let mut decoder = Decoder::new().expect("openh264");
        let decoded = decoder
            .decode(&unit.data)
            .expect("valid")
            .expect("a picture");
        assert_eq!(decoded.dimensions(), (SIZE.0 as usize, SIZE.1 as usize));
        let picture = scene.painter.picture(0, scene.epoch).expect("even");
        let likeness = psnr(decoded.y(), decoded.strides().0, &picture);
        println!("{pixel:?}: {likeness:.1} dB, {} bytes", unit.data.len());
        assert!(likeness > 30.0, "{pixel:?}: {likeness:.1} dB");
        let colours = |decoded: &[u8], stride: usize, n: usize| {
            let plane = picture.planes()[n];
            let middle = SIZE.1 as usize / 4;
            let got = decoded[middle * stride + 40];
            got.abs_diff(plane.data[middle * plane.stride + 40])
        };
        assert!(
            colours(decoded.u(), decoded.strides().1, 1) < 8,
            "{pixel:?}"
        );
        assert!(
            colours(decoded.v(), decoded.strides().2, 2) < 8,
            "{pixel:?}"
        );
    }
}

#[test]
fn a_forced_key_frame_is_the_very_next_picture_and_fifty_demands_cost_one() {
    let Some((path, _alone)) = node() else { return };
    let found = m2m::look(&path).expect("an H.264 encoder");
    let mut encoder = Hardware::open(&found, &SETTINGS).expect("opens");
    let mut scene = Scene::new();
    let mut units = Vec::new();
    for number in 0..60_u64 {
        if number == 17 || number == 40 {
            (0..50).for_each(|_| encoder.force_key_frame());
        }
        units.extend(scene.code(&mut encoder));
    }
    units.extend(encoder.drain().expect("drained"));
    let ticks: Vec<i64> = units.iter().map(|unit| unit.ticks).collect();
    let asked: Vec<i64> = (0..60).map(Scene::ticks).collect();
    assert_eq!(ticks, asked, "each once, in order");
    let keys = units
        .iter()
        .enumerate()
        .filter(|(_, unit)| unit.is_key_frame);
    let keys: Vec<_> = keys.map(|(n, _)| n).collect();
    assert_eq!(keys, [0, 17, 40]);
    let mut decoder = Decoder::new().expect("openh264");
    for unit in &units {
        decoder.decode(&unit.data).expect("valid");
    }
}

#[test]
fn a_drained_encoder_gives_all_it_has_and_goes_on() {
    let Some((path, _alone)) = node() else { return };
    let found = m2m::look(&path).expect("an H.264 encoder");
    let mut encoder = Hardware::open(&found, &SETTINGS).expect("opens");
    let mut scene = Scene::new();
    for round in 0..3 {
        scene.code_all(&mut encoder, 10);
        encoder
            .set_bitrate(300_000 * (round + 1))
            .expect("followed");
    }
    assert!(encoder.drain().expect("nothing left").is_empty());
}

#[test]
fn a_device_that_is_a_picture_behind_gives_all_of_them_when_it_is_drained() {
    let Some((path, _alone)) = node() else { return };
    let Some(slow) = lever("job_ms") else { return };
    let found = m2m::look(&path).expect("an H.264 encoder");
    let quick = Settings {
        fps: 30,
        ..SETTINGS
    };
    let mut encoder = Hardware::open(&found, &quick).expect("opens");
    let mut scene = Scene::new();
    // Twice the frame interval that the encoder waits.
    slow.set(70);
    for round in 0..3 {
        let begun = jobs();
        let mut got = Vec::new();
        for _ in 0..12 {
            got.extend(scene.code_if_free(&mut encoder));
        }
        let before = got.len();
        got.extend(encoder.drain().expect("drained"));
        let (fed, inside) = (jobs() - begun, got.len() - before);
        println!("round {round}: {fed} fed, {inside} of them out by the drain");
        assert!(inside > 0, "round {round}: it was never behind");
        assert_eq!(got.len() as u64, fed, "round {round}");
        let in_order = got.is_sorted_by(|one, next| one.ticks < next.ticks);
        assert!(in_order, "round {round}");
    }
}

#[test]
fn a_device_that_gives_its_first_picture_late_proves_itself_with_a_second_one() {
    let Some((path, _alone)) = node() else { return };
    let Some(slow) = lever("job_ms") else { return };
    let found = m2m::look(&path).expect("an H.264 encoder");
    // More than half of the time that there is for the proof.
    slow.set(600);
    let begun = jobs();
    let opened = Hardware::open(&found, &SETTINGS);
    slow.set(0);
    let mut encoder = opened.expect("opens");
    assert!(jobs() > begun);
    // What it still had of the proof is nobody's picture.
    let mut scene = Scene::new();
    let start = scene.draw().ticks;
    let coded = (0..20).filter_map(|_| scene.code_if_free(&mut encoder));
    let units: Vec<Unit> = coded.take(2).collect();
    assert_eq!(units.len(), 2);
    assert!(units[0].ticks > start && units[0].is_key_frame);
    assert!(units[1].ticks > units[0].ticks && !units[1].is_key_frame);
}

/// Pictures that all virtual encoders have coded.
fn jobs() -> u64 {
    let seen = fs::read_to_string("/sys/module/vh264/parameters/seen_jobs");
    seen.expect("readable").trim().parse().expect("a number")
}

/// A lever of the virtual encoder.
struct Lever(PathBuf);

impl Lever {
    fn set(&self, value: u32) {
        fs::write(&self.0, value.to_string()).expect("writable");
    }

    fn read(&self) -> String {
        let value = fs::read_to_string(&self.0);
        value.expect("readable").trim().to_owned()
    }
}

/// What a test that fails leaves set would fail the next one, too.
impl Drop for Lever {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "0");
    }
}

fn lever(name: &str) -> Option<Lever> {
    let path = PathBuf::from("/sys/module/vh264/parameters").join(name);
    if !path.exists() {
        println!("skipped: this encoder has no lever {name}");
        return None;
    }
    Some(Lever(path))
}

#[test]
fn orders_reach_the_device() {
    let Some((path, _alone)) = node() else { return };
    let Some(seen) = lever("seen_bitrate") else {
        return;
    };
    let found = m2m::look(&path).expect("an H.264 encoder");
    let mut encoder = Hardware::open(&found, &SETTINGS).expect("opens");
    assert_eq!(seen.read(), "2000000");
    encoder.set_bitrate(710_000).expect("set");
    assert_eq!(seen.read(), "700000", "in steps of 25000");
    encoder.set_bitrate(9_000_000).expect("set");
    assert_eq!(seen.read(), "2000000", "the ceiling holds");
}

#[test]
fn hardware_that_breaks_while_it_runs_is_replaced_within_the_same_picture() {
    let Some((_, _alone)) = node() else { return };
    let Some(broken) = lever("broken_jobs") else {
        return;
    };
    let mut encoder = whichever_works();
    let Some(News::Chosen(said)) = encoder.poll_news() else {
        panic!("it says what it chose")
    };
    assert!(said.starts_with("V4L2 M2M: "), "{said}");
    let mut scene = Scene::new();
    let mut decoder = Decoder::new().expect("openh264");
    for unit in scene.code_all(&mut encoder, 10) {
        decoder.decode(&unit.data).expect("valid");
    }
    broken.set(1000);
    let mut refused = 0;
    let unit = loop {
        match encoder.encode(&scene.draw()) {
            Ok(Coded::Unit(unit)) => break unit,
            Ok(_) => {}
            Err(error) => {
                println!("{}", error.chain());
                refused += 1;
            }
        }
        encoder.force_key_frame();
    };
    broken.set(0);
    assert_eq!(refused, 2, "damaged pictures are forgiven twice");
    assert!(unit.is_key_frame);
    assert_eq!(encoder.name(), "openh264");
    assert_eq!(
        unit.ticks,
        Scene::ticks(scene.number - 1),
        "the picture at hand"
    );
    let decoded = decoder
        .decode(&unit.data)
        .expect("valid")
        .expect("a picture");
    let picture = scene.painter.picture(0, scene.epoch).expect("even");
    assert!(psnr(decoded.y(), decoded.strides().0, &picture) > 30.0);
    let news: Vec<News> = std::iter::from_fn(|| encoder.poll_news()).collect();
    assert!(
        matches!(&news[..], [News::Fault(_), News::Chosen(_)]),
        "{news:?}"
    );
}

#[test]
fn hardware_that_takes_seconds_for_a_picture_is_replaced_and_that_picture_is_not_lost() {
    let Some((_, _alone)) = node() else { return };
    let Some(slow) = lever("job_ms") else { return };
    let mut encoder = whichever_works();
    let mut scene = Scene::new();
    scene.code_all(&mut encoder, 1);
    slow.set(4000);
    let start = Instant::now();
    let mut units = 0;
    while encoder.name() != "openh264" {
        assert!(start.elapsed() < Duration::from_secs(6), "still waits");
        // The encoder waits for a frame interval each time: no clock of ours is needed.
        units += usize::from(scene.code_if_free(&mut encoder).is_some());
    }
    let took = start.elapsed();
    slow.set(0);
    println!("replaced after {took:?}");
    assert_eq!(units, 1, "the first unit is software's");
    // To stop a device that hangs can take as long as its picture: that is another thread's work.
    assert!(took < Duration::from_millis(5500), "{took:?}");
}

#[test]
fn a_device_that_is_unbound_is_replaced_within_the_same_picture() {
    let Some((_, _alone)) = node() else { return };
    let driver = PathBuf::from("/sys/bus/platform/drivers/vh264");
    let Some(_) = lever("broken_jobs") else {
        return;
    };
    let device = fs::read_dir(&driver)
        .expect("the driver")
        .flatten()
        .find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.starts_with("vh264").then_some(name)
        });
    let device = device.expect("a bound device");
    let mut encoder = whichever_works();
    assert_eq!(encoder.name(), "V4L2 M2M");
    let mut scene = Scene::new();
    scene.code_all(&mut encoder, 5);
    fs::write(driver.join("unbind"), &device).expect("unbound");
    let unit = scene.code(&mut encoder).expect("software's");
    assert!(unit.is_key_frame);
    assert_eq!(encoder.name(), "openh264");
    let again = encode::open(&SETTINGS, EncoderChoice::Hardware)
        .err()
        .expect("gone");
    println!("{}", again.chain());
    fs::write(driver.join("bind"), &device).expect("bound");
    let until = Instant::now() + Duration::from_secs(10);
    while m2m::find().is_empty() {
        assert!(Instant::now() < until, "the node comes back");
        std::thread::sleep(Duration::from_millis(20)); // nothing tells when a node appears
    }
    let pixel = Pixel::Nv12;
    let node = m2m::find().remove(0).path;
    assert!(Hardware::open_as(&node, &SETTINGS, pixel).is_ok());
}
