//! The reference picture: as it is, as a driver would lay it out, and how far a decoded one is
//! from it.

use pinhole::media::pixel::{Chroma, Colour, Layout, Matrix, PixelFormat};
use pinhole::source::decode::{DecodeError, Decoded, Decoder, PlaneRef, RawFrame};

/// A view in red, green and blue from 0 to 1: slopes, waves and an edge, all colours.
fn view(x: f64, y: f64) -> [f64; 3] {
    let wave = |a: f64, b: f64| 0.5 + 0.4 * (a * x).sin() * (b * y).cos();
    let edge = if x + y > 1.2 { 0.25 } else { 0.0 };
    [
        wave(9.0, 4.0),
        wave(5.0, 11.0) - edge,
        0.1 + 0.8 * x * y + edge / 2.0,
    ]
    .map(|v| v.clamp(0.0, 1.0))
}

fn rgb_at(size: (usize, usize), x: usize, y: usize) -> [f64; 3] {
    view(x as f64 / size.0 as f64, y as f64 / size.1 as f64)
}

/// Y, U, V of ITU-R BT.601 and BT.709 as they are defined, rounded to 8 bits at the very end.
fn yuv(colour: Colour, [r, g, b]: [f64; 3]) -> [f64; 3] {
    let (kr, kb) = match colour.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (u, v) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
    match colour.is_full_range {
        true => [255.0 * y, 128.0 + 255.0 * u, 128.0 + 255.0 * v],
        false => [16.0 + 219.0 * y, 128.0 + 224.0 * u, 128.0 + 224.0 * v],
    }
}

/// One plane of 8-bit samples.
#[derive(Clone)]
pub struct Samples {
    pub width: usize,
    pub data: Vec<u8>,
}

/// Channel 0, 1 or 2 of the view; chroma as the mean of the pixels that share it.
fn plane(colour: Colour, size: (usize, usize), chroma: Option<Chroma>, channel: usize) -> Samples {
    let (across, down) = match chroma {
        None | Some(Chroma::Full) => (1, 1),
        Some(Chroma::Half) => (2, 1),
        Some(Chroma::Quarter) => (2, 2),
    };
    let (width, height) = (size.0.div_ceil(across), size.1.div_ceil(down));
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let pixels = (0..down).flat_map(|dy| (0..across).map(move |dx| (dx, dy)));
            let sum: f64 = pixels
                .map(|(dx, dy)| {
                    let x = (x * across + dx).min(size.0 - 1);
                    let y = (y * down + dy).min(size.1 - 1);
                    yuv(colour, rgb_at(size, x, y))[channel]
                })
                .sum();
            data.push((sum / (across * down) as f64).round().clamp(0.0, 255.0) as u8);
        }
    }
    Samples { width, data }
}

/// Rows further apart than they are long. The last row is not padded.
fn padded(samples: &Samples, padding: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for row in samples.data.chunks(samples.width) {
        data.extend_from_slice(row);
        data.extend(std::iter::repeat_n(0x5a, padding));
    }
    data.truncate(data.len() - padding);
    data
}

fn interleave(a: &Samples, b: &Samples) -> Samples {
    let pairs = a.data.iter().zip(&b.data);
    Samples {
        width: 2 * a.width,
        data: pairs.flat_map(|(a, b)| [*a, *b]).collect(),
    }
}

/// The planes of the view in a format, without padding.
pub fn planes(format: PixelFormat, colour: Colour, size: (usize, usize)) -> Vec<Samples> {
    let luma = plane(colour, size, None, 0);
    let both = |chroma, v_first| {
        let [u, v] = [1, 2].map(|channel| plane(colour, size, Some(chroma), channel));
        if v_first { [v, u] } else { [u, v] }
    };
    match format.layout() {
        Layout::Jpeg => panic!("not raw"),
        Layout::Grey => vec![luma],
        Layout::SemiPlanar { chroma, v_first } => {
            let [a, b] = both(chroma, v_first);
            vec![luma, interleave(&a, &b)]
        }
        Layout::Planar { chroma, v_first } => {
            let [a, b] = both(chroma, v_first);
            vec![luma, a, b]
        }
        Layout::Packed422 { luma: first, u, v } => {
            let [us, vs] = both(Chroma::Half, false);
            let mut data = Vec::new();
            for y in 0..size.1 {
                for x in 0..size.0.div_ceil(2) {
                    let mut four = [0; 4];
                    four[first] = luma.data[y * size.0 + 2 * x];
                    four[first + 2] = luma.data[y * size.0 + (2 * x + 1).min(size.0 - 1)];
                    four[u] = us.data[y * us.width + x];
                    four[v] = vs.data[y * vs.width + x];
                    data.extend(four);
                }
            }
            vec![Samples {
                width: size.0.div_ceil(2) * 4,
                data,
            }]
        }
        Layout::Rgb { blue_first } => {
            let pixels = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y)));
            let data = pixels.flat_map(|(x, y)| {
                let mut rgb = rgb_at(size, x, y).map(|v| (v * 255.0).round() as u8);
                if blue_first {
                    rgb.reverse();
                }
                rgb
            });
            vec![Samples {
                width: size.0 * 3,
                data: data.collect(),
            }]
        }
    }
}

/// Buffers as a driver fills them: `padding` bytes behind each row of luma.
pub fn buffers(
    format: PixelFormat,
    colour: Colour,
    size: (usize, usize),
    padding: usize,
) -> Vec<(Vec<u8>, usize)> {
    let planes = planes(format, colour, size);
    if format.buffers() > 1 {
        let own = planes.iter();
        return own
            .map(|p| (padded(p, padding), p.width + padding))
            .collect();
    }
    let stride = planes[0].width + padding;
    let shapes = format.shapes(size, stride);
    let mut data = Vec::new();
    for (n, (plane, shape)) in planes.iter().zip(shapes.as_slice()).enumerate() {
        assert_eq!(plane.width, shape.width, "{format} plane {n}");
        data.extend(padded(plane, shape.stride - shape.width));
        if n + 1 < planes.len() {
            data.extend(vec![0x5a; shape.stride - shape.width]);
        }
    }
    vec![(data, stride)]
}

pub fn refs(buffers: &[(Vec<u8>, usize)]) -> Vec<PlaneRef<'_>> {
    let all = buffers.iter();
    all.map(|(bytes, stride)| PlaneRef {
        bytes,
        stride: *stride,
    })
    .collect()
}

pub fn frame<'a>(
    format: PixelFormat,
    size: (usize, usize),
    planes: &'a [PlaneRef<'a>],
) -> RawFrame<'a> {
    RawFrame {
        format,
        width: size.0 as u32,
        height: size.1 as u32,
        planes,
    }
}

pub fn decoder(format: PixelFormat, size: (usize, usize), colour: Colour) -> Decoder {
    Decoder::new(format, size.0 as u32, size.1 as u32, colour).expect("in bounds")
}

/// Whether a JPEG is decoded at all.
pub fn try_jpeg(
    decoder: &mut Decoder,
    data: &[u8],
    size: (usize, usize),
) -> Result<(), DecodeError> {
    let planes = [PlaneRef {
        bytes: data,
        stride: 0,
    }];
    let frame = frame(PixelFormat::Mjpeg, size, &planes);
    decoder.decode(&frame).map(|_| ())
}

/// Decibels between each plane of a picture and the view; the view's size is `size`.
pub fn psnr(decoded: &Decoded<'_>, size: (usize, usize)) -> [f64; 3] {
    let (width, height) = decoded.size();
    let colour = Colour::of_stream(height);
    [0, 1, 2].map(|channel| {
        let chroma = (channel > 0).then_some(Chroma::Quarter);
        let expected = plane(colour, size, chroma, channel);
        let (width, height) = match channel {
            0 => (width, height),
            _ => (width / 2, height / 2),
        };
        let got = decoded.planes()[channel];
        let mut squares = 0.0;
        for y in 0..height {
            for x in 0..width {
                let (got, expected) = (
                    got.data[y * got.stride + x],
                    expected.data[y * expected.width + x],
                );
                squares += f64::from(got.abs_diff(expected)).powi(2);
            }
        }
        let mean = squares / (width * height) as f64;
        10.0 * (255.0 * 255.0 / mean.max(1e-6)).log10()
    })
}

pub fn assert_like_the_view(decoded: &Decoded<'_>, size: (usize, usize), bound: f64, what: &str) {
    let psnr = psnr(decoded, size);
    println!("{what}: {:.1} {:.1} {:.1} dB", psnr[0], psnr[1], psnr[2]);
    assert!(psnr.iter().all(|db| *db >= bound), "{what}: {psnr:?} dB");
}

/// Every colour that a raw format can come in.
pub const COLOURS: [Colour; 4] = [
    Colour {
        matrix: Matrix::Bt601,
        is_full_range: false,
    },
    Colour {
        matrix: Matrix::Bt709,
        is_full_range: false,
    },
    Colour {
        matrix: Matrix::Bt601,
        is_full_range: true,
    },
    Colour {
        matrix: Matrix::Bt709,
        is_full_range: true,
    },
];

pub fn raw_formats() -> impl Iterator<Item = PixelFormat> {
    let all = PixelFormat::ALL.into_iter();
    all.filter(|format| !format.is_jpeg() && *format != PixelFormat::Grey)
}
