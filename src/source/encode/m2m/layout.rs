//! Where each part of a picture lies in the memory of a device, and putting it there.
//!
//! In: the format that the driver made of ours, I420 pictures. Out: bytes in its planes.
//! Not here: buffers and when they are free (the module above).
//!
//! Encoders round sizes up to whole macroblocks (360 rows become 368), and the chroma part then
//! begins after the rounded rows, not after ours. The rows between are filled with copies of the
//! last one: they cost next to nothing to code, and look like nothing where a device does not
//! crop.

use super::super::Picture;
use crate::source::v4l2::sys::{Format, FourCc};

/// A raw format that we can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixel {
    /// Three planes, as our pictures have them: a copy.
    Yu12,
    /// Brightness, then both colours in turn.
    Nv12,
    /// The same, each in memory of its own.
    Ym12,
    Nm12,
    /// 4:2:2, interleaved; each colour row is written twice.
    Yuyv,
}

impl Pixel {
    /// In the order that we like them: the first costs no conversion, the last doubles colours.
    pub const ALL: [Self; 5] = [Self::Yu12, Self::Nv12, Self::Ym12, Self::Nm12, Self::Yuyv];

    pub fn fourcc(self) -> FourCc {
        FourCc::new(match self {
            Self::Yu12 => b"YU12",
            Self::Nv12 => b"NV12",
            Self::Ym12 => b"YM12",
            Self::Nm12 => b"NM12",
            Self::Yuyv => b"YUYV",
        })
    }

    /// The parts in the order of memory, and the memory plane of each.
    fn parts(self) -> &'static [(Part, usize)] {
        match self {
            Self::Yu12 => &[(Part::Y, 0), (Part::U, 0), (Part::V, 0)],
            Self::Nv12 => &[(Part::Y, 0), (Part::Uv, 0)],
            Self::Ym12 => &[(Part::Y, 0), (Part::U, 1), (Part::V, 2)],
            Self::Nm12 => &[(Part::Y, 0), (Part::Uv, 1)],
            Self::Yuyv => &[(Part::Yuyv, 0)],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Y,
    U,
    V,
    Uv,
    Yuyv,
}

/// One part of a picture in a memory plane.
#[derive(Clone, Copy, Debug)]
struct Region {
    part: Part,
    plane: usize,
    start: usize,
    stride: usize,
    rows: usize,
}

/// The picture in the device's memory. Known to fit the planes that the driver announced.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    regions: Vec<Region>,
    /// Bytes of each memory plane that count as written.
    used: Vec<usize>,
}

impl Layout {
    /// `None` when the planes that the driver announced do not hold such a picture of `width`.
    pub(super) fn new(pixel: Pixel, format: &Format, width: usize) -> Option<Self> {
        let height = format.height as usize;
        let mut used = vec![0; format.planes.len()];
        let mut regions = Vec::new();
        for (part, plane) in pixel.parts() {
            let told = format.planes.get(*plane)?;
            let stride = told.stride as usize;
            // In one memory plane the driver tells the stride of the brightness alone.
            let is_shared = *plane == 0 && matches!(part, Part::U | Part::V);
            let stride = if is_shared { stride / 2 } else { stride };
            let (bytes, rows) = match part {
                Part::Y => (width, height),
                Part::U | Part::V => (width / 2, height / 2),
                Part::Uv => (width, height / 2),
                Part::Yuyv => (2 * width, height),
            };
            let start = used[*plane];
            used[*plane] = start + stride * rows;
            if stride < bytes || rows == 0 || used[*plane] > told.size as usize {
                return None;
            }
            regions.push(Region {
                part: *part,
                plane: *plane,
                start,
                stride,
                rows,
            });
        }
        // Some drivers want every byte of a plane accounted for.
        let used = format.planes.iter().map(|plane| plane.size as usize);
        Some(Self {
            used: used.collect(),
            regions,
        })
    }

    pub(super) fn used(&self) -> &[usize] {
        &self.used
    }

    /// Writes what belongs to one memory plane; false when `memory` is too short for it.
    pub(super) fn write(&self, plane: usize, picture: &Picture<'_>, memory: &mut [u8]) -> bool {
        let regions = self.regions.iter().filter(|region| region.plane == plane);
        let mut fits = true;
        for region in regions {
            let end = region.start + region.stride * region.rows;
            match memory.get_mut(region.start..end) {
                Some(memory) => region.write(picture, memory),
                None => fits = false,
            }
        }
        fits
    }
}

impl Region {
    fn write(&self, picture: &Picture<'_>, memory: &mut [u8]) {
        let (width, height) = picture.size();
        let [y, u, v] = *picture.planes();
        let chroma = |row: usize| row.min(height / 2 - 1);
        for (row, line) in memory.chunks_exact_mut(self.stride).enumerate() {
            match self.part {
                Part::Y => line[..width].copy_from_slice(y.row(row.min(height - 1), width)),
                Part::U => line[..width / 2].copy_from_slice(u.row(chroma(row), width / 2)),
                Part::V => line[..width / 2].copy_from_slice(v.row(chroma(row), width / 2)),
                Part::Uv => interleave(
                    &mut line[..width],
                    u.row(chroma(row), width / 2),
                    v.row(chroma(row), width / 2),
                ),
                Part::Yuyv => {
                    let y = y.row(row.min(height - 1), width);
                    let u = u.row(chroma(row / 2), width / 2);
                    let v = v.row(chroma(row / 2), width / 2);
                    pack(&mut line[..2 * width], y, u, v);
                }
            }
        }
    }
}

/// Simple enough for the compiler to turn into vector code, on ARM into two-way stores.
fn interleave(line: &mut [u8], u: &[u8], v: &[u8]) {
    for (pair, (u, v)) in line.chunks_exact_mut(2).zip(u.iter().zip(v)) {
        (pair[0], pair[1]) = (*u, *v);
    }
}

fn pack(line: &mut [u8], y: &[u8], u: &[u8], v: &[u8]) {
    let pairs = y.chunks_exact(2).zip(u.iter().zip(v));
    for (quad, (y, (u, v))) in line.chunks_exact_mut(4).zip(pairs) {
        quad.copy_from_slice(&[y[0], *u, y[1], *v]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::super::Plane;
    use super::*;
    use crate::source::v4l2::sys::PlaneFormat;

    /// 4x2: Y counts up from 0, U is 100 and 101, V is 200 and 201.
    fn with_picture(test: impl FnOnce(&Picture<'_>)) {
        let y: Vec<u8> = (0..8).collect();
        let (u, v) = ([100, 101], [200, 201]);
        let planes = [Plane::new(&y, 4), Plane::new(&u, 2), Plane::new(&v, 2)];
        test(&Picture::new((4, 2), planes, 0, Instant::now()).unwrap());
    }

    fn format(pixel: Pixel, height: u32, planes: &[(u32, u32)]) -> Format {
        let mut format = Format::ask(pixel.fourcc(), (4, height), 0);
        let plane = |&(stride, size)| PlaneFormat { stride, size };
        format.planes = planes.iter().map(plane).collect();
        format
    }

    fn written(pixel: Pixel, height: u32, planes: &[(u32, u32)]) -> Vec<Vec<u8>> {
        let layout = Layout::new(pixel, &format(pixel, height, planes), 4).expect("fits");
        let mut memory: Vec<Vec<u8>> = planes.iter().map(|p| vec![0; p.1 as usize]).collect();
        with_picture(|picture| {
            for (n, memory) in memory.iter_mut().enumerate() {
                assert!(layout.write(n, picture, memory));
            }
        });
        memory
    }

    #[test]
    fn colours_begin_after_the_rows_that_the_device_adds() {
        // 2 rows become 4; the last one is repeated.
        let nv12 = [
            0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, //
            100, 200, 101, 201, 100, 200, 101, 201,
        ];
        assert_eq!(written(Pixel::Nv12, 4, &[(4, 24)]), [nv12]);
        let yu12 = [
            0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, //
            100, 101, 100, 101, 200, 201, 200, 201,
        ];
        assert_eq!(written(Pixel::Yu12, 4, &[(4, 24)]), [yu12]);
    }

    #[test]
    fn wider_rows_are_kept_and_each_plane_of_several_has_its_own() {
        let y = vec![0, 1, 2, 3, 0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0];
        let uv = vec![100, 200, 101, 201, 0, 0, 0, 0];
        assert_eq!(written(Pixel::Nm12, 2, &[(8, 16), (8, 8)]), [y.clone(), uv]);
        let (u, v) = (vec![100, 101, 0, 0], vec![200, 201, 0, 0]);
        let planes = written(Pixel::Ym12, 2, &[(8, 16), (4, 4), (4, 4)]);
        assert_eq!(planes, [y, u, v]);
    }

    #[test]
    fn packed_rows_share_colours_in_pairs() {
        let packed = [
            0, 100, 1, 200, 2, 101, 3, 201, 4, 100, 5, 200, 6, 101, 7, 201,
        ];
        assert_eq!(written(Pixel::Yuyv, 2, &[(8, 16)]), [packed]);
    }

    #[test]
    fn planes_that_are_too_small_are_refused_when_they_are_announced() {
        for (pixel, planes) in [
            (Pixel::Nv12, vec![(4, 11)]),
            (Pixel::Nv12, vec![(3, 24)]),
            (Pixel::Yu12, vec![(4, 11)]),
            (Pixel::Nm12, vec![(4, 8)]),
            (Pixel::Nm12, vec![(4, 8), (4, 3)]),
            (Pixel::Yuyv, vec![(4, 16)]),
        ] {
            let layout = Layout::new(pixel, &format(pixel, 2, &planes), 4);
            assert!(layout.is_none(), "{pixel:?} {planes:?}");
        }
        let layout = Layout::new(Pixel::Nv12, &format(Pixel::Nv12, 2, &[(4, 12)]), 4).unwrap();
        with_picture(|picture| assert!(!layout.write(0, picture, &mut [0; 11])));
    }
}
