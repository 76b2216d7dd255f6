//! What it costs to turn one picture of a camera into I420: best and median of many.
//! `cargo bench --bench decode`; figures are of this machine and this moment.
//!
//! A static picture differs from a moving one by its noise only: nothing here looks at the picture
//! before. What differs between scenes is how much there is in a JPEG.
#![allow(clippy::print_stdout)] // figures are what a benchmark is for

use std::time::{Duration, Instant};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use pinhole::media::pixel::{Colour, Matrix, PixelFormat};
use pinhole::source::decode::{Decoder, PlaneRef, RawFrame};

const PICTURES: usize = 60;

fn main() {
    println!("ms per picture on one thread, {PICTURES} pictures each, best / median");
    for size in [(640, 480), (1280, 720), (1920, 1080)] {
        println!("\n{}x{}", size.0, size.1);
        for (what, format) in [
            ("YU12", PixelFormat::Yu12),
            ("NV12", PixelFormat::Nv12),
            ("YUYV", PixelFormat::Yuyv),
            ("NV16", PixelFormat::Nv16),
            ("422P", PixelFormat::Yuv422p),
            ("RGB3", PixelFormat::Rgb24),
        ] {
            let stream = Colour::of_stream(size.1);
            let other = Colour {
                matrix: Matrix::Bt601,
                is_full_range: true,
            };
            let bytes = format.picture_bytes(size).expect("raw");
            let pictures: Vec<_> = (0..4).map(|n| noise(bytes, n, 200)).collect();
            let same = run(format, size, stream, &pictures);
            let changed = run(format, size, other, &pictures);
            println!("  {what:<28}{same:>18}   other colours {changed:>18}");
        }
        for (what, sampling, quality, texture) in [
            ("MJPG 4:2:2 static", SamplingFactor::R_4_2_2, 85, 0),
            ("MJPG 4:2:0 static", SamplingFactor::R_4_2_0, 85, 0),
            ("MJPG 4:2:2 moving", SamplingFactor::R_4_2_2, 85, 40),
            ("MJPG 4:2:0 moving", SamplingFactor::R_4_2_0, 85, 40),
        ] {
            let pictures: Vec<_> = (0..4)
                .map(|n| {
                    jpeg(
                        size,
                        sampling,
                        quality,
                        n * usize::from(texture > 0),
                        texture,
                    )
                })
                .collect();
            let kilobytes = pictures[0].len() / 1000;
            let figures = run(PixelFormat::Mjpeg, size, Colour::JPEG, &pictures);
            println!("  {:<28}{figures:>18}", format!("{what} {kilobytes} kB"));
        }
    }
}

fn run(format: PixelFormat, size: (usize, usize), colour: Colour, pictures: &[Vec<u8>]) -> String {
    let (width, height) = (size.0 as u32, size.1 as u32);
    let mut decoder = Decoder::new(format, width, height, colour).expect("in bounds");
    let mut times: Vec<Duration> = Vec::new();
    for data in pictures.iter().cycle().take(PICTURES) {
        let planes = [PlaneRef {
            bytes: data,
            stride: format.row_bytes(size.0),
        }];
        let frame = RawFrame {
            format,
            width,
            height,
            planes: &planes,
        };
        let begun = Instant::now();
        let decoded = decoder.decode(&frame).expect("decodes");
        std::hint::black_box(decoded.planes());
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let ms = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    format!("{:.3} / {:.3}", ms(0), ms(50))
}

fn noise(bytes: usize, seed: usize, range: u32) -> Vec<u8> {
    let mut state = seed as u32 + 1;
    let samples = (0..bytes).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (20 + state % range) as u8
    });
    samples.collect()
}

/// A scene of large and middle structure, shifted by `shift`, with sensor noise and `texture`.
fn jpeg(
    (width, height): (usize, usize),
    sampling: SamplingFactor,
    quality: u8,
    shift: usize,
    texture: u32,
) -> Vec<u8> {
    let grain = noise(width * height, shift, 6 + texture);
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (fx, fy) = ((x + 16 * shift) as f32 / 90.0, y as f32 / 70.0);
            let base = 110.0 + 50.0 * fx.sin() * fy.cos() + 20.0 * (fx * 5.0 + fy * 3.0).sin();
            let value = base + f32::from(grain[y * width + x]) - 20.0;
            rgb.extend([value, value * 0.9 + 10.0 * fy.sin(), value * 0.8].map(|v| v as u8));
        }
    }
    let mut data = Vec::new();
    let mut encoder = Encoder::new(&mut data, quality);
    encoder.set_sampling_factor(sampling);
    encoder
        .encode(&rgb, width as u16, height as u16, ColorType::Rgb)
        .expect("encodes");
    data
}
