//! Clips as cameras: what players and recorders write, looped without a seam, and files that are
//! no clips. The clips in `data/clips` are of a test picture, made with ffmpeg (one second of
//! 96x64 at 30 pictures per second, two key frames, where the name does not say otherwise).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use pinhole::config::File;
use pinhole::media::h264::{nal_type_of, nal_units};
use pinhole::media::{AccessUnit, CameraId, Demand, DownReason, SourceEvent};
use pinhole::source::file::{self, Clip, ClipError, Sample};
use tokio::sync::mpsc;

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/clips")
        .join(name)
}

fn open(name: &str) -> Clip {
    Clip::open(&clip(name), None).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn take(clip: &mut Clip, count: usize) -> Vec<Sample> {
    let all = (0..count).map(|_| clip.next_sample().expect("endless"));
    all.collect()
}

/// A file of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Self {
        let name = format!("pinhole-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).expect("writable");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn every_kind_of_file_gives_the_same_pictures() {
    let expected: Vec<_> = take(&mut open("plain.mp4"), 30);
    for name in ["sound.mp4", "plain.mov", "plain.h264"] {
        let got = take(&mut open(name), 30);
        for (n, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got.data, expected.data, "{name}: picture {n}");
            assert_eq!(got.ticks, expected.ticks, "{name}: picture {n}");
            assert_eq!(
                got.is_key_frame, expected.is_key_frame,
                "{name}: picture {n}"
            );
        }
    }
}

#[test]
fn a_loop_has_no_seam_in_time_and_begins_with_a_key_frame() {
    for name in ["plain.mp4", "sound.mp4", "plain.h264"] {
        let samples = take(&mut open(name), 100);
        for (n, sample) in samples.iter().enumerate() {
            assert_eq!(sample.ticks, n as i64 * 3000, "{name}: picture {n}");
            assert_eq!(sample.is_key_frame, n % 15 == 0, "{name}: picture {n}");
        }
    }
}

#[test]
fn what_comes_out_decodes_across_the_seam() {
    for name in ["plain.mp4", "plain.h264", "slices.h264"] {
        let mut decoder = Decoder::new().expect("openh264");
        for (n, sample) in take(&mut open(name), 80).iter().enumerate() {
            let decoded = decoder.decode(&sample.data);
            let picture = decoded.unwrap_or_else(|error| panic!("{name} {n}: {error}"));
            assert_eq!(picture.expect("no delay").dimensions(), (96, 64));
        }
    }
}

#[test]
fn every_key_frame_carries_its_parameters() {
    for name in ["plain.mp4", "plain.h264", "slices.h264"] {
        for sample in take(&mut open(name), 50) {
            let types: Vec<u8> = nal_units(&sample.data).map(nal_type_of).collect();
            if sample.is_key_frame {
                let sets: Vec<u8> = types
                    .iter()
                    .copied()
                    .filter(|t| [7, 8].contains(t))
                    .collect();
                assert_eq!(sets, [7, 8], "{name}: {types:?}");
            }
            let last = if sample.is_key_frame { 5 } else { 1 };
            assert_eq!(types.last(), Some(&last), "{name}: {types:?}");
            assert!(!types.contains(&9), "{name}: delimiters are left out");
        }
    }
}

#[test]
fn a_picture_of_two_slices_is_one_picture() {
    // 12.5 per second by its own word, with access unit delimiters.
    let samples = take(&mut open("slices.h264"), 30);
    for (n, sample) in samples.iter().enumerate() {
        let slices = nal_units(&sample.data).map(nal_type_of);
        assert_eq!(slices.filter(|t| [1, 5].contains(t)).count(), 2);
        assert_eq!(sample.ticks, n as i64 * 7200);
    }
}

#[test]
fn the_configured_rate_of_a_byte_stream_comes_first() {
    let mut slow = Clip::open(&clip("plain.h264"), Some(10)).expect("opens");
    assert!(
        slow.describe().contains("at 10 pictures"),
        "{}",
        slow.describe()
    );
    assert_eq!(take(&mut slow, 32)[31].ticks, 31 * 9000);
    // An MP4 has its own times.
    let mut movie = Clip::open(&clip("plain.mp4"), Some(10)).expect("opens");
    assert_eq!(take(&mut movie, 32)[31].ticks, 31 * 3000);
}

#[test]
fn a_clip_says_what_it_is() {
    assert_eq!(open("plain.mp4").describe(), "H.264 96x64, MP4");
    assert_eq!(
        open("slices.h264").describe(),
        "H.264 96x64, byte stream at 12.5 pictures per second"
    );
    assert!(open("reordered.mp4").describe().contains("B-pictures"));
}

// ---- files that are no clips ----

fn refusal(path: &Path) -> String {
    match Clip::open(path, None) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

#[test]
fn a_file_that_cannot_be_played_says_why() {
    let text = Scratch::new("text", b"[[camera]]\nname = \"x\"\n");
    let empty = Scratch::new("empty", b"");
    let sets = Scratch::new("sets", &[0, 0, 0, 1, 0x67, 0x42, 0, 30, 0, 0, 1, 0x68, 1]);
    let plain = fs::read(clip("plain.mp4")).expect("there");
    let cut = Scratch::new("cut", &plain[..plain.len() / 2]);
    let sound = fs::read(clip("sound.mp4")).expect("there");
    let cut_data = Scratch::new("cut-data", &sound[..sound.len() - 100]);
    for (path, expected) in [
        (clip("missing.mp4"), "cannot be opened: No such file"),
        (clip(""), "not a regular file"),
        (text.0.clone(), "neither MP4 nor an H.264 byte stream"),
        (empty.0.clone(), "neither MP4 nor an H.264 byte stream"),
        (sets.0.clone(), "no key frame (IDR) with SPS and PPS"),
        (cut.0.clone(), "cut off"),
        (cut_data.0.clone(), "cut off"),
        (clip("fragmented.mp4"), "a fragmented MP4; `ffmpeg"),
        (clip("hevc.mp4"), "no H.264 track (only h"),
    ] {
        let got = refusal(&path);
        assert!(got.contains(expected), "{}: {got}", path.display());
    }
}

#[test]
fn damaged_files_are_errors_or_pictures_but_never_panics() {
    let mut seed = 0x5eed_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let (mut played, mut refused) = (0, 0);
    for name in ["plain.mp4", "sound.mp4", "plain.h264", "reordered.mp4"] {
        let whole = fs::read(clip(name)).expect("there");
        for round in 0..300 {
            let mut data = whole.clone();
            match round % 3 {
                0 => data.truncate(random() % data.len()),
                _ => {
                    for _ in 0..=random() % 8 {
                        let at = random() % data.len();
                        data[at] = random() as u8;
                    }
                }
            }
            let file = Scratch::new(name, &data);
            let result = Clip::open(&file.0, None).and_then(|mut clip| {
                let mut last = -1;
                for _ in 0..70 {
                    let sample = clip.next_sample()?;
                    assert!(sample.ticks >= last, "time goes backward");
                    last = sample.ticks;
                }
                Ok::<_, ClipError>(())
            });
            match result {
                Ok(()) => played += 1,
                Err(_) => refused += 1,
            }
        }
    }
    println!("{played} played, {refused} refused");
    assert!(played > 0 && refused > 0);
}

// ---- the source as the loop sees it ----

struct Live {
    demands: mpsc::UnboundedSender<Demand>,
    events: mpsc::Receiver<(CameraId, SourceEvent)>,
}

impl Live {
    fn open(path: PathBuf, places: usize) -> Self {
        let (demands, receiver) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel(places);
        let file = File { path, fps: None };
        file::start(CameraId(1), "clip", file, sender, receiver);
        demands.send(Demand::Open).expect("listens");
        Self { demands, events }
    }

    fn event(&mut self) -> SourceEvent {
        self.events.blocking_recv().expect("runs").1
    }

    fn unit(&mut self) -> AccessUnit {
        loop {
            if let SourceEvent::Unit(unit) = self.event() {
                return unit;
            }
        }
    }
}

#[test]
fn a_clip_plays_in_real_time_and_closes() {
    let mut live = Live::open(clip("plain.mp4"), 8);
    assert!(matches!(live.event(), SourceEvent::Opening));
    assert!(matches!(live.event(), SourceEvent::Playing(can) if !can.can_force_key_frame));
    assert!(matches!(live.event(), SourceEvent::Note(text) if text.contains("96x64")));
    let first = live.unit();
    assert!(first.is_key_frame && !first.after_loss);
    let mut last = first.clone();
    while last.ticks < first.ticks + 270_000 {
        let unit = live.unit();
        assert!(unit.ticks > last.ticks);
        last = unit;
    }
    let ticks = Duration::from_micros((last.ticks - first.ticks) as u64 * 100 / 9);
    let apart = (last.received - first.received).abs_diff(ticks);
    println!("{apart:?} between the clip's clock and the machine's after three seconds");
    // A busy machine is late now and then; a clip that is not played in its time is off by more.
    assert!(apart < Duration::from_secs(1), "{apart:?}");
    live.demands.send(Demand::Close).expect("listens");
    while !matches!(live.event(), SourceEvent::Closed) {}
    live.demands.send(Demand::Open).expect("listens");
    assert!(live.unit().is_key_frame, "begins anew");
    drop(live.demands);
    while live.events.blocking_recv().is_some() {}
}

#[test]
fn a_loop_that_is_behind_loses_no_picture() {
    let expected = take(&mut open("plain.mp4"), 10);
    let mut live = Live::open(clip("plain.mp4"), 1);
    let mut last = -1;
    for (n, expected) in expected.iter().enumerate() {
        std::thread::park_timeout(Duration::from_millis(40)); // slower than the clip
        let unit = live.unit();
        assert_eq!(unit.data, expected.data, "picture {n}");
        assert!(unit.ticks > last);
        last = unit.ticks;
    }
}

#[test]
fn a_bad_file_is_a_camera_that_is_down_and_says_why() {
    for (name, expected, words) in [
        ("missing.mp4", DownReason::Unreachable, "No such file"),
        ("hevc.mp4", DownReason::Unsupported, "no H.264 track"),
    ] {
        let mut live = Live::open(clip(name), 8);
        assert!(matches!(live.event(), SourceEvent::Opening));
        let SourceEvent::Down {
            reason,
            detail,
            retry_at,
        } = live.event()
        else {
            panic!("{name}: no Down")
        };
        assert_eq!(reason, expected);
        assert!(detail.contains(name) && detail.contains(words), "{detail}");
        assert!(retry_at.is_some(), "it may be put there yet");
    }
}
