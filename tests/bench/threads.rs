//! One thread against two in openh264: time of a picture, processor time, and what the second
//! slice costs in quality at the same bit rate.
//!
//! The variants take turns, and the best of [`ROUNDS`] medians counts: other work on the machine
//! makes figures worse, never better.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use pinhole::source::encode::{Coded, Encoder, Picture, Plane, Settings, Software};

use crate::scene::Scene;

const FPS: u32 = 30;
const ROUNDS: usize = 5;
const PICTURES: usize = 90;

#[derive(Clone, Copy)]
struct Figures {
    /// Of a picture, median and 99th percentile.
    wall: Duration,
    wall99: Duration,
    /// Of all threads, mean.
    cpu: Duration,
    bits_per_second: f64,
    largest_key: usize,
    /// Of luma, mean; zero if not asked for.
    psnr: f64,
}

pub fn report(sizes: &[(usize, usize)]) {
    println!(
        "\nopenh264 on one and two threads, {PICTURES} pictures, best of {ROUNDS} rounds in turn"
    );
    println!(
        "{:<22}{:>8}{:>16}{:>10}{:>9}{:>12}{:>8}",
        "", "threads", "ms 50 / 99 %", "ms CPU", "Mbit/s", "key frame", "dB"
    );
    for &size in sizes {
        for is_moving in [true, false] {
            let tape = Scene::tape(size, is_moving);
            let mut best: [Option<Figures>; 2] = [None; 2];
            for round in 0..ROUNDS {
                for threads in [1, 2] {
                    let now = run(&tape, threads as u16, round == 0);
                    let kept = &mut best[threads - 1];
                    *kept = Some(kept.map_or(now, |old| better(old, now)));
                }
            }
            let what = if is_moving { "moving" } else { "static" };
            for (threads, figures) in best.into_iter().flatten().enumerate() {
                print(
                    &format!("{}x{} {what}", size.0, size.1),
                    threads + 1,
                    &figures,
                );
            }
        }
    }
}

fn print(what: &str, threads: usize, figures: &Figures) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what:<22}{threads:>8}{:>16}{:>10.2}{:>9.2}{:>9} kB{:>8.2}",
        format!("{:.2} / {:.2}", ms(figures.wall), ms(figures.wall99)),
        ms(figures.cpu),
        figures.bits_per_second / 1e6,
        figures.largest_key / 1000,
        figures.psnr
    );
}

fn better(old: Figures, new: Figures) -> Figures {
    Figures {
        wall: old.wall.min(new.wall),
        wall99: old.wall99.min(new.wall99),
        cpu: old.cpu.min(new.cpu),
        ..old
    }
}

fn run(tape: &[Scene], threads: u16, with_quality: bool) -> Figures {
    let size = tape[0].size;
    let settings = Settings {
        width: size.0 as u32,
        height: size.1 as u32,
        fps: FPS,
        ceiling: (size.0 as f64 * size.1 as f64 * f64::from(FPS) * 0.07) as u32,
    };
    let mut encoder = Software::open_with(&settings, threads).expect("openh264");
    let mut decoder = with_quality.then(|| Decoder::new().expect("openh264"));
    let (mut walls, mut cpu) = (Vec::new(), Duration::ZERO);
    let (mut bytes, mut largest_key, mut psnr) = (0, 0, Vec::new());
    for (number, scene) in tape.iter().cycle().take(PICTURES).enumerate() {
        if number == PICTURES / 2 {
            encoder.force_key_frame(); // as a viewer who joins
        }
        let picture = picture(scene, number);
        let (begun, used) = (Instant::now(), processor_time());
        let coded = encoder.encode(&picture).expect("encodes");
        walls.push(begun.elapsed());
        cpu += processor_time() - used;
        let Coded::Unit(unit) = coded else { continue };
        bytes += unit.data.len();
        if unit.is_key_frame {
            largest_key = largest_key.max(unit.data.len());
        }
        if let Some(decoder) = &mut decoder
            && let Ok(Some(shown)) = decoder.decode(&unit.data)
        {
            psnr.push(quality(shown.y(), shown.strides().0, scene));
        }
    }
    walls.sort_unstable();
    Figures {
        wall: walls[PICTURES / 2],
        wall99: walls[PICTURES * 99 / 100],
        cpu: cpu / PICTURES as u32,
        bits_per_second: bytes as f64 * 8.0 * f64::from(FPS) / PICTURES as f64,
        largest_key,
        psnr: psnr.iter().sum::<f64>() / psnr.len().max(1) as f64,
    }
}

fn picture(scene: &Scene, number: usize) -> Picture<'_> {
    let (width, _) = scene.size;
    let planes = [
        Plane::new(&scene.y, width),
        Plane::new(&scene.u, width / 2),
        Plane::new(&scene.v, width / 2),
    ];
    let ticks = number as i64 * 90_000 / i64::from(FPS);
    Picture::new(scene.size, planes, ticks, Instant::now()).expect("holds")
}

/// Of all threads of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every Linux has it");
    Duration::new(time.tv_sec() as u64, time.tv_nsec() as u32)
}

fn quality(shown: &[u8], stride: usize, scene: &Scene) -> f64 {
    let (width, height) = scene.size;
    let rows = shown.chunks(stride).zip(scene.y.chunks(width));
    let squares: u64 = rows
        .flat_map(|(got, want)| got.iter().zip(want))
        .map(|(got, want)| u64::from(got.abs_diff(*want)).pow(2))
        .sum();
    10.0 * (255.0 * 255.0 * (width * height) as f64 / squares.max(1) as f64).log10()
}
