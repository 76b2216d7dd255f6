//! A scene as a camera sees it, in the formats that cameras send.
//!
//! Large and small structure, grain that belongs to the scene, and a sensor's noise, which no
//! picture has in common with the next. Moving, everything pans; static, only the noise differs.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// One picture, I420.
#[derive(Clone)]
pub struct Scene {
    pub size: (usize, usize),
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
}

impl Scene {
    /// The picture `pan` steps to the right of the first, with the noise of `moment`. A step is
    /// a hundredth of the width.
    pub fn new(size: (usize, usize), pan: usize, moment: u32) -> Self {
        let (width, height) = size;
        let left = pan * (width / 100);
        let unit = width as f32 / 640.0; // the same scene at every size
        let waves = |n: usize, length: f32| (n as f32 / (length * unit)).sin_cos();
        let columns: Vec<_> = (0..width)
            .map(|x| (waves(x + left, 90.0).0, waves(x + left, 18.0)))
            .collect();
        let mut noise = Noise(moment.wrapping_mul(2_654_435_761) | 1);
        let mut y = Vec::with_capacity(width * height);
        for row in 0..height {
            let (large, small) = (waves(row, 70.0).1, waves(row, 25.0));
            for (x, (base, (sin, cos))) in columns.iter().enumerate() {
                // sin(a + b), a along the row, b down the column
                let ripple = sin * small.1 + cos * small.0;
                let light = 118.0 + 45.0 * base * large + 20.0 * ripple;
                let grain = grain(x + left, row);
                y.push((light + grain + noise.next()) as u8);
            }
        }
        let chroma = |length: f32| {
            let rows = (0..height / 2).flat_map(move |row| {
                (0..width / 2).map(move |x| {
                    let along = ((x * 2 + left) as f32 / (length * unit)).sin();
                    (128.0 + 25.0 * along * (row as f32 / (length * unit)).cos()) as u8
                })
            });
            rows.collect()
        };
        Self {
            size,
            y,
            u: chroma(80.0),
            v: chroma(60.0),
        }
    }

    /// Pictures that can be shown again and again: there and back, without a jump.
    pub fn tape(size: (usize, usize), is_moving: bool) -> Vec<Self> {
        let there = 0..=TAPE / 2;
        let back = (1..TAPE / 2).rev();
        let pictures = there.chain(back).enumerate();
        pictures
            .map(|(n, pan)| Self::new(size, if is_moving { pan } else { 0 }, n as u32 + 1))
            .collect()
    }

    /// Packed 4:2:2.
    pub fn yuyv(&self) -> Vec<u8> {
        let (width, height) = self.size;
        let mut bytes = Vec::with_capacity(width * height * 2);
        for row in 0..height {
            let luma = self.y[row * width..][..width].chunks_exact(2);
            let chroma = row / 2 * (width / 2);
            let pairs = self.u[chroma..].iter().zip(&self.v[chroma..]);
            for (pair, (u, v)) in luma.zip(pairs) {
                bytes.extend([pair[0], *u, pair[1], *v]);
            }
        }
        bytes
    }

    /// 4:2:2, as USB cameras send.
    pub fn jpeg(&self) -> Vec<u8> {
        let (width, height) = self.size;
        let mut samples = Vec::with_capacity(width * height * 3);
        for row in 0..height {
            for x in 0..width {
                let chroma = row / 2 * (width / 2) + x / 2;
                samples.extend([self.y[row * width + x], self.u[chroma], self.v[chroma]]);
            }
        }
        let mut data = Vec::new();
        let mut encoder = Encoder::new(&mut data, JPEG_QUALITY);
        encoder.set_sampling_factor(SamplingFactor::R_4_2_2);
        let coded = encoder.encode(&samples, width as u16, height as u16, ColorType::Ycbcr);
        coded.expect("fits");
        data
    }
}

/// Of the scene itself: the same at the same place. -12 to 12.
fn grain(x: usize, y: usize) -> f32 {
    let mixed = (x as u32 / 2).wrapping_mul(0x9E37_79B1) ^ (y as u32 / 2).wrapping_mul(0x85EB_CA77);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2C1B_3C6D);
    (mixed >> 16 & 0xFF) as f32 / 255.0 * 24.0 - 12.0
}

struct Noise(u32);

impl Noise {
    /// About 1.5 of deviation: a sensor in good light.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        let [a, b, ..] = self.0.to_le_bytes();
        (f32::from(a) + f32::from(b)) / 255.0 * 3.7 - 3.7
    }
}

/// Pictures of a tape.
const TAPE: usize = 16;
const JPEG_QUALITY: u8 = 80;
