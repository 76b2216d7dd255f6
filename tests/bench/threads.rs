//! One thread against two in openh264: time of a picture, processor time, and what the second
//! slice costs in quality at the same bit rate.
//!
//! The variants take turns. Each round codes the same pictures to the same bits, so that the best
//! of [`ROUNDS`] times counts for each picture: other work on the machine makes times longer, never
//! shorter.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use pinhole::source::encode::{Coded, Encoder, Picture, Plane, Settings, Software};

use crate::scene::Scene;

const FPS: u32 = 30;
const ROUNDS: usize = 8;
const PICTURES: usize = 90;

/// One variant's pictures.
struct Run {
    /// Time, and processor time of all threads.
    walls: Vec<Duration>,
    cpus: Vec<Duration>,
    bits_per_second: f64,
    largest_key: usize,
    /// Pictures that rate control left out.
    skipped: usize,
    /// Of luma, mean.
    psnr: f64,
}

pub fn report(sizes: &[(usize, usize)]) {
    println!(
        "\nopenh264 on one and two threads, {PICTURES} pictures, each the best of {ROUNDS} rounds in turn"
    );
    println!(
        "{:<22}{:>8}{:>16}{:>10}{:>9}{:>12}{:>9}{:>8}",
        "", "threads", "ms 50 / 99 %", "ms CPU", "Mbit/s", "key frame", "left out", "dB"
    );
    for &size in sizes {
        for is_moving in [true, false] {
            let tape = Scene::tape(size, is_moving);
            let mut best = [run(&tape, 1, true), run(&tape, 2, true)];
            for _ in 1..ROUNDS {
                for threads in [1, 2] {
                    best[threads - 1].keep_best(&run(&tape, threads as u16, false));
                }
            }
            let what = if is_moving { "moving" } else { "static" };
            for (n, run) in best.iter_mut().enumerate() {
                run.print(&format!("{}x{} {what}", size.0, size.1), n + 1);
            }
        }
    }
}

/// One run of one variant.
pub fn only(arguments: &[String]) {
    let number = |n: usize| arguments.get(n).and_then(|a| a.parse().ok());
    let (Some(width), Some(height), Some(slices)) = (number(0), number(1), number(3)) else {
        return println!("--only WIDTH HEIGHT MOVING SLICES");
    };
    let tape = Scene::tape((width, height), arguments[2] == "true");
    run(&tape, slices as u16, false).print("one run", slices);
}

impl Run {
    fn keep_best(&mut self, other: &Self) {
        for (mine, times) in [
            (&mut self.walls, &other.walls),
            (&mut self.cpus, &other.cpus),
        ] {
            for (mine, time) in mine.iter_mut().zip(times) {
                *mine = (*mine).min(*time);
            }
        }
    }

    fn print(&mut self, what: &str, threads: usize) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.walls.sort_unstable();
        let (half, most) = (self.walls[PICTURES / 2], self.walls[PICTURES * 99 / 100]);
        let cpu = self.cpus.iter().sum::<Duration>() / PICTURES as u32;
        println!(
            "{what:<22}{threads:>8}{:>16}{:>10.2}{:>9.2}{:>9} kB{:>9}{:>8.2}",
            format!("{:.2} / {:.2}", ms(half), ms(most)),
            ms(cpu),
            self.bits_per_second / 1e6,
            self.largest_key / 1000,
            self.skipped,
            self.psnr
        );
    }
}

fn run(tape: &[Scene], threads: u16, with_quality: bool) -> Run {
    let size = tape[0].size;
    let settings = Settings {
        width: size.0 as u32,
        height: size.1 as u32,
        fps: FPS,
        ceiling: (size.0 as f64 * size.1 as f64 * f64::from(FPS) * 0.07) as u32,
    };
    let mut encoder = Software::open_with(&settings, threads).expect("openh264");
    let mut decoder = with_quality.then(|| Decoder::new().expect("openh264"));
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    let (mut bytes, mut largest_key, mut skipped, mut psnr) = (0, 0, 0, Vec::new());
    for (number, scene) in tape.iter().cycle().take(PICTURES).enumerate() {
        if number == PICTURES / 2 {
            encoder.force_key_frame(); // as a viewer who joins
        }
        let picture = picture(scene, number);
        let (begun, used) = (Instant::now(), processor_time());
        let coded = encoder.encode(&picture).expect("encodes");
        walls.push(begun.elapsed());
        cpus.push(processor_time() - used);
        let Coded::Unit(unit) = coded else {
            skipped += 1;
            continue;
        };
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
    Run {
        walls,
        cpus,
        bits_per_second: bytes as f64 * 8.0 * f64::from(FPS) / PICTURES as f64,
        largest_key,
        skipped,
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
