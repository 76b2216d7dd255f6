//! Packed samples taken apart: YUYV and its kin, RGB.
//!
//! In: packed rows. Out: planes. The `yuv` crate does the work, with the SIMD of the processor
//! that it finds itself on.
//! Not here: JPEG (jpeg), shrinking chroma (chroma).

use yuv::{
    BufferStoreMut, YuvConversionMode, YuvError, YuvPackedImage, YuvPlanarImageMut, YuvRange,
    YuvStandardMatrix,
};

use super::chroma::Source;
use super::{DecodeError, I420};
use crate::media::pixel::{Chroma, Colour, Matrix};
use crate::source::encode::Plane;

/// Planes of 4:2:2 from packed 4:2:2, kept from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Unpacked {
    /// Takes the even part of a packed picture apart. `order`: the places of the first luma sample
    /// and of U in four bytes.
    pub(super) fn fill(
        &mut self,
        order: (usize, usize),
        from: Plane<'_>,
        (width, height): (usize, usize),
    ) -> Result<(Plane<'_>, Source<'_>), DecodeError> {
        let half = width / 2;
        self.y.resize(width * height, 0);
        self.u.resize(half * height, 0);
        self.v.resize(half * height, 0);
        // The last row need not be as long as the stride, which the crate asks of every row.
        let last = height - 1;
        let most = Plane::new(&from.data[..last * from.stride], from.stride);
        self.rows(order, most, width, 0..last)?;
        let tail = &from.data[last * from.stride..][..width * 2];
        let tail = Plane::new(tail, width * 2);
        self.rows(order, tail, width, last..height)?;
        let chroma = Source::Planes {
            chroma: Chroma::Half,
            u: Plane::new(&self.u, half),
            v: Plane::new(&self.v, half),
        };
        Ok((Plane::new(&self.y, width), chroma))
    }

    fn rows(
        &mut self,
        order: (usize, usize),
        from: Plane<'_>,
        width: usize,
        rows: std::ops::Range<usize>,
    ) -> Result<(), DecodeError> {
        let (count, half) = (rows.len(), width / 2);
        let packed = YuvPackedImage {
            yuy: from.data,
            yuy_stride: from.stride as u32,
            width: width as u32,
            height: count as u32,
        };
        let y = &mut self.y[rows.start * width..rows.end * width];
        let u = &mut self.u[rows.start * half..rows.end * half];
        let v = &mut self.v[rows.start * half..rows.end * half];
        let mut planar = planar([(y, width), (u, half), (v, half)], (width, count));
        let convert = match order {
            (1, 0) => yuv::uyvy422_to_yuv422,
            (0, 3) => yuv::yvyu422_to_yuv422,
            (1, 2) => yuv::vyuy422_to_yuv422,
            _ => yuv::yuyv422_to_yuv422,
        };
        convert(&mut planar, &packed).map_err(failed)
    }
}

/// Turns the even part of an RGB picture into I420 in the colours of the stream.
pub(super) fn rgb(
    to: &mut I420,
    from: Plane<'_>,
    size: (usize, usize),
    blue_first: bool,
) -> Result<(), DecodeError> {
    let (most, stride) = (size.1 - 2, from.stride);
    if from.data.len() >= stride * size.1 {
        return rgb_rows(to, from, size, blue_first, 0..size.1);
    }
    // The last row is not as long as the stride, which the crate asks of every row.
    if most > 0 {
        rgb_rows(to, from, size, blue_first, 0..most)?;
    }
    let mut tail = std::mem::take(&mut to.tail);
    tail.clear();
    tail.extend_from_slice(&from.data[most * stride..]);
    tail.resize(2 * stride, 0);
    let last = Plane::new(&tail, stride);
    let result = rgb_rows(to, last, size, blue_first, most..size.1);
    to.tail = tail;
    result
}

/// Rows of RGB (an even number, from its first on) to the rows `rows` of I420.
fn rgb_rows(
    to: &mut I420,
    from: Plane<'_>,
    (width, height): (usize, usize),
    blue_first: bool,
    rows: std::ops::Range<usize>,
) -> Result<(), DecodeError> {
    let (half, chroma) = (
        width / 2,
        rows.start / 2 * (width / 2)..rows.end / 2 * (width / 2),
    );
    let planes = [
        (&mut to.y[rows.start * width..rows.end * width], width),
        (&mut to.u[chroma.clone()], half),
        (&mut to.v[chroma], half),
    ];
    let mut planar = planar(planes, (width, rows.len()));
    let convert = match blue_first {
        true => yuv::bgr_to_yuv420,
        false => yuv::rgb_to_yuv420,
    };
    let matrix = match Colour::of_stream(height).matrix {
        Matrix::Bt601 => YuvStandardMatrix::Bt601,
        Matrix::Bt709 => YuvStandardMatrix::Bt709,
    };
    let (range, mode) = (YuvRange::Limited, YuvConversionMode::Balanced);
    convert(
        &mut planar,
        from.data,
        from.stride as u32,
        range,
        matrix,
        mode,
    )
    .map_err(failed)
}

fn planar<'a>(
    [(y, y_stride), (u, u_stride), (v, v_stride)]: [(&'a mut [u8], usize); 3],
    (width, height): (usize, usize),
) -> YuvPlanarImageMut<'a, u8> {
    YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: y_stride as u32,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: u_stride as u32,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: v_stride as u32,
        width: width as u32,
        height: height as u32,
    }
}

fn failed(error: YuvError) -> DecodeError {
    DecodeError::Convert(error.to_string())
}
