//! Pixel formats as cameras name them (V4L2 fourcc): how samples lie in memory and what colours
//! they mean.
//!
//! In: four characters, sizes, V4L2's colour numbers. Out: layout, byte counts, [`Colour`].
//! Not here: touching samples (source::decode), choosing a format (source).

use std::fmt;

/// A format whose pictures can be turned into I420. The comments give the Linux name
/// (`V4L2_PIX_FMT_...`, linux/videodev2.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PixelFormat {
    /// `MJPG`: one JPEG per picture, tables may be missing.
    Mjpeg,
    /// `JPEG`: one JPEG per picture.
    Jpeg,
    /// `YUYV` 4:2:2 packed.
    Yuyv,
    /// `UYVY` 4:2:2 packed.
    Uyvy,
    /// `YVYU` 4:2:2 packed.
    Yvyu,
    /// `VYUY` 4:2:2 packed.
    Vyuy,
    /// `NV12` 4:2:0, luma plane, then one of U and V in turn.
    Nv12,
    /// `NV21`: as NV12, V first.
    Nv21,
    /// `NV16` 4:2:2, luma plane, then one of U and V in turn.
    Nv16,
    /// `NV61`: as NV16, V first.
    Nv61,
    /// `NV24` 4:4:4, luma plane, then one of U and V in turn.
    Nv24,
    /// `NV42`: as NV24, V first.
    Nv42,
    /// `YU12`, known as I420: 4:2:0, planes Y, U, V.
    Yu12,
    /// `YV12`: 4:2:0, planes Y, V, U.
    Yv12,
    /// `422P`: 4:2:2, planes Y, U, V.
    Yuv422p,
    /// `GREY`: luma only.
    Grey,
    /// `RGB3`: bytes R, G, B.
    Rgb24,
    /// `BGR3`: bytes B, G, R.
    Bgr24,
    /// `NM12`: NV12 in two buffers.
    Nv12m,
    /// `NM21`: NV21 in two buffers.
    Nv21m,
    /// `NM16`: NV16 in two buffers.
    Nv16m,
    /// `NM61`: NV61 in two buffers.
    Nv61m,
    /// `YM12`: YU12 in three buffers.
    Yuv420m,
    /// `YM21`: YV12 in three buffers.
    Yvu420m,
    /// `YM16`: 422P in three buffers.
    Yuv422m,
    /// `YM61`: as YM16, V before U.
    Yvu422m,
    /// `YM24`: 4:4:4 in three buffers.
    Yuv444m,
    /// `YM42`: as YM24, V before U.
    Yvu444m,
}

/// How the samples of a format lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Compressed; the byte count differs from picture to picture.
    Jpeg,
    /// Two pixels in four bytes. The place of the first luma sample, U and V among them.
    Packed422 { luma: usize, u: usize, v: usize },
    /// A luma plane and a plane of chroma pairs.
    SemiPlanar { chroma: Chroma, v_first: bool },
    /// Three planes.
    Planar { chroma: Chroma, v_first: bool },
    /// A luma plane alone.
    Grey,
    /// Three bytes per pixel.
    Rgb { blue_first: bool },
}

/// How many chroma samples there are for the luma samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chroma {
    /// 4:2:0
    Quarter,
    /// 4:2:2
    Half,
    /// 4:4:4
    Full,
}

impl Chroma {
    /// Width and height of a chroma plane below a luma plane of this size; odd sizes round up.
    pub fn size(self, (width, height): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Quarter => (width.div_ceil(2), height.div_ceil(2)),
            Self::Half => (width.div_ceil(2), height),
            Self::Full => (width, height),
        }
    }
}

/// One plane inside a buffer: `rows` rows of `width` bytes, `stride` bytes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneShape {
    pub width: usize,
    pub rows: usize,
    pub stride: usize,
}

impl PlaneShape {
    /// Bytes from the first to the last sample; drivers need not pad the last row. `None` beyond
    /// what a `usize` holds.
    pub fn bytes(&self) -> Option<usize> {
        match self.rows {
            0 => Some(0),
            rows => (rows - 1).checked_mul(self.stride)?.checked_add(self.width),
        }
    }

    /// Bytes to where the next plane of the same buffer begins.
    pub fn padded(&self) -> Option<usize> {
        self.rows.checked_mul(self.stride)
    }
}

/// Up to three planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shapes {
    all: [PlaneShape; 3],
    count: usize,
}

impl Shapes {
    /// The planes in the order of the buffer.
    pub fn as_slice(&self) -> &[PlaneShape] {
        &self.all[..self.count]
    }
}

impl PixelFormat {
    /// Every format, in order of preference for equal size and rate: what costs least first.
    pub const ALL: [Self; 28] = [
        Self::Yu12,
        Self::Yuv420m,
        Self::Yv12,
        Self::Yvu420m,
        Self::Nv12,
        Self::Nv12m,
        Self::Nv21,
        Self::Nv21m,
        Self::Yuyv,
        Self::Uyvy,
        Self::Yvyu,
        Self::Vyuy,
        Self::Nv16,
        Self::Nv16m,
        Self::Nv61,
        Self::Nv61m,
        Self::Yuv422p,
        Self::Yuv422m,
        Self::Yvu422m,
        Self::Nv24,
        Self::Nv42,
        Self::Yuv444m,
        Self::Yvu444m,
        Self::Mjpeg,
        Self::Jpeg,
        Self::Rgb24,
        Self::Bgr24,
        Self::Grey,
    ];

    /// The format of a V4L2 fourcc.
    pub fn from_fourcc(fourcc: [u8; 4]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.fourcc() == fourcc)
    }

    /// Its V4L2 fourcc, in the order of the bytes.
    pub fn fourcc(self) -> [u8; 4] {
        let mut fourcc = [0; 4];
        fourcc.copy_from_slice(self.name().as_bytes());
        fourcc
    }

    /// Four characters, as `v4l2-ctl` shows them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mjpeg => "MJPG",
            Self::Jpeg => "JPEG",
            Self::Yuyv => "YUYV",
            Self::Uyvy => "UYVY",
            Self::Yvyu => "YVYU",
            Self::Vyuy => "VYUY",
            Self::Nv12 => "NV12",
            Self::Nv21 => "NV21",
            Self::Nv16 => "NV16",
            Self::Nv61 => "NV61",
            Self::Nv24 => "NV24",
            Self::Nv42 => "NV42",
            Self::Yu12 => "YU12",
            Self::Yv12 => "YV12",
            Self::Yuv422p => "422P",
            Self::Grey => "GREY",
            Self::Rgb24 => "RGB3",
            Self::Bgr24 => "BGR3",
            Self::Nv12m => "NM12",
            Self::Nv21m => "NM21",
            Self::Nv16m => "NM16",
            Self::Nv61m => "NM61",
            Self::Yuv420m => "YM12",
            Self::Yvu420m => "YM21",
            Self::Yuv422m => "YM16",
            Self::Yvu422m => "YM61",
            Self::Yuv444m => "YM24",
            Self::Yvu444m => "YM42",
        }
    }

    /// How its samples lie.
    pub fn layout(self) -> Layout {
        let packed = |luma, u, v| Layout::Packed422 { luma, u, v };
        let semi = |chroma, v_first| Layout::SemiPlanar { chroma, v_first };
        let planar = |chroma, v_first| Layout::Planar { chroma, v_first };
        match self {
            Self::Mjpeg | Self::Jpeg => Layout::Jpeg,
            Self::Yuyv => packed(0, 1, 3),
            Self::Uyvy => packed(1, 0, 2),
            Self::Yvyu => packed(0, 3, 1),
            Self::Vyuy => packed(1, 2, 0),
            Self::Nv12 | Self::Nv12m => semi(Chroma::Quarter, false),
            Self::Nv21 | Self::Nv21m => semi(Chroma::Quarter, true),
            Self::Nv16 | Self::Nv16m => semi(Chroma::Half, false),
            Self::Nv61 | Self::Nv61m => semi(Chroma::Half, true),
            Self::Nv24 => semi(Chroma::Full, false),
            Self::Nv42 => semi(Chroma::Full, true),
            Self::Yu12 | Self::Yuv420m => planar(Chroma::Quarter, false),
            Self::Yv12 | Self::Yvu420m => planar(Chroma::Quarter, true),
            Self::Yuv422p | Self::Yuv422m => planar(Chroma::Half, false),
            Self::Yvu422m => planar(Chroma::Half, true),
            Self::Yuv444m => planar(Chroma::Full, false),
            Self::Yvu444m => planar(Chroma::Full, true),
            Self::Grey => Layout::Grey,
            Self::Rgb24 => Layout::Rgb { blue_first: false },
            Self::Bgr24 => Layout::Rgb { blue_first: true },
        }
    }

    /// A compressed format.
    pub fn is_jpeg(self) -> bool {
        matches!(self, Self::Mjpeg | Self::Jpeg)
    }

    /// Buffers of one picture: 1, or 2 and 3 for the formats of the multi-planar interface that
    /// keep their planes apart.
    pub fn buffers(self) -> usize {
        match self {
            Self::Nv12m | Self::Nv21m | Self::Nv16m | Self::Nv61m => 2,
            Self::Yuv420m
            | Self::Yvu420m
            | Self::Yuv422m
            | Self::Yvu422m
            | Self::Yuv444m
            | Self::Yvu444m => 3,
            Self::Mjpeg
            | Self::Jpeg
            | Self::Yuyv
            | Self::Uyvy
            | Self::Yvyu
            | Self::Vyuy
            | Self::Nv12
            | Self::Nv21
            | Self::Nv16
            | Self::Nv61
            | Self::Nv24
            | Self::Nv42
            | Self::Yu12
            | Self::Yv12
            | Self::Yuv422p
            | Self::Grey
            | Self::Rgb24
            | Self::Bgr24 => 1,
        }
    }

    /// Bytes of one row of the first plane without padding; 0 for JPEG.
    pub fn row_bytes(self, width: usize) -> usize {
        match self.layout() {
            Layout::Jpeg => 0,
            Layout::Packed422 { .. } => width.div_ceil(2) * 4,
            Layout::SemiPlanar { .. } | Layout::Planar { .. } | Layout::Grey => width,
            Layout::Rgb { .. } => width * 3,
        }
    }

    /// The planes of a picture whose first plane has rows `stride` bytes apart. V4L2 gives one
    /// stride for a buffer that holds several planes; that of the others follows from it
    /// (`bytesperline` in the kernel's documentation of each format). None for JPEG.
    pub fn shapes(self, size: (usize, usize), stride: usize) -> Shapes {
        let plane = |width, rows, stride| PlaneShape {
            width,
            rows,
            stride,
        };
        let first = plane(self.row_bytes(size.0), size.1, stride);
        let (all, count) = match self.layout() {
            Layout::Jpeg => ([plane(0, 0, 0); 3], 0),
            Layout::Packed422 { .. } | Layout::Grey | Layout::Rgb { .. } => ([first; 3], 1),
            Layout::SemiPlanar { chroma, .. } => {
                let (width, rows) = chroma.size(size);
                let stride = match chroma {
                    Chroma::Quarter | Chroma::Half => stride.next_multiple_of(2),
                    Chroma::Full => stride * 2,
                };
                let pairs = plane(width * 2, rows, stride);
                ([first, pairs, pairs], 2)
            }
            Layout::Planar { chroma, .. } => {
                let (width, rows) = chroma.size(size);
                let stride = match chroma {
                    Chroma::Quarter | Chroma::Half => stride.div_ceil(2),
                    Chroma::Full => stride,
                };
                let half = plane(width, rows, stride);
                ([first, half, half], 3)
            }
        };
        Shapes { all, count }
    }

    /// Bytes of one picture without padding, all buffers together; `None` for JPEG.
    pub fn picture_bytes(self, size: (usize, usize)) -> Option<usize> {
        if self.is_jpeg() {
            return None;
        }
        let shapes = self.shapes(size, self.row_bytes(size.0));
        shapes.as_slice().iter().try_fold(0usize, |sum, plane| {
            sum.checked_add(plane.width.checked_mul(plane.rows)?)
        })
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How luma and chroma are made from red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601, also JPEG's (JFIF).
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// What the numbers of a picture mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    pub matrix: Matrix,
    /// 0 is black and 255 white; else 16 and 235.
    pub is_full_range: bool,
}

impl Colour {
    /// JPEG's (JFIF): BT.601, full range.
    pub const JPEG: Self = Self {
        matrix: Matrix::Bt601,
        is_full_range: true,
    };

    /// What pictures of this height are coded in, always: limited range, HD colours from
    /// [`HD_HEIGHT`] on, SD colours below. Decoders that ignore the stream's own word assume the
    /// same, so that every viewer sees the right colours.
    pub fn of_stream(height: usize) -> Self {
        Self {
            matrix: match height >= HD_HEIGHT {
                true => Matrix::Bt709,
                false => Matrix::Bt601,
            },
            is_full_range: false,
        }
    }

    /// What a camera means that says nothing: JPEG's for JPEG, else BT.601 in limited range, the
    /// habit of USB cameras at every size (and V4L2's reading of its sRGB).
    pub fn unsaid(format: PixelFormat) -> Self {
        Self::from_v4l2(format, 0, 0, 0)
    }

    /// Reads `colorspace`, `ycbcr_enc` and `quantization` of a V4L2 format, 0 where the driver
    /// leaves them open: then the rules of `V4L2_MAP_YCBCR_ENC_DEFAULT` and
    /// `V4L2_MAP_QUANTIZATION_DEFAULT` hold. BT.2020 is read as its neighbour BT.709, SMPTE 240M
    /// too. JPEG is JPEG, whatever the driver says.
    pub fn from_v4l2(
        format: PixelFormat,
        colorspace: u32,
        ycbcr_enc: u32,
        quantization: u32,
    ) -> Self {
        if format.is_jpeg() {
            return Self::JPEG;
        }
        let is_rgb = matches!(format.layout(), Layout::Rgb { .. });
        let matrix = match (ycbcr_enc, colorspace) {
            (2 | 4 | 6 | 7 | 8, _) => Matrix::Bt709,
            (0, 2 | 3 | 10 | 12) => Matrix::Bt709,
            _ => Matrix::Bt601,
        };
        let is_full_range = match quantization {
            1 => true,
            2 => false,
            _ => is_rgb || colorspace == V4L2_COLORSPACE_JPEG,
        };
        Self {
            matrix,
            is_full_range,
        }
    }
}

/// From this height on a picture is coded with HD colours (BT.709), below with SD ones (BT.601).
pub const HD_HEIGHT: usize = 720;

const V4L2_COLORSPACE_JPEG: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_fourcc_and_only_once() {
        for format in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_fourcc(format.fourcc()), Some(format));
            assert_eq!(format.name().len(), 4);
        }
        for other in [*b"H264", *b"BA81", [0; 4], *b"yuyv"] {
            assert_eq!(PixelFormat::from_fourcc(other), None);
        }
    }

    #[test]
    fn pictures_take_the_bytes_that_their_chroma_asks_for() {
        let bytes = |format: PixelFormat| format.picture_bytes((640, 480));
        let luma = 640 * 480;
        assert_eq!(bytes(PixelFormat::Mjpeg), None);
        assert_eq!(bytes(PixelFormat::Grey), Some(luma));
        assert_eq!(bytes(PixelFormat::Nv12m), Some(luma * 3 / 2));
        assert_eq!(bytes(PixelFormat::Yv12), Some(luma * 3 / 2));
        assert_eq!(bytes(PixelFormat::Uyvy), Some(luma * 2));
        assert_eq!(bytes(PixelFormat::Yuv422p), Some(luma * 2));
        assert_eq!(bytes(PixelFormat::Nv24), Some(luma * 3));
        assert_eq!(bytes(PixelFormat::Rgb24), Some(luma * 3));
    }

    #[test]
    fn strides_of_further_planes_follow_from_the_first() {
        let stride = |format: PixelFormat| {
            let shapes = format.shapes((636, 480), 640);
            shapes.as_slice().last().map(|plane| plane.stride)
        };
        assert_eq!(stride(PixelFormat::Yu12), Some(320));
        assert_eq!(stride(PixelFormat::Nv16), Some(640));
        assert_eq!(stride(PixelFormat::Nv42), Some(1280));
        assert_eq!(stride(PixelFormat::Jpeg), None);
    }

    #[test]
    fn odd_sizes_round_the_chroma_up() {
        let shapes = PixelFormat::Yu12.shapes((641, 481), 642);
        let chroma = shapes.as_slice()[2];
        assert_eq!((chroma.width, chroma.rows, chroma.stride), (321, 241, 321));
        assert_eq!(chroma.bytes(), Some(240 * 321 + 321));
    }

    #[test]
    fn a_size_beyond_memory_is_no_number() {
        let size = (usize::MAX / 2, 4);
        assert_eq!(PixelFormat::Grey.picture_bytes(size), None);
        let plane = PlaneShape {
            width: 1,
            rows: 3,
            stride: usize::MAX,
        };
        assert_eq!((plane.bytes(), plane.padded()), (None, None));
    }

    #[test]
    fn what_the_driver_leaves_open_is_read_as_the_kernel_reads_it() {
        let read = |format, colorspace, encoding, quantization| {
            let colour = Colour::from_v4l2(format, colorspace, encoding, quantization);
            (colour.matrix, colour.is_full_range)
        };
        let yuyv = PixelFormat::Yuyv;
        let (sd, hd) = (Matrix::Bt601, Matrix::Bt709);
        assert_eq!(read(yuyv, 8, 0, 0), (sd, false), "sRGB, most USB cameras");
        assert_eq!(read(yuyv, 7, 0, 0), (sd, true), "JPEG");
        assert_eq!(read(yuyv, 3, 0, 0), (hd, false), "Rec. 709");
        assert_eq!(read(yuyv, 3, 1, 1), (sd, true), "said outright");
        assert_eq!(read(yuyv, 7, 2, 2), (hd, false), "said outright");
        assert_eq!(read(PixelFormat::Rgb24, 8, 0, 0), (sd, true));
        assert_eq!(read(PixelFormat::Mjpeg, 3, 2, 2), (sd, true));
        assert_eq!(Colour::unsaid(yuyv), Colour::of_stream(480));
    }
}
