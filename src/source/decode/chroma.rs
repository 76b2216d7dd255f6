//! Chroma planes of every shape, brought to a quarter of the luma's samples.
//!
//! In: pairs or planes, 4:2:0 to 4:4:4. Out: planes U and V of 4:2:0.
//! Not here: colours (adjust), packed formats (packed).
//!
//! Plain loops over rows that the compiler turns into SIMD on every target.

use crate::media::pixel::Chroma;
use crate::source::encode::Plane;

/// Where the chroma of a picture lies. The planes hold at least the even part of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// There is none.
    None,
    /// One plane of samples in pairs.
    Pairs {
        chroma: Chroma,
        v_first: bool,
        pairs: Plane<'a>,
    },
    /// Two planes.
    Planes {
        chroma: Chroma,
        u: Plane<'a>,
        v: Plane<'a>,
    },
}

impl Source<'_> {
    /// Writes `size` samples to `u` and `v` each: the mean of those that share a place.
    pub(super) fn shrink(self, u: &mut [u8], v: &mut [u8], size: (usize, usize)) {
        match self {
            Self::None => {
                u.fill(NEUTRAL);
                v.fill(NEUTRAL);
            }
            Self::Pairs {
                chroma,
                v_first,
                pairs,
            } => {
                let (first, second) = match v_first {
                    true => (v, u),
                    false => (u, v),
                };
                split(pairs, chroma, first, second, size.0);
            }
            Self::Planes {
                chroma,
                u: from_u,
                v: from_v,
            } => {
                shrink_plane(from_u, chroma, u, size.0);
                shrink_plane(from_v, chroma, v, size.0);
            }
        }
    }
}

fn shrink_plane(from: Plane<'_>, chroma: Chroma, to: &mut [u8], width: usize) {
    for (row, to) in to.chunks_exact_mut(width).enumerate() {
        match chroma {
            Chroma::Quarter => to.copy_from_slice(line(from, row, width)),
            Chroma::Half => {
                let (a, b) = (line(from, 2 * row, width), line(from, 2 * row + 1, width));
                for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                    *to = mean(*a, *b);
                }
            }
            Chroma::Full => {
                let a = line(from, 2 * row, 2 * width).as_chunks::<2>().0;
                let b = line(from, 2 * row + 1, 2 * width).as_chunks::<2>().0;
                for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                    *to = mean4(a[0], a[1], b[0], b[1]);
                }
            }
        }
    }
}

fn split(from: Plane<'_>, chroma: Chroma, first: &mut [u8], second: &mut [u8], width: usize) {
    let rows = first
        .chunks_exact_mut(width)
        .zip(second.chunks_exact_mut(width));
    for (row, (first, second)) in rows.enumerate() {
        let to = first.iter_mut().zip(second);
        match chroma {
            Chroma::Quarter => {
                let pairs = line(from, row, 2 * width).as_chunks::<2>().0;
                for ((first, second), pair) in to.zip(pairs) {
                    (*first, *second) = (pair[0], pair[1]);
                }
            }
            Chroma::Half => {
                let a = line(from, 2 * row, 2 * width).as_chunks::<2>().0;
                let b = line(from, 2 * row + 1, 2 * width).as_chunks::<2>().0;
                for (((first, second), a), b) in to.zip(a).zip(b) {
                    (*first, *second) = (mean(a[0], b[0]), mean(a[1], b[1]));
                }
            }
            Chroma::Full => {
                let a = line(from, 2 * row, 4 * width).as_chunks::<4>().0;
                let b = line(from, 2 * row + 1, 4 * width).as_chunks::<4>().0;
                for (((first, second), a), b) in to.zip(a).zip(b) {
                    *first = mean4(a[0], a[2], b[0], b[2]);
                    *second = mean4(a[1], a[3], b[1], b[3]);
                }
            }
        }
    }
}

fn line<'a>(plane: Plane<'a>, row: usize, width: usize) -> &'a [u8] {
    let begin = row * plane.stride;
    &plane.data[begin..begin + width]
}

fn mean(a: u8, b: u8) -> u8 {
    (u16::from(a) + u16::from(b)).div_ceil(2) as u8
}

fn mean4(a: u8, b: u8, c: u8, d: u8) -> u8 {
    ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) / 4) as u8
}

/// No colour.
const NEUTRAL: u8 = 128;
