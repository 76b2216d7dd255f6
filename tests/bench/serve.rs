//! The real binary end to end over loopback: an RTSP camera (a clip at 1080p30, 4 Mbit/s, GOP
//! 4 s) on one side, viewers on the other. CPU and memory of the pinhole process, system calls,
//! latency from the camera's last write of a picture to the arrival of its last packet, joins.
//!
//! `cargo bench --bench serve` takes about four minutes, `-- --quick` less than one.
//! `PINHOLE_BIN` names another binary. Arrivals are stamped by the kernel, so that the viewers,
//! which share the machine, spoil the figures less.
#![allow(clippy::print_stdout)] // its output
#![allow(clippy::wildcard_enum_match_arm)] // of other crates

mod crowd;
mod process;
mod rtsp_camera;
mod viewer;

use std::io;
use std::time::Duration;

use crowd::{Crowd, Latencies};
use process::Pinhole;
use rtsp_camera::{Camera, FPS, GOP};

struct Plan {
    viewers: &'static [usize],
    play: Duration,
    joins: u32,
}

const FULL: Plan = Plan {
    viewers: &[1, 8, 16, 32, 64],
    play: Duration::from_secs(10),
    joins: 20,
};
const QUICK: Plan = Plan {
    viewers: &[1, 16],
    play: Duration::from_secs(4),
    joins: 10,
};

fn main() -> io::Result<()> {
    let is_quick = std::env::args().any(|a| a == "--quick");
    let plan = if is_quick { QUICK } else { FULL };
    let camera = Camera::start()?;
    if let Some(viewers) = only() {
        heads(true);
        return play(&camera, &plan, viewers, true);
    }
    println!(
        "1080p{FPS} over RTSP/TCP, {:.1} Mbit/s, GOP {} s, {:?} of play each, loopback",
        camera.rate / 1e6,
        GOP / FPS,
        plan.play
    );
    idle(&camera)?;
    joins(&camera, &plan)?;
    for gso in [true, false] {
        heads(gso);
        for &viewers in plan.viewers {
            play(&camera, &plan, viewers, gso)?;
        }
    }
    println!(
        "\nbudgets (DESIGN): 1.2 ms/viewer-s at 16, idle 12 MB, 0.8 MB/viewer, first 0.2 ms, \
         last 0.8 ms, 99 % below 2 ms, join 100 ms, worst 150 ms"
    );
    Ok(())
}

/// `--only VIEWERS`: one measurement, to be looked at with other tools meanwhile.
fn only() -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|a| a != "--only");
    arguments.nth(1)?.parse().ok()
}

fn heads(gso: bool) {
    println!("\nGSO {}", if gso { "on" } else { "off" });
    println!(
        "{:>7} {:>11} {:>7} {:>9} {:>11} {:>8} {:>8} | ms after the camera: {:>11} {:>11} {:>8}",
        "viewers",
        "ms/viewer-s",
        "added",
        "us/packet",
        "calls/frame",
        "MB",
        "MB/view",
        "first 50 %",
        "last 50 %",
        "last 99 %"
    );
}

/// Nothing to do but to stay alive.
fn idle(camera: &Camera) -> io::Result<()> {
    for (what, on_demand) in [("no camera open", true), ("one camera open", false)] {
        let pinhole = Pinhole::start(camera.address, on_demand, true)?;
        std::thread::sleep(FULL_CACHE);
        let before = (pinhole.cpu(), pinhole.switches());
        let span = Duration::from_secs(3);
        std::thread::sleep(span);
        println!(
            "no viewers, {what}: {:.1} MB resident, {:.2} ms CPU and {:.1} wake-ups per second",
            pinhole.resident() as f64 / 1e6,
            (pinhole.cpu() - before.0).as_secs_f64() * 1e3 / span.as_secs_f64(),
            (pinhole.switches() - before.1) as f64 / span.as_secs_f64(),
        );
    }
    Ok(())
}

/// Joins at moments spread over the group of pictures.
fn joins(camera: &Camera, plan: &Plan) -> io::Result<()> {
    let pinhole = Pinhole::start(camera.address, false, true)?;
    std::thread::sleep(FULL_CACHE);
    let mut crowd = Crowd::new(camera);
    let mut took = Vec::new();
    for _ in 0..plan.joins {
        crowd.run_for(Duration::from_secs(GOP.into()) / FPS / plan.joins);
        took.push(crowd.join_and_leave(&pinhole)?);
    }
    took.sort_unstable();
    println!(
        "join, POST to last packet of the first key frame, {} phases of the GOP: \
         median {:.0} ms, worst {:.0} ms",
        plan.joins,
        ms(took[took.len() / 2]),
        ms(took[took.len() - 1])
    );
    Ok(())
}

fn play(camera: &Camera, plan: &Plan, viewers: usize, gso: bool) -> io::Result<()> {
    let pinhole = Pinhole::start(camera.address, false, gso)?;
    std::thread::sleep(FULL_CACHE);
    let (resident, cpu) = (pinhole.resident(), pinhole.cpu());
    let base_span = Duration::from_secs(2);
    std::thread::sleep(base_span);
    let base = (pinhole.cpu() - cpu).as_secs_f64() / base_span.as_secs_f64();
    let mut crowd = Crowd::new(camera);
    for _ in 0..viewers {
        crowd.join(&pinhole)?;
        crowd.run_for(Duration::from_millis(10));
    }
    // Replays leave, repair caches fill.
    crowd.run_for(Duration::from_secs(4));
    crowd.start_counting();
    let (cpu, calls) = (pinhole.cpu(), pinhole.send_calls());
    let span = crowd.run_for(plan.play).as_secs_f64();
    let cpu = (pinhole.cpu() - cpu).as_secs_f64();
    let calls = pinhole
        .send_calls()
        .zip(calls)
        .map(|(after, before)| after - before);
    let heard = crowd.heard();
    let viewer_seconds = viewers as f64 * span;
    let Latencies {
        first,
        last,
        last99,
    } = heard.latencies;
    println!(
        "{viewers:>7} {:>11.2} {:>7.2} {:>9.2} {:>11} {:>8.1} {:>8.2} | {:>32.2} {:>11.2} {:>8.2}{}",
        cpu * 1e3 / viewer_seconds,
        (cpu / span - base) * 1e3 / viewers as f64,
        cpu * 1e6 / heard.packets as f64,
        calls.map_or_else(
            || "-".to_owned(),
            |calls| format!("{:.2}", calls as f64 / heard.frames as f64)
        ),
        pinhole.resident() as f64 / 1e6,
        (pinhole.resident() as f64 - resident as f64) / 1e6 / viewers as f64,
        ms(first),
        ms(last),
        ms(last99),
        if heard.losses > 0 {
            format!("  {} packets lost", heard.losses)
        } else {
            String::new()
        },
    );
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// After this long the GOP cache has been as full as it gets.
const FULL_CACHE: Duration = Duration::from_millis(4500);
