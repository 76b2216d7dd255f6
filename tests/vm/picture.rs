//! Pictures, and how alike two of them are.
//!
//! In: planes, raw captures by v4l2-ctl. Out: PSNR.
//! Not here: decoding (watch).

use std::fs;

use crate::machine::shell;

/// I420 without padding.
#[derive(Debug)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    planes: [Vec<u8>; 3],
}

impl Picture {
    pub fn from_planes(
        width: usize,
        height: usize,
        planes: [&[u8]; 3],
        strides: [usize; 3],
    ) -> Self {
        let crop = |n: usize| {
            let (columns, rows) = if n == 0 {
                (width, height)
            } else {
                (width / 2, height / 2)
            };
            let lines = planes[n].chunks(strides[n]).take(rows);
            lines.flat_map(|line| &line[..columns]).copied().collect()
        };
        Self {
            width,
            height,
            planes: [crop(0), crop(1), crop(2)],
        }
    }

    /// What /dev/video`device` shows, without Pinhole in between: vivid fills I420 itself.
    pub fn captured(device: u32, width: usize, height: usize) -> Self {
        let frame = raw(device, width, height, "YU12", width * height * 3 / 2);
        let (y, chroma) = frame.split_at(width * height);
        let (u, v) = chroma.split_at(width * height / 4);
        let half = width / 2;
        Self::from_planes(width, height, [y, u, v], [width, half, half])
    }

    /// The upper left part of it, of even sides.
    pub fn cropped(&self, width: usize, height: usize) -> Self {
        let [y, u, v] = &self.planes;
        let half = self.width.div_ceil(2);
        Self::from_planes(width, height, [y, u, v], [self.width, half, half])
    }

    /// The same in grey.
    pub fn captured_grey(device: u32, width: usize, height: usize) -> Self {
        let y = raw(device, width, height, "GREY", width * height);
        let none = vec![128; width * height / 4];
        let half = width / 2;
        Self::from_planes(width, height, [&y, &none, &none], [width, half, half])
    }

    /// The same of the first plane alone.
    pub fn luma_psnr(&self, other: &Self) -> f64 {
        psnr(&self.planes[0], &other.planes[0])
    }

    /// The worst PSNR of the three planes against `other`, in dB.
    pub fn psnr(&self, other: &Self) -> f64 {
        let size = (self.width, self.height);
        assert_eq!(size, (other.width, other.height), "the sizes differ");
        let planes = self.planes.iter().zip(&other.planes);
        planes
            .map(|(a, b)| psnr(a, b))
            .fold(f64::INFINITY, f64::min)
    }
}

/// The second picture of a stream, as the driver wrote it.
fn raw(device: u32, width: usize, height: usize, format: &str, bytes: usize) -> Vec<u8> {
    shell(&format!(
        "v4l2-ctl -d {device} --set-fmt-video=width={width},height={height},pixelformat={format} \
         --stream-mmap --stream-count=2 --stream-to=/tmp/reference"
    ));
    let mut stream = fs::read("/tmp/reference").unwrap();
    stream.split_off(stream.len() - bytes)
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    let mean = squares.sum::<f64>() / a.len() as f64;
    if mean == 0.0 {
        99.0
    } else {
        10.0 * (255.0 * 255.0 / mean).log10()
    }
}
