//! From the colours that a camera means to those of the stream, without a detour over RGB.
//!
//! In: planes in one [`Colour`]. Out: planes in another.
//! Not here: which colours those are (media::pixel).
//!
//! Both are linear in Y, U and V, so the way between them is one 3x3 matrix. Luma is done in
//! fixed point of 16 bits with 7 behind the point (exact to one level), chroma in 32 bits.

use super::I420;
use crate::media::pixel::{Colour, Matrix};
use crate::source::encode::Plane;

/// One way between two colours.
#[derive(Debug)]
pub(super) struct Adjust {
    /// Factor of Y, and of U and V for Y; 7 bits behind the point.
    luma: i16,
    luma_by_u: i32,
    luma_by_v: i32,
    /// What is added in the end, rounding included.
    luma_base: i32,
    /// `[[u by u, u by v], [v by u, v by v]]`, 12 bits behind the point.
    chroma: [[i32; 2]; 2],
    /// What chroma adds to the luma of one row.
    row: Vec<i16>,
}

impl Adjust {
    /// `None` where nothing has to be done.
    pub(super) fn between(from: Colour, to: Colour) -> Option<Self> {
        if from == to {
            return None;
        }
        let (y_from, c_from) = scales(from);
        let (y_to, c_to) = scales(to);
        let ([rv, gu, gv, bu], [kr, kg, kb]) = (to_rgb(from.matrix), luma_weights(to.matrix));
        // Luma of the new kind per unit of U and V of the old one (luma itself goes one to one:
        // grey stays grey).
        let by_u = kg * gu + kb * bu;
        let by_v = kr * rv + kg * gv;
        let [to_rv, _, _, to_bu] = to_rgb(to.matrix);
        let chroma = [
            [(bu - by_u) / to_bu, -by_v / to_bu],
            [-by_u / to_rv, (rv - by_v) / to_rv],
        ];
        let fixed = |value: f64, bits: i32| (value * f64::from(1 << bits)).round() as i32;
        let offset = |colour: Colour| if colour.is_full_range { 0 } else { 16 };
        let luma = fixed(y_to / y_from, LUMA_BITS);
        Some(Self {
            luma: luma as i16,
            luma_by_u: fixed(by_u * y_to / c_from, LUMA_BITS),
            luma_by_v: fixed(by_v * y_to / c_from, LUMA_BITS),
            luma_base: (offset(to) << LUMA_BITS) - offset(from) * luma + (1 << (LUMA_BITS - 1)),
            chroma: chroma.map(|row| row.map(|value| fixed(value * c_to / c_from, CHROMA_BITS))),
            row: Vec::new(),
        })
    }

    /// Writes `luma` to `own.y` and changes `own.u` and `own.v` in place.
    pub(super) fn apply(&mut self, luma: Plane<'_>, own: &mut I420, size: (usize, usize)) {
        let half = size.0 / 2;
        self.row.resize(size.0, 0);
        let rows = own.y.chunks_exact_mut(2 * size.0).enumerate();
        let chroma = own
            .u
            .chunks_exact_mut(half)
            .zip(own.v.chunks_exact_mut(half));
        for ((n, to), (u, v)) in rows.zip(chroma) {
            let sums = self.row.as_chunks_mut::<2>().0.iter_mut();
            for ((sum, u), v) in sums.zip(u.iter()).zip(v.iter()) {
                let (u, v) = (i32::from(*u) - 128, i32::from(*v) - 128);
                let value = self.luma_base + self.luma_by_u * u + self.luma_by_v * v;
                *sum = [value as i16; 2];
            }
            for (n, to) in (2 * n..).zip(to.chunks_exact_mut(size.0)) {
                let from = &luma.data[n * luma.stride..][..size.0];
                self.luma_row(from, to);
            }
            self.chroma_row(u, v);
        }
    }

    fn luma_row(&self, from: &[u8], to: &mut [u8]) {
        let factor = self.luma;
        for ((to, from), sum) in to.iter_mut().zip(from).zip(&self.row) {
            // At most 255 * 128: the stream's range is limited, so luma never grows.
            let scaled = i16::from(*from).wrapping_mul(factor);
            // Beyond 16 bits it saturates to 255, which it is.
            let value = scaled.saturating_add(*sum) >> LUMA_BITS;
            *to = value.clamp(0, 255) as u8;
        }
    }

    fn chroma_row(&self, u: &mut [u8], v: &mut [u8]) {
        let [[uu, uv], [vu, vv]] = self.chroma;
        for (u, v) in u.iter_mut().zip(v) {
            let (old_u, old_v) = (i32::from(*u) - 128, i32::from(*v) - 128);
            let new = |a: i32, b: i32| {
                let value = (old_u * a + old_v * b + (1 << (CHROMA_BITS - 1))) >> CHROMA_BITS;
                (value + 128).clamp(0, 255) as u8
            };
            (*u, *v) = (new(uu, uv), new(vu, vv));
        }
    }
}

/// Levels of luma from black to white, and of chroma from end to end.
fn scales(colour: Colour) -> (f64, f64) {
    match colour.is_full_range {
        true => (255.0, 255.0),
        false => (219.0, 224.0),
    }
}

/// Weights of red, green and blue in luma (ITU-R BT.601 and BT.709).
fn luma_weights(matrix: Matrix) -> [f64; 3] {
    match matrix {
        Matrix::Bt601 => [0.299, 0.587, 0.114],
        Matrix::Bt709 => [0.2126, 0.7152, 0.0722],
    }
}

/// What chroma (of half a unit on both sides) adds: V to red, U and V to green, U to blue.
fn to_rgb(matrix: Matrix) -> [f64; 4] {
    let [kr, kg, kb] = luma_weights(matrix);
    let (rv, bu) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
    [rv, -bu * kb / kg, -rv * kr / kg, bu]
}

const LUMA_BITS: i32 = 7;
const CHROMA_BITS: i32 = 12;
