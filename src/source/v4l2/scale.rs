//! Smaller pictures, for a machine that is too slow for the whole.
//!
//! In: I420 planes. Out: I420 planes of another size, each sample out of its four neighbours.
//! Not here: when and how small (encode::overload).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::source::encode::Plane;

/// Buffers of one size that pictures are scaled to.
#[derive(Debug)]
pub(super) struct Scaled {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
}

impl Scaled {
    /// `size` in pixels, even.
    pub(super) fn new(size: (usize, usize)) -> Self {
        let chroma = size.0 / 2 * (size.1 / 2);
        Self {
            size,
            planes: [size.0 * size.1, chroma, chroma].map(|len| vec![0; len]),
        }
    }

    pub(super) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Scales a picture of `from` pixels.
    pub(super) fn shrink(
        &mut self,
        planes: &[Plane<'_>; 3],
        from: (usize, usize),
    ) -> [Plane<'_>; 3] {
        let half = |(width, height): (usize, usize)| (width / 2, height / 2);
        for (n, plane) in planes.iter().enumerate() {
            let (from, to) = match n {
                0 => (from, self.size),
                _ => (half(from), half(self.size)),
            };
            scale(plane, from, &mut self.planes[n], to);
        }
        let [y, u, v] = &self.planes;
        let chroma = self.size.0 / 2;
        [
            Plane::new(y, self.size.0),
            Plane::new(u, chroma),
            Plane::new(v, chroma),
        ]
    }
}

/// Bilinear, in steps of 1/256 of a sample.
fn scale(plane: &Plane<'_>, from: (usize, usize), to: &mut [u8], size: (usize, usize)) {
    let columns: Vec<_> = (0..size.0).map(|x| place(x, from.0, size.0)).collect();
    for (y, row) in to.chunks_exact_mut(size.0.max(1)).enumerate() {
        let (top, below, part) = place(y, from.1, size.1);
        let line = |n: usize| plane.data.get(n * plane.stride..).unwrap_or_default();
        let (top, below) = (line(top), line(below));
        for (sample, &(left, right, share)) in row.iter_mut().zip(&columns) {
            let at = |line: &[u8], n: usize| u32::from(line.get(n).copied().unwrap_or(0));
            let across = |line: &[u8]| at(line, left) * (256 - share) + at(line, right) * share;
            let value = across(top) * (256 - part) + across(below) * part;
            *sample = ((value + (1 << 15)) >> 16) as u8;
        }
    }
}

/// The two samples that lie around the middle of output sample `n`, and the share of the second.
fn place(n: usize, from: usize, to: usize) -> (usize, usize, u32) {
    let middle = ((2 * n + 1) * from * 128 / to.max(1)).saturating_sub(128);
    let last = from.saturating_sub(1);
    let first = (middle >> 8).min(last);
    (first, (first + 1).min(last), (middle & 255) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_stays_flat_and_a_slope_stays_a_slope() {
        let width = 64;
        let slope: Vec<u8> = (0..width * 48).map(|n| (n % width * 4) as u8).collect();
        let flat = vec![77; width / 2 * 24];
        let planes = [
            Plane::new(&slope, width),
            Plane::new(&flat, width / 2),
            Plane::new(&flat, width / 2),
        ];
        let mut scaled = Scaled::new((48, 36));
        let [y, u, v] = scaled.shrink(&planes, (width, 48));
        assert_eq!((u.data.len(), v.stride), (24 * 18, 24));
        assert!(u.data.iter().chain(v.data).all(|sample| *sample == 77));
        for (n, sample) in y.data[..48].iter().enumerate() {
            let expected = (n as f64 + 0.5) * 64.0 / 48.0 * 4.0 - 2.0;
            assert!(
                (f64::from(*sample) - expected).abs() <= 1.5,
                "{n}: {sample}"
            );
        }
    }

    #[test]
    fn half_the_size_is_the_mean_of_four() {
        let samples: Vec<u8> = (0..16).map(|n| n * 10).collect();
        let mut out = vec![0; 4];
        scale(&Plane::new(&samples, 4), (4, 4), &mut out, (2, 2));
        assert_eq!(out, [25, 45, 105, 125]);
    }
}
