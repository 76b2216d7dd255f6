//! What one picture of the test pattern costs: drawing and coding, median of many, and the
//! dearest key frame; then one thread against two. `cargo bench --bench encode`; figures are of
//! this machine and this moment.
#![allow(clippy::print_stdout)] // figures are what a benchmark is for

#[allow(dead_code)] // other benches use more of it
mod scene;
mod threads;

use std::time::{Duration, Instant};

use pinhole::config::EncoderChoice;
use pinhole::source::encode::{self, Coded, Picture, Plane, Settings};
use pinhole::source::pattern::{Moment, Painter};

const FPS: u32 = 30;
const PICTURES: u64 = 240;

fn main() {
    // For a look with other tools: `--only WIDTH HEIGHT MOVING SLICES`.
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--only") {
        return threads::only(&arguments[at + 1..]);
    }
    println!("ms per picture on one thread, {PICTURES} pictures each, median / 99th percentile");
    println!(
        "{:<24}{:>16}{:>16}{:>14}",
        "", "draw", "encode", "key frame"
    );
    for (width, height, ceiling) in [
        (640, 480, 1_000_000),
        (1280, 720, 2_000_000),
        (1920, 1080, 4_000_000),
    ] {
        report("pattern", Run::pattern(width, height, ceiling));
        report("moving texture", Run::texture(width, height, ceiling));
    }
    let is_quick = std::env::args().any(|a| a == "--quick");
    let sizes = [(640, 480), (1280, 720), (1920, 1080)];
    threads::report(if is_quick { &sizes[1..2] } else { &sizes });
}

struct Run {
    size: (usize, usize),
    draw: Vec<Duration>,
    encode: Vec<Duration>,
    largest_key: usize,
}

impl Run {
    /// The picture of `pinhole demo`: most of it stands still.
    fn pattern(width: u32, height: u32, ceiling: u32) -> Self {
        let size = (width as usize, height as usize);
        let mut painter = Painter::new(size.0, size.1, "bench", "INFO");
        Self::measure(size, ceiling, |number, visit| {
            let elapsed = Duration::from_secs(number) / FPS;
            painter.draw(&Moment {
                number,
                elapsed,
                wall: elapsed,
            });
            visit(
                &painter
                    .picture(ticks(number), Instant::now())
                    .expect("even"),
            );
        })
    }

    /// Every block moves: a camera that pans over a busy scene.
    fn texture(width: u32, height: u32, ceiling: u32) -> Self {
        let size = (width as usize, height as usize);
        let stride = size.0 + 256;
        let mut seed = 1_u32;
        let mut texture: Vec<u8> = (0..stride * size.1)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 17;
                seed ^= seed << 5;
                (90 + seed % 60) as u8
            })
            .collect();
        for n in 2..texture.len() {
            texture[n] = (u16::from(texture[n - 2]) / 2 + u16::from(texture[n]) / 2) as u8;
        }
        let chroma = vec![128; size.0 * size.1 / 4];
        let half = size.0 / 2;
        Self::measure(size, ceiling, |number, visit| {
            let left = number as usize % 256;
            let planes = [
                Plane::new(&texture[left..], stride),
                Plane::new(&chroma, half),
                Plane::new(&chroma, half),
            ];
            visit(&Picture::new(size, planes, ticks(number), Instant::now()).expect("holds"));
        })
    }

    fn measure(
        size: (usize, usize),
        ceiling: u32,
        mut draw: impl FnMut(u64, &mut dyn FnMut(&Picture<'_>)),
    ) -> Self {
        let settings = Settings {
            width: size.0 as u32,
            height: size.1 as u32,
            fps: FPS,
            ceiling,
        };
        let mut encoder = encode::open(&settings, EncoderChoice::Software).expect("openh264");
        let mut run = Self {
            size,
            draw: Vec::new(),
            encode: Vec::new(),
            largest_key: 0,
        };
        for number in 0..PICTURES {
            if number % 60 == 0 {
                encoder.force_key_frame();
            }
            let begun = Instant::now();
            draw(number, &mut |picture| {
                run.draw.push(begun.elapsed());
                let begun = Instant::now();
                let coded = encoder.encode(picture).expect("encodes");
                run.encode.push(begun.elapsed());
                if let Coded::Unit(unit) = coded
                    && unit.is_key_frame
                {
                    run.largest_key = run.largest_key.max(unit.data.len());
                }
            });
        }
        run
    }
}

fn ticks(number: u64) -> i64 {
    (number * 90_000 / u64::from(FPS)) as i64
}

fn report(what: &str, mut run: Run) {
    let figures = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        let ms = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
        format!("{:.3} / {:.3}", ms(50), ms(99))
    };
    println!(
        "{:<24}{:>16}{:>16}{:>11} kB",
        format!("{}x{} {what}", run.size.0, run.size.1),
        figures(&mut run.draw),
        figures(&mut run.encode),
        run.largest_key / 1000
    );
}
