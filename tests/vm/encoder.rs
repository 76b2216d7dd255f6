//! A hardware encoder (tests/vm/encoder) under Pinhole's own source: that it is asked as its
//! documentation wants (kernel documentation, userspace-api/media/v4l/dev-encoder), and what
//! happens when it breaks. Its pictures are lossless and it follows no bit rate.

use std::fs;
use std::time::{Duration, Instant};

use pinhole::media::h264::{SpsFacts, nal_type, nal_type_of, nal_units};
use pinhole::media::{AccessUnit, Demand, SourceEvent};

use crate::Case;
use crate::machine::{one_vivid, quiet_picture, shell, unbind, unload};
use crate::picture::Picture;
use crate::watch::Watch;

pub fn cases() -> Vec<Case> {
    vec![
        Case("encodes, single-planar", single_planar),
        Case("encodes, multi-planar", multi_planar),
        Case("a wish becomes a key frame", forced_key_frames),
        Case("a bit rate reaches the device", bitrate),
        Case("one broken picture is tolerated", one_broken),
        Case(
            "its last pictures come out when a smaller one takes over",
            drained_for_a_smaller,
        ),
        Case(
            "its last pictures come out when the camera is pulled",
            drained_at_the_end,
        ),
        Case("breaks for good: software goes on", breaks),
        Case("is taken away: software goes on", taken_away),
        Case("none there: auto says so and encodes in software", none),
    ]
}

const CAMERA: &str = "source = \"v4l2:/dev/video0\"\nsize = \"640x360\"\nfps = 10";

/// The camera is /dev/video0, the encoder the node after it.
fn load(multiplanar: u8) {
    unload("vh264");
    one_vivid();
    shell(&format!("modprobe vh264 multiplanar={multiplanar}"));
    quiet_picture(0);
}

fn seen(name: &str) -> u64 {
    let text = fs::read_to_string(format!("/sys/module/vh264/parameters/{name}")).unwrap();
    text.trim().parse().unwrap()
}

fn set(name: &str, value: u64) {
    fs::write(
        format!("/sys/module/vh264/parameters/{name}"),
        value.to_string(),
    )
    .unwrap();
}

fn playing(encoder: &str) -> Watch {
    let mut watch = Watch::open(&format!("{CAMERA}\nencoder = \"{encoder}\""));
    watch.key_frame();
    watch
}

fn encodes(multiplanar: u8) -> String {
    load(multiplanar);
    let reference = Picture::captured(0, 640, 360);
    let start = Instant::now();
    let mut watch = playing("auto");
    let first = start.elapsed();
    let psnr = watch.picture_after(0).psnr(&reference);
    let jobs = seen("seen_jobs");
    assert!(jobs > 0, "the hardware was not used: {}", watch.tail());
    assert!(
        psnr >= 40.0,
        "PSNR {psnr:.1} dB: planes, stride or crop are wrong"
    );
    let (units, errors, downs) = watch.during(Duration::from_secs(3));
    assert_eq!((errors, downs), (0, 0), "{}", watch.tail());
    let closing = watch.close();
    format!(
        "PSNR {psnr:.1} dB, first picture {:.2} s, {units} in 3 s of 10 per second, closed in {} ms",
        first.as_secs_f32(),
        closing.as_millis()
    )
}

fn single_planar() -> String {
    encodes(0)
}

fn multi_planar() -> String {
    encodes(1)
}

fn forced_key_frames() -> String {
    load(1);
    let mut watch = playing("hardware");
    let mut worst = 0;
    for _ in 0..5 {
        // Past the key frames that belong to the start or to the encoder's own period.
        watch.until("delta", |event| match event {
            SourceEvent::Unit(AccessUnit {
                is_key_frame: false,
                ..
            }) => Some(()),
            _ => None,
        });
        watch.drain();
        let wished = Instant::now();
        watch.demand(Demand::KeyFrame);
        // One taken before the wish may come after it: it does not count.
        let mut after = 0;
        loop {
            let unit = watch.unit();
            after += u32::from(unit.received > wished);
            if unit.is_key_frame {
                break;
            }
        }
        worst = worst.max(after);
    }
    let forced = seen("seen_forced");
    assert!(forced >= 5, "the control was set {forced} times");
    assert!(worst <= 5, "a key frame came only as picture {worst}");
    format!("5 of 5, at worst the {worst}. picture after the wish")
}

fn bitrate() -> String {
    load(0);
    let mut watch = playing("hardware");
    let begun = seen("seen_bitrate");
    let downs = watch.downs;
    watch.demand(Demand::Bitrate(200_000));
    let until = Instant::now() + Duration::from_secs(5);
    while seen("seen_bitrate") != 200_000 && Instant::now() < until {
        watch.unit();
    }
    assert_eq!(seen("seen_bitrate"), 200_000);
    assert_eq!(watch.downs, downs);
    format!("{begun} at first, 200000 when asked, no restart")
}

fn one_broken() -> String {
    load(1);
    let mut watch = playing("hardware");
    set("broken_jobs", 1);
    let (units, errors, downs) = watch.during(Duration::from_secs(3));
    assert_eq!(downs, 0, "{}", watch.tail());
    assert!(units > 0 && seen("broken_jobs") == 0, "{}", watch.tail());
    assert!(errors >= 1, "nobody was told: {}", watch.tail());
    format!("{units} pictures in the 3 s with it, {errors} errors, no restart")
}

/// So slow that there is always a picture in the device, and that this is more than it can do.
const SLOW_MS: u64 = 180;

/// Pictures of the camera's own size that the device coded, besides the one by which the encoder
/// has proven that it works.
fn coded() -> u64 {
    seen("seen_wide") - 1
}

fn drained_for_a_smaller() -> String {
    load(1);
    let mut watch = playing("hardware");
    let quick = coded();
    // Slower than ten a second: there are no fewer, so the pictures get smaller.
    set("job_ms", SLOW_MS);
    let small = watch.until("smaller picture", |event| match event {
        SourceEvent::Unit(unit) if is_smaller(&unit) => Some(unit),
        _ => None,
    });
    set("job_ms", 0);
    assert!(small.is_key_frame);
    let (out, device) = (watch.units - 1, coded());
    assert_eq!(out, device, "{}", watch.tail());
    assert_eq!((watch.errors, watch.downs), (0, 0), "{}", watch.tail());
    watch.close();
    let slow = device - quick;
    format!("{device} coded by the device, {slow} of them while it was slow; {out} came out")
}

fn is_smaller(unit: &AccessUnit) -> bool {
    let mut nals = nal_units(&unit.data);
    let facts = nals.find_map(|nal| match nal_type_of(nal) {
        nal_type::SPS => SpsFacts::parse(nal),
        _ => None,
    });
    let size = facts.and_then(|facts| facts.size);
    size.is_some_and(|(width, _)| width < 640)
}

fn drained_at_the_end() -> String {
    load(0);
    let mut watch = Watch::open(&format!("{CAMERA}\nencoder = \"hardware\""));
    let (mut units, mut out, mut is_small) = (0, 0, false);
    watch.until("Down", |event| match event {
        SourceEvent::Unit(unit) => {
            // So slow a device is given smaller pictures in the end.
            if unit.is_key_frame {
                is_small = is_smaller(&unit);
            }
            out += u64::from(!is_small);
            units += 1;
            match units {
                1 => set("job_ms", SLOW_MS),
                11 => unbind(0),
                _ => {}
            }
            None
        }
        SourceEvent::Down { .. } => Some(()),
        _ => None,
    });
    let device = coded();
    assert_eq!(out, device, "{}", watch.tail());
    watch.close();
    format!("{device} coded by the device, {out} came out before the end was told")
}

/// Breaks the hardware; software must take over without a restart of the camera.
fn falls_back(break_it: impl FnOnce()) -> String {
    load(1);
    let reference = Picture::captured(0, 640, 360);
    let mut watch = playing("auto");
    assert!(
        seen("seen_jobs") > 0,
        "the hardware was not used: {}",
        watch.tail()
    );
    let broken = Instant::now();
    break_it();
    let mut last = broken;
    let mut longest = Duration::ZERO;
    let mut words = String::new();
    while broken.elapsed() < Duration::from_secs(8) {
        match watch.next_within(Duration::from_secs(8)) {
            Some(SourceEvent::Unit(_)) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Some(SourceEvent::Load(load)) => words = load.encoder,
            Some(SourceEvent::Down { detail, .. }) => panic!("the camera went down: {detail}"),
            Some(_) => {}
            None => panic!("no picture any more: {}", watch.tail()),
        }
    }
    let psnr = watch.picture_after(5).psnr(&reference);
    assert!((30.0..90.0).contains(&psnr), "PSNR {psnr:.1} dB");
    let is_told = words.starts_with("openh264: the hardware encoder failed");
    assert!(is_told, "nobody says why: \"{words}\"");
    assert!(
        longest < Duration::from_secs(3) * 3,
        "{longest:?} without a picture"
    );
    format!(
        "\"{words}\", longest pause {} ms, PSNR {psnr:.1} dB",
        longest.as_millis()
    )
}

fn breaks() -> String {
    let figures = falls_back(|| set("broken_jobs", 1_000_000));
    set("broken_jobs", 0);
    figures
}

fn taken_away() -> String {
    falls_back(|| fs::write("/sys/bus/platform/drivers/vh264/unbind", "vh264.0").unwrap())
}

fn none() -> String {
    unload("vh264");
    one_vivid();
    let mut watch = playing("auto");
    let words = watch.until("word of the encoder", |event| match event {
        SourceEvent::Load(load) => Some(load.encoder),
        _ => None,
    });
    assert_eq!(words, "openh264: no hardware encoder found");
    words
}
