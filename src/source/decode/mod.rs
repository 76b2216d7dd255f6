//! Pictures as cameras give them, turned into I420 for an encoder.
//!
//! In: a raw or JPEG picture in its driver's buffers. Out: borrowed I420 planes, in the colours
//! of the stream ([`Colour::of_stream`]).
//! Not here: where buffers come from, what happens to a bad picture (source).
//!
//! What already is I420 in those colours is passed on without a copy, and so is the luma plane of
//! every format that has one. All else lands in buffers that the decoder keeps. Colours are
//! converted, not merely declared: viewers' decoders do not all read what a stream says of itself,
//! and some hardware encoders cannot say it.

mod adjust;
mod chroma;
mod headers;
mod jpeg;
mod packed;

use std::time::Instant;

use crate::media::pixel::{Chroma, Colour, Layout, PixelFormat, PlaneShape};
use crate::source::encode::{EncodeError, Picture, Plane};
use adjust::Adjust;
use chroma::Source;
use jpeg::Jpeg;
use packed::Unpacked;

/// Memory of one buffer of a picture: rows `stride` bytes apart, as the driver said (for JPEG
/// the stride means nothing).
#[derive(Clone, Copy, Debug)]
pub struct PlaneRef<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
}

/// One captured picture.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    pub format: PixelFormat,
    /// Pixels, as the driver set them; odd ones are cropped.
    pub width: u32,
    pub height: u32,
    /// As many as [`PixelFormat::buffers`]; the bytes that the driver filled.
    pub planes: &'a [PlaneRef<'a>],
}

/// An I420 picture in the colours of the stream, borrowed from a [`Decoder`] or the driver.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    size: (usize, usize),
    planes: [Plane<'a>; 3],
}

impl<'a> Decoded<'a> {
    /// Width and height in pixels, even.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Y, U, V.
    pub fn planes(&self) -> &[Plane<'a>; 3] {
        &self.planes
    }

    /// The same for an encoder, with the time of its capture (see [`Picture`]).
    ///
    /// # Errors
    /// None with planes that came from a [`Decoder`].
    pub fn picture(&self, ticks: i64, taken: Instant) -> Result<Picture<'a>, EncodeError> {
        Picture::new(self.size, self.planes, ticks, taken)
    }
}

/// Turns the pictures of one format and size into I420. Keeps its buffers from picture to
/// picture: about 4.5 bytes per pixel for JPEG, 5 at most for the rest.
pub struct Decoder {
    format: PixelFormat,
    /// As captured.
    size: (usize, usize),
    /// As handed on.
    even: (usize, usize),
    adjust: Option<Adjust>,
    jpeg: Jpeg,
    unpacked: Unpacked,
    own: I420,
}

/// Planes of our own, without padding.
#[derive(Debug, Default)]
struct I420 {
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
    /// The last two rows of RGB, where the driver does not pad the last.
    tail: Vec<u8>,
}

impl Decoder {
    /// A decoder for pictures whose colours are `colour` (see [`Colour::from_v4l2`] and
    /// [`Colour::unsaid`]). Takes no memory before the first picture.
    ///
    /// # Errors
    /// A size outside 2x2 to [`MAX_SIDE`] on each side.
    pub fn new(
        format: PixelFormat,
        width: u32,
        height: u32,
        colour: Colour,
    ) -> Result<Self, DecodeError> {
        if !(2..=MAX_SIDE).contains(&width) || !(2..=MAX_SIDE).contains(&height) {
            return Err(DecodeError::Size { width, height });
        }
        let size = (width as usize, height as usize);
        Ok(Self {
            format,
            size,
            even: (size.0 & !1, size.1 & !1),
            adjust: Adjust::between(colour, Colour::of_stream(size.1 & !1)),
            jpeg: Jpeg::default(),
            unpacked: Unpacked::default(),
            own: I420::default(),
        })
    }

    /// Width and height of what is handed on: even.
    pub fn even_size(&self) -> (usize, usize) {
        self.even
    }

    /// Turns one picture into I420. Any bytes are taken; what is wrong with them is an error, and
    /// the next picture is as good as the first.
    ///
    /// # Errors
    /// Another format or size than this decoder was made for, a buffer that is too short, a JPEG
    /// that is cut off, broken or of a kind that cameras do not send.
    pub fn decode<'a>(&'a mut self, frame: &RawFrame<'a>) -> Result<Decoded<'a>, DecodeError> {
        let size = (frame.width as usize, frame.height as usize);
        if (frame.format, size) != (self.format, self.size) {
            return Err(DecodeError::OtherFormat {
                expected: named(self.format, self.size),
                got: named(frame.format, size),
            });
        }
        let (even, own) = (self.even, &mut self.own);
        let layout = self.format.layout();
        let (luma, chroma) = match layout {
            Layout::Jpeg => {
                let data = frame.planes.first().map_or(&[][..], |plane| plane.bytes);
                let (rgb, stride) = self.jpeg.decode(data, self.size)?;
                return own.take_rgb(Plane::new(rgb, stride), even, false);
            }
            Layout::Rgb { blue_first } => {
                let plane = find(frame)?[0];
                return own.take_rgb(plane, even, blue_first);
            }
            Layout::Packed422 { luma, u, .. } => {
                let plane = find(frame)?[0];
                self.unpacked.fill((luma, u), plane, even)?
            }
            Layout::Grey => (find(frame)?[0], Source::None),
            Layout::SemiPlanar { chroma, v_first } => {
                let [luma, pairs, _] = find(frame)?;
                let pairs = Source::Pairs {
                    chroma,
                    v_first,
                    pairs,
                };
                (luma, pairs)
            }
            Layout::Planar { chroma, v_first } => {
                let [luma, first, second] = find(frame)?;
                let (u, v) = match v_first {
                    true => (second, first),
                    false => (first, second),
                };
                (luma, Source::Planes { chroma, u, v })
            }
        };
        Ok(own.fill(luma, chroma, even, self.adjust.as_mut()))
    }
}

impl I420 {
    fn take_rgb(
        &mut self,
        rgb: Plane<'_>,
        size: (usize, usize),
        blue_first: bool,
    ) -> Result<Decoded<'_>, DecodeError> {
        self.resize(size);
        packed::rgb(self, rgb, size, blue_first)?;
        Ok(self.decoded(size))
    }

    /// Takes planes over, or what has to be changed of them.
    fn fill<'a>(
        &'a mut self,
        luma: Plane<'a>,
        chroma: Source<'a>,
        size: (usize, usize),
        adjust: Option<&mut Adjust>,
    ) -> Decoded<'a> {
        let half = (size.0 / 2, size.1 / 2);
        if adjust.is_none()
            && let Source::Planes {
                chroma: Chroma::Quarter,
                u,
                v,
            } = chroma
            && u.stride == v.stride
        {
            return Decoded {
                size,
                planes: [luma, u, v],
            };
        }
        self.u.resize(half.0 * half.1, 0);
        self.v.resize(half.0 * half.1, 0);
        chroma.shrink(&mut self.u, &mut self.v, half);
        let Some(adjust) = adjust else {
            let [_, u, v] = self.decoded(size).planes;
            return Decoded {
                size,
                planes: [luma, u, v],
            };
        };
        self.y.resize(size.0 * size.1, 0);
        adjust.apply(luma, self, size);
        self.decoded(size)
    }

    fn resize(&mut self, (width, height): (usize, usize)) {
        self.y.resize(width * height, 0);
        self.u.resize(width * height / 4, 0);
        self.v.resize(width * height / 4, 0);
    }

    fn decoded(&self, size: (usize, usize)) -> Decoded<'_> {
        Decoded {
            size,
            planes: [
                Plane::new(&self.y, size.0),
                Plane::new(&self.u, size.0 / 2),
                Plane::new(&self.v, size.0 / 2),
            ],
        }
    }
}

/// The planes of a picture in its buffers, each large enough for the picture's size. Where there
/// are fewer than three the last is repeated.
fn find<'a>(frame: &RawFrame<'a>) -> Result<[Plane<'a>; 3], DecodeError> {
    let buffers = frame.format.buffers();
    let &[first, ..] = frame.planes else {
        return Err(DecodeError::Buffers {
            got: 0,
            expected: buffers,
        });
    };
    if frame.planes.len() != buffers {
        return Err(DecodeError::Buffers {
            got: frame.planes.len(),
            expected: buffers,
        });
    }
    let size = (frame.width as usize, frame.height as usize);
    let shapes = frame.format.shapes(size, first.stride);
    let mut planes = [Plane::new(&[], 0); 3];
    let mut begin = 0;
    for (n, shape) in shapes.as_slice().iter().enumerate() {
        let plane = match frame.planes.get(n) {
            Some(own) if buffers > 1 => {
                let shape = PlaneShape {
                    stride: own.stride,
                    ..*shape
                };
                cut(own.bytes, &shape)?
            }
            _ => {
                let bytes = first.bytes.get(begin..).unwrap_or_default();
                let plane = cut(bytes, shape)?;
                begin += shape.padded().unwrap_or(bytes.len());
                plane
            }
        };
        planes[n..].fill(plane);
    }
    Ok(planes)
}

fn cut<'a>(bytes: &'a [u8], shape: &PlaneShape) -> Result<Plane<'a>, DecodeError> {
    let needed = shape.bytes().unwrap_or(usize::MAX);
    if shape.stride < shape.width {
        return Err(DecodeError::Stride {
            got: shape.stride,
            needed: shape.width,
        });
    }
    let end = shape.padded().unwrap_or(needed).min(bytes.len());
    match end >= needed {
        true => Ok(Plane::new(&bytes[..end], shape.stride)),
        false => Err(DecodeError::Short {
            got: bytes.len(),
            needed,
        }),
    }
}

fn named(format: PixelFormat, (width, height): (usize, usize)) -> String {
    format!("{format} {width}x{height}")
}

/// Why a picture was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("picture size {width}x{height}: accepted are 2x2 to {MAX_SIDE}x{MAX_SIDE}")]
    Size { width: u32, height: u32 },
    #[error("a picture of {got} where {expected} was agreed")]
    OtherFormat { expected: String, got: String },
    #[error("{got} buffers for a picture of {expected}")]
    Buffers { got: usize, expected: usize },
    #[error("rows {got} bytes apart that are {needed} bytes long")]
    Stride { got: usize, needed: usize },
    #[error("{got} bytes where the picture needs {needed}")]
    Short { got: usize, needed: usize },
    #[error("not a JPEG")]
    NotJpeg,
    #[error("JPEG cut off")]
    Truncated,
    #[error("JPEG of {}x{} where {}x{} was agreed", got.0, got.1, expected.0, expected.1)]
    OtherSize {
        got: (usize, usize),
        expected: (usize, usize),
    },
    #[error("JPEG with one of two fields; only whole pictures are decoded")]
    Interlaced,
    #[error("{0}: not decoded")]
    UnsupportedJpeg(&'static str),
    #[error("broken JPEG: {0}")]
    BrokenJpeg(String),
    #[error("conversion: {0}")]
    Convert(String),
}

/// Pixels on each side of the largest picture.
pub const MAX_SIDE: u32 = 4096;
