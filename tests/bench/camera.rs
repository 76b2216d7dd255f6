//! What a camera costs that is decoded and coded here, and how long its pictures take: CPU and
//! memory per camera, time in each stage, capture to sent.
//!
//! `cargo bench --bench camera` takes about three minutes, `-- --quick` half of one.
//!
//! The process under test is this program again, as a child: Pinhole whole (loop, hub, sessions,
//! sockets, HTTP), with cameras that play a tape through the seam where the kernel's devices would
//! be. This process is the viewer. `pattern:` and `file:` rows are the real binary. Stages are those
//! of Pinhole's own `/metrics`. Not in the figures: the kernel's share of a camera (USB, copies),
//! its mapped buffers, the sensor's own delay.
#![allow(clippy::print_stdout)] // its output
#![allow(clippy::wildcard_enum_match_arm)] // of other crates

#[allow(dead_code)] // other benches use more of it
mod process;
mod scene;
mod stages;
mod tape;
#[allow(dead_code)]
mod viewer;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pinhole::config::{Config, EncoderChoice, Source};
use pinhole::daemon::{self, logging};
use pinhole::media::pixel::PixelFormat;
use pinhole::source::encode::{self, Coded, Picture, Plane, Settings};
use pinhole::source::v4l2::budget::{Encoder, Machine};
use pinhole::source::v4l2::mode::Coding;
use pinhole::source::{self, speed, v4l2};

use process::Pinhole;
use scene::Scene;
use stages::Stages;
use tape::{FPS, Tape};
use watch::Watch;

const SIZES: [(usize, usize); 3] = [(640, 480), (1280, 720), (1920, 1080)];

struct Plan {
    sizes: &'static [(usize, usize)],
    play: Duration,
}

const FULL: Plan = Plan {
    sizes: &SIZES,
    play: Duration::from_secs(8),
};
const QUICK: Plan = Plan {
    sizes: &[SIZES[1]],
    play: Duration::from_secs(3),
};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--serve") {
        return serve(&arguments[at + 1], &arguments[at + 2]);
    }
    let is_quick = arguments.iter().any(|a| a == "--quick");
    let plan = if is_quick { QUICK } else { FULL };
    println!(
        "one viewer a camera, {FPS} fps, {:?} each, loopback; CPU in percent of one processor",
        plan.play
    );
    let machine = Machine {
        speed: speed::of_this_machine(),
        encoder: Encoder::Software,
    };
    println!(
        "speed as measured for the choice of a mode: coded {:.0}, JPEG {:.0} Mpixel/s",
        machine.speed.encode / 1e6,
        machine.speed.jpeg / 1e6
    );
    println!(
        "{:<28}{:>6}{:>6}{:>7}{:>8}{:>6} |{:>19}{:>19}{:>19}{:>19}{:>10}",
        "ms: mean, 50 %, 99 %",
        "CPU",
        "loop",
        "MB/cam",
        "Mbit/s",
        "fps",
        "capture",
        "decode",
        "encode",
        "capture-to-sent",
        "estimate"
    );
    for &size in plan.sizes {
        for format in [PixelFormat::Yuyv, PixelFormat::Mjpeg] {
            for is_moving in [true, false] {
                let estimate = machine.cost(
                    Coding::Raw(format),
                    (size.0 as u32, size.1 as u32),
                    f64::from(FPS),
                );
                tape_row(&plan, size, (format, is_moving), estimate)?;
            }
        }
        pattern_row(&plan, size)?;
        file_row(&plan, size)?;
    }
    Ok(())
}

/// A kind of camera, as the child is told.
fn code(format: PixelFormat, (width, height): (usize, usize), is_moving: bool) -> String {
    format!(
        "{}:{width}:{height}:{is_moving}",
        format == PixelFormat::Mjpeg
    )
}

/// The child: Pinhole with cameras that play a tape.
fn serve(config: &str, code: &str) -> io::Result<()> {
    let wrong = || io::Error::other("--serve CONFIG FORMAT:WIDTH:HEIGHT:MOVING");
    let words: Vec<&str> = code.split(':').collect();
    let [is_jpeg, width, height, is_moving] = words[..] else {
        return Err(wrong());
    };
    let side = |word: &str| word.parse::<usize>().map_err(|_| wrong());
    let format = match is_jpeg {
        "true" => PixelFormat::Mjpeg,
        _ => PixelFormat::Yuyv,
    };
    let tape = Tape::new(format, (side(width)?, side(height)?), is_moving == "true");
    let text = std::fs::read_to_string(config)?;
    let read = |path: &Path| std::fs::read_to_string(path);
    let config =
        Config::parse(&text, config, &read).map_err(|e| io::Error::other(e.to_string()))?;
    let log = logging::start("warn").map_err(io::Error::other)?;
    let start: &daemon::StartSource = &move |id, camera, events| match &camera.source {
        Source::V4l2(wish) => v4l2::start_from((id, camera, wish), events, Arc::new(tape.clone())),
        _ => source::start(id, camera, events),
    };
    daemon::run_with(config, log.lost_lines(), start, |_| {})
        .map_err(|e| io::Error::other(e.told()))
}

fn tape_row(
    plan: &Plan,
    size: (usize, usize),
    (format, is_moving): (PixelFormat, bool),
    estimate: f64,
) -> io::Result<()> {
    let start = |cameras: usize| {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve");
        let sources = vec!["source = \"v4l2:tape\"\nencoder = \"software\"".to_owned(); cameras];
        let last = code(format, size, is_moving);
        Pinhole::spawn(command, &cameras_of(&sources), &[&last])
    };
    let what = match (format, is_moving) {
        (PixelFormat::Mjpeg, true) => "MJPG moving",
        (PixelFormat::Mjpeg, false) => "MJPG static",
        (_, true) => "YUYV moving",
        (_, false) => "YUYV static",
    };
    let kilobytes = Tape::new(format, size, is_moving).bytes() / 1000;
    let what = match format {
        PixelFormat::Mjpeg => format!("{what} {kilobytes} kB"),
        _ => what.to_owned(),
    };
    row(plan, size, &what, &start)?;
    println!("{:>10.2}", estimate * 1e3);
    Ok(())
}

/// The test picture, by the real binary.
fn pattern_row(plan: &Plan, size: (usize, usize)) -> io::Result<()> {
    let (width, height) = size;
    let source = format!("source = \"pattern:\"\nsize = \"{width}x{height}\"\nfps = {FPS}");
    row(plan, size, "pattern:", &|cameras| binary(&source, cameras))?;
    println!();
    Ok(())
}

/// A recording, by the real binary.
fn file_row(plan: &Plan, size: (usize, usize)) -> io::Result<()> {
    let source = format!("source = \"file:{}\"", recording(size)?.display());
    row(plan, size, "file:", &|cameras| binary(&source, cameras))?;
    println!();
    Ok(())
}

fn binary(source: &str, cameras: usize) -> io::Result<Pinhole> {
    let binary = std::env::var_os("PINHOLE_BIN");
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_pinhole").into());
    let mut command = Command::new(binary);
    command.args(["--log", "warn", "run", "--config"]);
    let sources = vec![source.to_owned(); cameras];
    Pinhole::spawn(command, &cameras_of(&sources), &[])
}

/// `[[camera]]` tables for cameras `cam0`, `cam1`... with these keys.
fn cameras_of(keys: &[String]) -> String {
    let tables = keys.iter().enumerate();
    let tables = tables.map(|(n, keys)| format!("[[camera]]\nname = \"cam{n}\"\n{keys}\n"));
    tables.collect()
}

/// A few seconds of the moving scene, coded at the usual rate of its size.
fn recording(size: (usize, usize)) -> io::Result<PathBuf> {
    let name = format!("bench-{}x{}.h264", size.0, size.1);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let settings = Settings {
        width: size.0 as u32,
        height: size.1 as u32,
        fps: FPS,
        ceiling: (size.0 as f64 * size.1 as f64 * f64::from(FPS) * 0.07) as u32,
    };
    let wrong = |error: encode::EncodeError| io::Error::other(error.chain());
    let mut encoder = encode::open(&settings, EncoderChoice::Software).map_err(wrong)?;
    let mut data = Vec::new();
    let tape = Scene::tape(size, true);
    for (n, scene) in tape.iter().cycle().take(4 * FPS as usize).enumerate() {
        let planes = [
            Plane::new(&scene.y, size.0),
            Plane::new(&scene.u, size.0 / 2),
            Plane::new(&scene.v, size.0 / 2),
        ];
        let now = std::time::Instant::now();
        let picture = Picture::new(size, planes, n as i64 * 3000, now).map_err(wrong)?;
        if let Coded::Unit(unit) = encoder.encode(&picture).map_err(wrong)? {
            data.extend_from_slice(&unit.data);
        }
    }
    std::fs::write(&path, data)?;
    Ok(path)
}

/// One and two cameras: memory is the difference, all else is of the one.
fn row(
    plan: &Plan,
    size: (usize, usize),
    what: &str,
    start: &dyn Fn(usize) -> io::Result<Pinhole>,
) -> io::Result<()> {
    let one = measure(plan.play, start, 1)?;
    let two = measure(plan.play / 4, start, 2)?;
    let megabytes = two.resident as f64 / 1e6 - one.resident as f64 / 1e6;
    print!(
        "{:<28}{:>6.1}{:>6.1}{:>7.1}{:>8.2}{:>6.1} |",
        format!("{}x{} {what}", size.0, size.1),
        one.cpu,
        one.cpu - one.camera_cpu,
        megabytes,
        one.megabits,
        one.fps,
    );
    for stage in ["capture", "decode", "encode", "sent"] {
        let figures = one.stages.1.figures(&one.stages.0, stage, [0.5, 0.99]);
        let text = figures.map_or_else(
            || "-".to_owned(),
            |(mean, [half, most])| format!("{mean:.2} {half:.2} {most:.2}"),
        );
        print!("{text:>19}");
    }
    print!("{}", if one.losses > 0 { "  packets lost" } else { "" });
    Ok(())
}

struct Measured {
    /// Percent of one processor: the whole process, and the camera's own threads.
    cpu: f64,
    camera_cpu: f64,
    resident: u64,
    megabits: f64,
    fps: f64,
    losses: u64,
    /// Before and after.
    stages: (Stages, Stages),
}

fn measure(
    span: Duration,
    start: &dyn Fn(usize) -> io::Result<Pinhole>,
    cameras: usize,
) -> io::Result<Measured> {
    let pinhole = start(cameras)?;
    let watchers = (0..cameras).map(|n| Watch::join(&pinhole, &format!("cam{n}")));
    let mut watchers = watchers.collect::<io::Result<Vec<_>>>()?;
    Watch::all(&mut watchers, WARM_UP)?;
    let stages = || {
        pinhole
            .request("GET", "/metrics", "")
            .map(|text| Stages::read(&text))
    };
    let (before, came) = (stages()?, watchers[0].came());
    let (cpu, camera_cpu) = (pinhole.cpu(), pinhole.cpu_of(is_of_camera));
    let begun = std::time::Instant::now();
    Watch::all(&mut watchers, span)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, camera_cpu) = (
        pinhole.cpu() - cpu,
        pinhole.cpu_of(is_of_camera) - camera_cpu,
    );
    let now = watchers[0].came();
    Ok(Measured {
        cpu: cpu.as_secs_f64() / seconds * 100.0,
        camera_cpu: camera_cpu.as_secs_f64() / seconds * 100.0,
        resident: pinhole.resident(),
        megabits: (now.bytes - came.bytes) as f64 * 8.0 / seconds / 1e6,
        fps: (now.frames - came.frames) as f64 / seconds,
        losses: now.losses,
        stages: (before, stages()?),
    })
}

/// Threads of a camera; those that openh264 starts have its name.
fn is_of_camera(thread: &str) -> bool {
    ["v4l2 ", "pattern ", "file "]
        .iter()
        .any(|kind| thread.starts_with(kind))
}

/// Until the picture plays and memory has been touched.
const WARM_UP: Duration = Duration::from_secs(2);
