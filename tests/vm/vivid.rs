//! vivid, the kernel's virtual camera, through Pinhole's own source: modes, clocks that wrap, and
//! every fault that vivid can play. Facts about it: kernel documentation, admin-guide/media/vivid.

use std::time::{Duration, Instant};

use pinhole::media::{DownReason, SourceEvent};

use crate::Case;
use crate::formats;
use crate::machine::{Rival, bind, control, load_vivid, one_vivid, quiet_picture, shell, unbind};
use crate::picture::Picture;
use crate::sizes;
use crate::watch::{LIMIT, Watch};

/// Small and quick, for whatever is not about sizes. A machine that stands still for a moment must
/// not pass for a silent camera: whoever means silence sets `stall`.
pub const SMALL: &str = "source = \"v4l2:/dev/video0\"\nsize = \"320x180\"\nencoder = \"software\"";

/// From the moment when a camera can be opened again to its picture.
const BACK: Duration = Duration::from_secs(2);
/// From a fault that the driver reports to the words for it.
const TOLD: Duration = Duration::from_secs(1);

pub fn cases() -> Vec<Case> {
    vec![
        Case("every format, single-planar", formats::single_planar),
        Case("every format, multi-planar", formats::multi_planar),
        Case(
            "the picture is the one that the camera shows",
            shows_what_it_captures,
        ),
        Case("each size is captured as asked", sizes::sizes),
        Case(
            "large pictures are captured whole, in every layout",
            sizes::large,
        ),
        Case(
            "rows with padding and sides that are no multiple of 16",
            sizes::odd,
        ),
        Case("the frame rate is held", rates),
        Case(
            "a source of 60 pictures a second is held to 10",
            faster_than_asked,
        ),
        Case("two buffers per picture are read as one", multi_planar),
        Case("the device is let go when it is closed", closes),
        Case("a wrapping sequence number is no loss", sequence_wrap),
        Case(
            "a wrapping timestamp keeps the clock rising",
            timestamp_wrap,
        ),
        Case(
            "a buffer with the error flag costs itself only",
            buffer_error,
        ),
        Case(
            "every other picture dropped: the rest goes on",
            half_dropped,
        ),
        Case("every picture dropped: stalled, and back", all_dropped),
        Case("a fatal streaming error: reopened", fatal_error),
        Case("disconnected: reopened", disconnect),
        Case("unplugged and plugged in again", unplug),
        Case("QBUF refused in the stream", qbuf_error),
        Case("REQBUFS refused at the start", reqbufs_error),
        Case("STREAMON refused at the start", streamon_error),
        Case("busy: told, and taken over when it is free", busy),
        Case("another format on HDMI: reopened with it", other_format),
        Case(
            "no signal on HDMI: told, and back with the signal",
            no_signal,
        ),
        Case(
            "no signal from the start: told, and plays when there is one",
            no_signal_yet,
        ),
    ]
}

fn playing(lines: &str) -> Watch {
    let mut watch = Watch::open(lines);
    watch.key_frame();
    watch
}

fn shows_what_it_captures() -> String {
    one_vivid();
    let reference = Picture::captured(0, 640, 360);
    let mut watch =
        playing("source = \"v4l2:/dev/video0\"\nsize = \"640x360\"\nencoder = \"software\"");
    let psnr = watch.picture_after(5).psnr(&reference);
    assert!(psnr >= 30.0, "PSNR {psnr:.1} dB");
    format!("PSNR {psnr:.1} dB after capture, coding and decoding")
}

fn rates() -> String {
    one_vivid();
    let mut told = Vec::new();
    for fps in [5_u32, 15] {
        let mut watch = playing(&format!("{SMALL}\nfps = {fps}"));
        let n = 4 * fps as usize;
        let mut units = vec![watch.unit().ticks];
        let start = Instant::now();
        units.extend((0..n).map(|_| watch.unit().ticks));
        let ticks = (units[n] - units[0]) as f64 / 90_000.0;
        let by_camera = n as f64 / ticks;
        let by_clock = n as f64 / start.elapsed().as_secs_f64();
        assert!(
            by_camera <= f64::from(fps) * 1.1,
            "{by_camera:.1} per second of {fps}"
        );
        let beat = beat(&units, f64::from(fps));
        told.push(format!(
            "{fps} asked: {by_camera:.1} by the camera's clock on a beat of {beat:.2}, {by_clock:.1} by ours"
        ));
        watch.close();
    }
    told.join("; ")
}

/// The beat, per second, between pictures that follow each other: it must be the one that was
/// asked for. Others may be missing in between, as a busy host drops some.
fn beat(ticks: &[i64], fps: f64) -> f64 {
    let mut steps: Vec<i64> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    let interval = 90_000.0 / fps;
    let adjacent = steps.partition_point(|step| (*step as f64) < 1.5 * interval);
    assert!(adjacent * 10 >= steps.len(), "of {fps}: {steps:?}");
    // The camera's own clock is the machine's: one that was late is followed by one too soon.
    let beat = 90_000.0 / steps[adjacent / 2] as f64;
    assert!((0.9..=1.1).contains(&(beat / fps)), "of {fps}: {steps:?}");
    beat
}

/// An HDMI source sends what it sends: nobody agreed to 10.
fn faster_than_asked() -> String {
    load_vivid("node_types=0x1 input_types=0x3");
    quiet_picture(0);
    let mut watch = playing(&format!("{SMALL}\nfps = 10"));
    let ticks: Vec<i64> = (0..=100).map(|_| watch.unit().ticks).collect();
    let rate = 100.0 * 90_000.0 / (ticks[100] - ticks[0]) as f64;
    assert!(rate <= 10.5, "{rate:.2} per second: {}", watch.tail());
    watch.close();
    let beat = beat(&ticks, 10.0);
    format!("{rate:.2} per second by the source's clock, on a beat of {beat:.2}")
}

fn multi_planar() -> String {
    load_vivid("node_types=0x1 input_types=0x0 multiplanar=2");
    quiet_picture(0);
    let reference = Picture::captured(0, 640, 360);
    let mut watch =
        playing("source = \"v4l2:/dev/video0\"\nsize = \"640x360\"\nencoder = \"software\"");
    let psnr = watch.picture_after(5).psnr(&reference);
    assert!(psnr >= 30.0, "PSNR {psnr:.1} dB");
    format!("PSNR {psnr:.1} dB")
}

fn closes() -> String {
    use crate::machine::Holds;
    one_vivid();
    let watch = playing(SMALL);
    assert_eq!(Holds::ours().cameras, 1);
    let took = watch.close();
    assert_eq!(Holds::ours().cameras, 0);
    assert!(took < Duration::from_secs(3), "{took:?}");
    format!(
        "open while watched, closed {} ms after it was asked for",
        took.as_millis()
    )
}

fn sequence_wrap() -> String {
    one_vivid();
    control(0, "wrap_sequence_number=1");
    let begins = first_sequence();
    let to_the_wrap = u64::from(u32::MAX - begins) + 1;
    assert!(to_the_wrap <= 128, "it begins at {begins}");
    let mut watch = playing(&format!("{SMALL}\nfps = 60"));
    let first = watch.unit().ticks;
    let (counted, lost) = (watch.units, watch.left_out.lost);
    while watch.units < to_the_wrap + 70 {
        watch.unit();
    }
    // What was lost is told once a second.
    let until = Instant::now() + Duration::from_millis(1500);
    let mut last = first;
    while Instant::now() < until {
        last = watch.unit().ticks;
    }
    let came = watch.units - counted;
    let lost = watch.left_out.lost - lost;
    // Not more than time has passed for; a wrap taken for a loss would be four thousand million.
    let passed = (last - first) as u64 * 60 / 90_000 + 1;
    assert!(
        came + lost <= passed + 60,
        "{came} came, {lost} lost of {passed}"
    );
    assert_eq!((watch.errors, watch.downs), (0, 0), "{}", watch.tail());
    let figures = format!(
        "from {begins} on, {} pictures across the wrap; {lost} lost of {passed}",
        watch.units
    );
    watch.close();
    control(0, "wrap_sequence_number=0");
    figures
}

/// The number that the driver gives to the first picture of a stream.
fn first_sequence() -> u32 {
    let said = shell("v4l2-ctl -d 0 --stream-mmap --stream-count=1 --verbose 2>&1");
    let number = said.split("seq:").nth(1).and_then(|rest| {
        let word = rest.split_whitespace().next()?;
        word.parse().ok()
    });
    number.unwrap_or_else(|| panic!("no number in {said}"))
}

/// Both that the driver has, on a camera each: of 64 bits in nanoseconds, of 32 in seconds. Each
/// comes 16 seconds after the start.
fn timestamp_wrap() -> String {
    load_vivid("n_devs=2 node_types=0x1,0x1 input_types=0x0,0x0");
    let open = |device| {
        quiet_picture(device);
        control(device, &format!("wrap_timestamp={}", device + 1));
        let lines = SMALL.replace("video0", &format!("video{device}"));
        playing(&format!("{lines}\nfps = 15"))
    };
    let mut watches = [open(0), open(1)];
    let start = Instant::now();
    let mut last = watches.each_mut().map(|watch| watch.unit().ticks);
    let (mut least, mut most) = ([i64::MAX; 2], [i64::MIN; 2]);
    while start.elapsed() < Duration::from_secs(18) {
        for (n, watch) in watches.iter_mut().enumerate() {
            let ticks = watch.unit().ticks;
            least[n] = least[n].min(ticks - last[n]);
            most[n] = most[n].max(ticks - last[n]);
            last[n] = ticks;
        }
    }
    let mut told = Vec::new();
    for (n, watch) in watches.into_iter().enumerate() {
        assert_eq!(watch.downs, 0, "{}", watch.tail());
        let bits = [64, 32][n];
        let figures = format!("{bits} bits: steps of {} to {} ticks", least[n], most[n]);
        assert!(least[n] > 0, "{figures}");
        told.push(figures);
        watch.close();
    }
    format!("{} in 18 s", told.join("; "))
}

fn buffer_error() -> String {
    one_vivid();
    let mut watch = playing(SMALL);
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        control(0, "inject_v4l2_buf_flag_error=1");
        let before = Instant::now();
        watch.until("tolerated error", |event| {
            matches!(event, SourceEvent::Error { in_a_row: 1, .. }).then_some(())
        });
        watch.unit();
        longest = longest.max(before.elapsed());
    }
    assert_eq!(watch.downs, 0, "{}", watch.tail());
    format!(
        "3 of 3 counted, no restart, picture again within {} ms",
        longest.as_millis()
    )
}

fn half_dropped() -> String {
    one_vivid();
    let mut watch = playing(SMALL);
    let (all, ..) = watch.during(Duration::from_secs(3));
    control(0, "percentage_of_dropped_buffers=50");
    let before = watch.left_out;
    let (half, errors, downs) = watch.during(Duration::from_secs(6));
    control(0, "percentage_of_dropped_buffers=0");
    assert_eq!(downs, 0, "{}", watch.tail());
    watch.during(Duration::from_millis(1500)); // what was left out is told once a second
    // By the driver's own numbers: how many come at all depends on the host.
    let left_out = watch.left_out.since(before);
    let numbered = half + left_out.late + left_out.lost;
    let words = format!("{all} pictures in 3 s, then {half} in 6 s, {left_out:?}");
    // It throws a coin for each.
    assert!(half > 0 && left_out.lost * 3 > numbered, "{words}");
    format!("{words}; {errors} errors, no restart")
}

fn all_dropped() -> String {
    one_vivid();
    let mut watch = playing(&format!("{SMALL}\nstall = \"500ms\""));
    let drop_all = || control(0, "percentage_of_dropped_buffers=100");
    let ride = watch.ride_out(drop_all, || control(0, "percentage_of_dropped_buffers=0"));
    assert_eq!(ride.reason, DownReason::Stalled, "{}", ride.detail);
    ride.within(BACK).words()
}

fn fatal_error() -> String {
    one_vivid();
    let mut watch = playing(SMALL);
    let ride = watch.ride_out(|| control(0, "inject_fatal_streaming_error=1"), || ());
    assert!(ride.told < TOLD * 3, "{}", ride.words());
    ride.within(BACK).words()
}

fn disconnect() -> String {
    one_vivid();
    let mut watch = playing(SMALL);
    let ride = watch.ride_out(|| control(0, "disconnect=1"), || ());
    assert!(ride.told < TOLD * 3, "{}", ride.words());
    ride.within(BACK).words()
}

fn unplug() -> String {
    one_vivid();
    let mut watch = playing(SMALL);
    let ride = watch.ride_out(
        || unbind(0),
        || {
            std::thread::sleep(Duration::from_secs(3));
            bind(0);
            quiet_picture(0);
        },
    );
    ride.within(BACK).words() + " (away for 3 s)"
}

fn qbuf_error() -> String {
    one_vivid();
    let mut watch = playing(SMALL);
    let start = Instant::now();
    control(0, "inject_vidioc_qbuf_error=1");
    let (units, errors, downs) = watch.during(Duration::from_secs(4));
    let _ = watch.unit();
    assert!(units > 0 && start.elapsed() < LIMIT, "{}", watch.tail());
    assert!(errors >= 1, "nothing was refused: {}", watch.tail());
    format!("{units} pictures in the 4 s after it, {errors} errors, {downs} restarts")
}

fn refused_at_the_start(fault: &str) -> String {
    one_vivid();
    control(0, fault);
    let start = Instant::now();
    let mut watch = playing(SMALL);
    let took = start.elapsed();
    assert!(took < BACK * 3, "{took:?}: {}", watch.tail());
    assert!(watch.downs >= 1, "nothing was refused: {}", watch.tail());
    watch.unit();
    format!(
        "first picture after {:.2} s, {} restarts, {} errors",
        took.as_secs_f32(),
        watch.downs,
        watch.errors
    )
}

fn reqbufs_error() -> String {
    refused_at_the_start("inject_vidioc_reqbufs_error=1")
}

fn streamon_error() -> String {
    refused_at_the_start("inject_vidioc_streamon_error=1")
}

fn busy() -> String {
    one_vivid();
    let rival = Rival::holds(0);
    let mut watch = Watch::open(SMALL);
    let (reason, detail) = watch.down();
    drop(rival);
    let free = Instant::now();
    watch.key_frame();
    let back = free.elapsed();
    let said = detail.to_lowercase();
    assert!(said.contains("busy") || said.contains("use"), "{detail}");
    assert!(back < Duration::from_secs(10) * 3, "{back:?}");
    format!(
        "{}: \"{detail}\"; picture {:.2} s after it was free",
        reason.as_str(),
        back.as_secs_f32()
    )
}

const HDMI: &str = "source = \"v4l2:/dev/video0\"\nsize = \"320x180\"\nfps = 10\n\
    encoder = \"software\"";

fn hdmi() {
    load_vivid("node_types=0x1 input_types=0x3");
    quiet_picture(0);
}

/// vivid, as many grabbers, goes on delivering pictures without a signal: of noise.
fn no_signal() -> String {
    hdmi();
    let mut watch = playing(HDMI);
    let mut told = Vec::new();
    for (mode, words) in [(1, "no signal"), (2, "cannot be locked on to")] {
        let ride = watch.ride_out(
            || control(0, &format!("dv_timings_signal_mode={mode}")),
            || {
                // Long enough for several attempts, none of which may show noise.
                std::thread::sleep(Duration::from_secs(3));
                control(0, "dv_timings_signal_mode=0");
            },
        );
        assert_eq!(ride.reason, DownReason::NoSignal, "{}", ride.detail);
        assert!(ride.detail.contains(words), "{}", ride.detail);
        assert!(ride.detail.contains("HDMI"), "{}", ride.detail);
        assert!(ride.told < TOLD * 2 * 3, "{}", ride.words());
        let ride = ride.within(BACK);
        told.push(format!("\"{}\": {}", ride.detail, ride.words()));
    }
    told.join("; ")
}

fn no_signal_yet() -> String {
    hdmi();
    control(0, "dv_timings_signal_mode=1");
    let mut watch = Watch::open(HDMI);
    let (reason, detail) = watch.down();
    assert_eq!(reason, DownReason::NoSignal, "{detail}");
    let (units, ..) = watch.during(Duration::from_secs(3));
    assert_eq!(units, 0, "noise was shown: {}", watch.tail());
    control(0, "dv_timings_signal_mode=0");
    let back = Instant::now();
    watch.key_frame();
    let took = back.elapsed();
    assert!(took < BACK * 3, "{took:?}");
    format!(
        "\"{detail}\"; picture {} ms after the signal came",
        took.as_millis()
    )
}

/// An HDMI bridge has no scaler: its pictures are as large as the source sends them.
fn other_format() -> String {
    load_vivid("node_types=0x1 input_types=0x3 ccs_cap_mode=0");
    quiet_picture(0);
    let sends = |timings: &str| {
        let menu = shell("v4l2-ctl -d 0 --list-ctrls-menus");
        let entry = menu.lines().find_map(|line| {
            let (number, name) = line.trim().split_once(": ")?;
            (name == timings).then(|| number.to_owned())
        });
        let entry = entry.unwrap_or_else(|| panic!("no {timings} in {menu}"));
        control(0, &format!("dv_timings={entry}"));
    };
    control(0, "dv_timings_signal_mode=4"); // those that are selected
    sends("640x480p59");
    let mut watch = playing("source = \"v4l2:/dev/video0\"\nencoder = \"software\"\nfps = 5");
    let before = watch.picture_after(0);
    assert_eq!(
        (before.width, before.height),
        (640, 480),
        "{}",
        watch.tail()
    );
    let ride = watch.ride_out(|| sends("720x576p50"), || ());
    assert_eq!(ride.reason, DownReason::Ended, "{}", ride.detail);
    assert!(ride.detail.contains("720x576p50"), "{}", ride.detail);
    let after = watch.picture_after(0);
    assert_eq!((after.width, after.height), (720, 576), "{}", watch.tail());
    assert_eq!(watch.downs, 1, "{}", watch.tail());
    let detail = ride.detail.clone();
    format!("\"{detail}\": {}", ride.within(BACK).words())
}
