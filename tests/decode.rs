//! Every pixel format and every kind of camera JPEG against one reference picture, in every way
//! that drivers lay them out; and all that can be wrong with them.
#![allow(clippy::print_stdout)] // decibels, for those who change something

use std::time::Instant;

use jpeg_encoder::{ColorType, Encoder as JpegEncoder, SamplingFactor};
use pinhole::config::EncoderChoice;
use pinhole::media::pixel::{Chroma, Colour, Layout, Matrix, PixelFormat};
use pinhole::source::decode::{DecodeError, Decoded, Decoder, PlaneRef, RawFrame};
use pinhole::source::encode::{self, Coded, Settings};

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
struct Samples {
    width: usize,
    data: Vec<u8>,
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
fn planes(format: PixelFormat, colour: Colour, size: (usize, usize)) -> Vec<Samples> {
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
fn buffers(
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

fn refs(buffers: &[(Vec<u8>, usize)]) -> Vec<PlaneRef<'_>> {
    let all = buffers.iter();
    all.map(|(bytes, stride)| PlaneRef {
        bytes,
        stride: *stride,
    })
    .collect()
}

fn frame<'a>(
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

fn decoder(format: PixelFormat, size: (usize, usize), colour: Colour) -> Decoder {
    Decoder::new(format, size.0 as u32, size.1 as u32, colour).expect("in bounds")
}

/// Whether a JPEG is decoded at all.
fn try_jpeg(decoder: &mut Decoder, data: &[u8], size: (usize, usize)) -> Result<(), DecodeError> {
    let planes = [PlaneRef {
        bytes: data,
        stride: 0,
    }];
    let frame = frame(PixelFormat::Mjpeg, size, &planes);
    decoder.decode(&frame).map(|_| ())
}

/// Decibels between each plane of a picture and the view; the view's size is `size`.
fn psnr(decoded: &Decoded<'_>, size: (usize, usize)) -> [f64; 3] {
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

fn assert_like_the_view(decoded: &Decoded<'_>, size: (usize, usize), bound: f64, what: &str) {
    let psnr = psnr(decoded, size);
    println!("{what}: {:.1} {:.1} {:.1} dB", psnr[0], psnr[1], psnr[2]);
    assert!(psnr.iter().all(|db| *db >= bound), "{what}: {psnr:?} dB");
}

/// Every colour that a raw format can come in.
const COLOURS: [Colour; 4] = [
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

fn raw_formats() -> impl Iterator<Item = PixelFormat> {
    let all = PixelFormat::ALL.into_iter();
    all.filter(|format| !format.is_jpeg() && *format != PixelFormat::Grey)
}

#[test]
fn every_raw_format_in_every_colour_becomes_the_same_picture() {
    for size in [(160, 90), (80, 720)] {
        for format in raw_formats() {
            for colour in COLOURS {
                let is_rgb = matches!(format.layout(), Layout::Rgb { .. });
                if is_rgb && colour != COLOURS[2] {
                    continue;
                }
                for padding in [0, 32] {
                    let buffers = buffers(format, colour, size, padding);
                    let planes = refs(&buffers);
                    let mut decoder = decoder(format, size, colour);
                    let decoded = decoder.decode(&frame(format, size, &planes));
                    let what = format!("{format} {size:?} {colour:?} +{padding}");
                    let decoded = decoded.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_like_the_view(&decoded, size, 44.0, &what);
                }
            }
        }
    }
}

#[test]
fn a_picture_without_colour_has_neutral_chroma() {
    let (format, size) = (PixelFormat::Grey, (320, 180));
    for colour in [COLOURS[0], COLOURS[2]] {
        let buffers = buffers(format, colour, size, 16);
        let planes = refs(&buffers);
        let mut decoder = decoder(format, size, colour);
        let decoded = decoder
            .decode(&frame(format, size, &planes))
            .expect("decodes");
        assert!(psnr(&decoded, size)[0] > 44.0);
        for chroma in &decoded.planes()[1..] {
            assert!(chroma.data.iter().all(|v| *v == 128));
        }
    }
}

#[test]
fn odd_sizes_are_cropped_to_even_ones() {
    let size = (321, 181);
    for format in raw_formats() {
        for padding in [0, 7] {
            let colour = Colour::unsaid(format);
            // V4L2 halves an odd stride downward in some drivers, upward in others: an even one
            // is what they all use.
            let padding = padding + (planes(format, colour, size)[0].width + padding) % 2;
            let buffers = buffers(format, colour, size, padding);
            let planes = refs(&buffers);
            let mut decoder = decoder(format, size, colour);
            assert_eq!(decoder.even_size(), (320, 180));
            let decoded = decoder
                .decode(&frame(format, size, &planes))
                .expect("decodes");
            assert_eq!(decoded.size(), (320, 180));
            // The reference's chroma is that of the whole picture: equal but at the edges.
            assert_like_the_view(&decoded, size, 44.0, &format!("{format} +{padding}"));
        }
    }
}

#[test]
fn what_already_is_i420_in_the_right_colours_is_not_copied() {
    let size = (320, 180);
    for (format, shared) in [
        (PixelFormat::Yu12, 3),
        (PixelFormat::Yv12, 3),
        (PixelFormat::Yuv420m, 3),
        (PixelFormat::Nv12, 1),
        (PixelFormat::Grey, 1),
    ] {
        let colour = Colour::of_stream(size.1);
        let buffers = buffers(format, colour, size, 32);
        let planes = refs(&buffers);
        let mut decoder = decoder(format, size, colour);
        let decoded = decoder
            .decode(&frame(format, size, &planes))
            .expect("decodes");
        let is_shared = |data: &[u8]| {
            let mut ranges = buffers.iter().map(|(bytes, _)| bytes.as_ptr_range());
            ranges.any(|range| range.contains(&data.as_ptr()))
        };
        let count = decoded
            .planes()
            .iter()
            .filter(|p| is_shared(p.data))
            .count();
        assert_eq!(count, shared, "{format}");
    }
}

#[test]
fn buffers_are_kept_from_picture_to_picture() {
    let (format, size) = (PixelFormat::Yuyv, (320, 180));
    let buffers = buffers(format, COLOURS[2], size, 0);
    let planes = refs(&buffers);
    let mut decoder = decoder(format, size, COLOURS[2]);
    let mut places = Vec::new();
    for _ in 0..3 {
        let decoded = decoder
            .decode(&frame(format, size, &planes))
            .expect("decodes");
        places.push(decoded.planes().map(|plane| plane.data.as_ptr()));
    }
    assert!(places.windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn every_format_feeds_the_encoder() {
    let size = (320, 180);
    for format in PixelFormat::ALL {
        let colour = Colour::unsaid(format);
        let jpeg = jpeg(size, SamplingFactor::R_4_2_2, 90);
        let buffers = match format.is_jpeg() {
            true => vec![(jpeg, 0)],
            false => buffers(format, colour, size, 32),
        };
        let planes = refs(&buffers);
        let mut decoder = decoder(format, size, colour);
        let decoded = decoder
            .decode(&frame(format, size, &planes))
            .expect("decodes");
        let picture = decoded
            .picture(0, Instant::now())
            .expect("even, planes hold");
        let settings = Settings {
            width: 320,
            height: 180,
            fps: 30,
            ceiling: 1_000_000,
        };
        let mut encoder = encode::open(&settings, EncoderChoice::Software).expect("openh264");
        let coded = encoder.encode(&picture).expect("encodes");
        assert!(
            matches!(coded, Coded::Unit(unit) if unit.is_key_frame),
            "{format}"
        );
    }
}

// ---- what is refused ----

#[test]
fn every_buffer_that_is_too_short_is_refused() {
    let size = (64, 48);
    for format in raw_formats().chain([PixelFormat::Grey]) {
        let buffers = buffers(format, Colour::unsaid(format), size, 8);
        for short in 0..buffers.len() {
            for cut in [1, 2, 100, 10_000] {
                let mut buffers = buffers.clone();
                let left = buffers[short].0.len().saturating_sub(cut);
                buffers[short].0.truncate(left);
                let planes = refs(&buffers);
                let mut decoder = decoder(format, size, Colour::unsaid(format));
                let result = decoder.decode(&frame(format, size, &planes));
                let error = result.expect_err("too short");
                assert!(
                    matches!(error, DecodeError::Short { .. }),
                    "{format}: {error}"
                );
            }
        }
        for stride in [0, 1, 63] {
            let mut buffers = buffers.clone();
            buffers[0].1 = stride;
            let planes = refs(&buffers);
            let mut decoder = decoder(format, size, Colour::unsaid(format));
            let result = decoder.decode(&frame(format, size, &planes));
            assert!(
                matches!(result, Err(DecodeError::Stride { .. })),
                "{format}"
            );
        }
        let none = decoder(format, size, Colour::unsaid(format))
            .decode(&frame(format, size, &[]))
            .map(|_| ());
        assert!(matches!(none, Err(DecodeError::Buffers { got: 0, .. })));
    }
}

#[test]
fn another_format_or_size_than_agreed_is_refused() {
    let (format, size) = (PixelFormat::Nv12, (64, 48));
    let buffers = buffers(format, COLOURS[0], size, 0);
    let planes = refs(&buffers);
    let mut decoder = decoder(format, size, COLOURS[0]);
    for wrong in [
        frame(PixelFormat::Nv21, size, &planes),
        frame(format, (48, 64), &planes),
    ] {
        let result = decoder.decode(&wrong).map(|_| ());
        assert!(matches!(result, Err(DecodeError::OtherFormat { .. })));
    }
    assert!(decoder.decode(&frame(format, size, &planes)).is_ok());
    for (width, height) in [(0, 2), (1, 2), (2, 1), (4097, 16), (u32::MAX, u32::MAX)] {
        let result = Decoder::new(format, width, height, COLOURS[0]).map(|_| ());
        assert_eq!(result, Err(DecodeError::Size { width, height }));
    }
}

// ---- JPEG ----

/// The view as a JPEG.
fn jpeg(size: (usize, usize), sampling: SamplingFactor, quality: u8) -> Vec<u8> {
    jpeg_with(size, quality, |encoder| {
        encoder.set_sampling_factor(sampling)
    })
}

fn jpeg_with(
    size: (usize, usize),
    quality: u8,
    set: impl FnOnce(&mut JpegEncoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let rgb = &planes(PixelFormat::Rgb24, Colour::JPEG, size)[0].data;
    let mut data = Vec::new();
    let mut encoder = JpegEncoder::new(&mut data, quality);
    set(&mut encoder);
    encoder
        .encode(rgb, size.0 as u16, size.1 as u16, ColorType::Rgb)
        .expect("encodes");
    data
}

fn decode_jpeg(
    decoder: &mut Decoder,
    data: &[u8],
    size: (usize, usize),
) -> Result<[f64; 3], DecodeError> {
    let planes = [PlaneRef {
        bytes: data,
        stride: 0,
    }];
    let decoded = decoder.decode(&frame(PixelFormat::Mjpeg, size, &planes))?;
    Ok(psnr(&decoded, size))
}

fn jpeg_decoder(size: (usize, usize)) -> Decoder {
    decoder(PixelFormat::Mjpeg, size, Colour::JPEG)
}

fn assert_good(data: &[u8], size: (usize, usize), what: &str) {
    let db = decode_jpeg(&mut jpeg_decoder(size), data, size);
    let db = db.unwrap_or_else(|error| panic!("{what}: {error}"));
    println!("{what}: {db:.1?} dB");
    assert!(db.iter().all(|db| *db > 36.0), "{what}: {db:?} dB");
}

/// Where each segment before the picture data begins, and its marker.
fn segments(data: &[u8]) -> Vec<(usize, u8)> {
    let (mut at, mut found) = (2, Vec::new());
    loop {
        found.push((at, data[at + 1]));
        if data[at + 1] == 0xda {
            return found;
        }
        at += 2 + usize::from(u16::from_be_bytes([data[at + 2], data[at + 3]]));
    }
}

fn place_of(data: &[u8], marker: u8) -> usize {
    let all = segments(data);
    all.iter().find(|s| s.1 == marker).expect("is there").0
}

/// The JPEG without its Huffman tables, as many cameras send it.
fn without_tables(data: &[u8]) -> Vec<u8> {
    let all = segments(data);
    let mut out = data[..2].to_vec();
    for two in all.windows(2) {
        if two[0].1 != 0xc4 {
            out.extend_from_slice(&data[two[0].0..two[1].0]);
        }
    }
    out.extend_from_slice(&data[all[all.len() - 1].0..]);
    out
}

fn with_segment(data: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    let segment = [&[0xff, marker][..], &length, content].concat();
    [&data[..2], &segment, &data[2..]].concat()
}

#[test]
fn jpeg_of_every_sampling_and_size_shows_the_view_in_the_colours_of_the_stream() {
    for size in [(320, 240), (322, 182), (321, 181), (176, 720), (16, 16)] {
        for (name, sampling) in [
            ("4:4:4", SamplingFactor::R_4_4_4),
            ("4:2:2", SamplingFactor::R_4_2_2),
            ("4:2:0", SamplingFactor::R_4_2_0),
            ("4:4:0", SamplingFactor::R_4_4_0),
        ] {
            let data = jpeg(size, sampling, 97);
            let bound = if size.0 < 100 { 28.0 } else { 36.0 };
            let db = decode_jpeg(&mut jpeg_decoder(size), &data, size);
            let db = db.unwrap_or_else(|error| panic!("{name} {size:?}: {error}"));
            println!("{name} {size:?}: {db:.1?} dB");
            assert!(db.iter().all(|db| *db > bound), "{name} {size:?}: {db:?}");
        }
    }
}

#[test]
fn black_and_white_of_a_jpeg_become_16_and_235() {
    let size = (32, 32);
    for (value, luma) in [(0, 16), (255, 235), (128, 126)] {
        let mut data = Vec::new();
        JpegEncoder::new(&mut data, 100)
            .encode(&[value; 32 * 32], 32, 32, ColorType::Luma)
            .expect("encodes");
        let mut decoder = jpeg_decoder(size);
        let planes = [PlaneRef {
            bytes: &data,
            stride: 0,
        }];
        let grey = decoder
            .decode(&frame(PixelFormat::Mjpeg, size, &planes))
            .expect("grey is decoded");
        let [y, u, v] = grey.planes().map(|plane| plane.data);
        assert!(
            y.iter().all(|got| got.abs_diff(luma) <= 1),
            "{value}: {}",
            y[0]
        );
        assert!(u.iter().chain(v).all(|got| got.abs_diff(128) <= 1));
    }
}

#[test]
fn jpeg_without_huffman_tables_is_decoded_with_the_standard_ones() {
    let size = (320, 240);
    let full = jpeg(size, SamplingFactor::R_4_2_2, 95);
    let bare = without_tables(&full);
    assert!(bare.len() + 400 < full.len(), "tables were there");
    assert_good(&full, size, "with tables");
    assert_good(&bare, size, "without tables");
}

#[test]
fn what_cameras_put_around_a_jpeg_does_no_harm() {
    let size = (320, 240);
    let data = jpeg(size, SamplingFactor::R_4_2_2, 95);
    let app = with_segment(&data, 0xe1, &[0xd9; 60_000]);
    assert_good(&app, size, "a large APP1 full of what could be markers");
    let whole_avi = with_segment(&data, 0xe0, b"AVI1\0\0\0\0\0\0\0\0\0\0");
    assert_good(&whole_avi, size, "AVI1, whole pictures");
    let comment = with_segment(&data, 0xfe, b"made by nobody");
    assert_good(&comment, size, "a comment");
    for tail in [
        &[0; 4096][..],
        &[0xff; 333],
        &[0xff, 0xd8, 0xff, 0xd9],
        &data,
    ] {
        let trailed = [&data[..], tail].concat();
        assert_good(&trailed, size, "trailing bytes");
    }
    let restarts = jpeg_with(size, 95, |encoder| encoder.set_restart_interval(4));
    assert_good(&restarts, size, "restart markers");
    let optimised = jpeg_with(size, 95, |encoder| {
        encoder.set_optimized_huffman_tables(true)
    });
    assert_good(&optimised, size, "its own Huffman tables");
    let sof = place_of(&data, 0xc0);
    let filled = [&data[..sof], &[0xff; 5], &data[sof..]].concat();
    assert_good(&filled, size, "fill bytes before a marker");
}

#[test]
fn a_camera_that_never_closes_its_pictures_is_taken_as_it_is() {
    let size = (320, 240);
    let data = jpeg(size, SamplingFactor::R_4_2_0, 95);
    let open = &data[..data.len() - 2];
    let mut decoder = jpeg_decoder(size);
    assert!(decode_jpeg(&mut decoder, open, size).is_ok());
    assert!(decode_jpeg(&mut decoder, &data, size).is_ok());
    // Now it is known to close them.
    let error = decode_jpeg(&mut decoder, open, size);
    assert_eq!(error, Err(DecodeError::Truncated));
}

#[test]
fn a_field_is_refused_as_a_field() {
    let data = jpeg((320, 120), SamplingFactor::R_4_2_2, 80);
    let two = [&data[..], &data].concat();
    for fields in [&data, &two] {
        let error = decode_jpeg(&mut jpeg_decoder((320, 240)), fields, (320, 240));
        assert_eq!(error, Err(DecodeError::Interlaced));
    }
}

#[test]
fn jpegs_that_are_not_what_the_camera_agreed_to_are_refused_before_any_memory_is_taken() {
    let size = (320, 240);
    let data = jpeg(size, SamplingFactor::R_4_2_2, 80);
    let sof = place_of(&data, 0xc0);
    let patched = |at: usize, bytes: &[u8]| {
        let mut data = data.clone();
        data[at..at + bytes.len()].copy_from_slice(bytes);
        decode_jpeg(&mut jpeg_decoder(size), &data, size).map(|_| ())
    };
    let huge = patched(sof + 5, &[0xff; 4]);
    assert!(
        matches!(huge, Err(DecodeError::OtherSize { .. })),
        "{huge:?}"
    );
    let flat = patched(sof + 5, &[0, 0]);
    assert!(
        matches!(flat, Err(DecodeError::OtherSize { .. })),
        "{flat:?}"
    );
    for (what, result) in [
        ("12 bits", patched(sof + 4, &[12])),
        ("4 components", patched(sof + 9, &[4])),
        ("3x1 sampling", patched(sof + 11, &[0x31])),
        ("0x0 sampling", patched(sof + 11, &[0])),
        ("lossless", patched(sof + 1, &[0xc3])),
    ] {
        assert!(
            matches!(result, Err(DecodeError::UnsupportedJpeg(_))),
            "{what}: {result:?}"
        );
    }
    let progressive = jpeg_with(size, 80, |encoder| encoder.set_progressive(true));
    let result = decode_jpeg(&mut jpeg_decoder(size), &progressive, size);
    assert!(
        matches!(result, Err(DecodeError::UnsupportedJpeg(_))),
        "{result:?}"
    );
    for (what, data) in [
        ("nothing", &[][..]),
        ("zeros", &[0; 5000]),
        ("H.264", &[0, 0, 0, 1, 0x67]),
    ] {
        let result = decode_jpeg(&mut jpeg_decoder(size), data, size);
        assert_eq!(result, Err(DecodeError::NotJpeg), "{what}");
    }
}

#[test]
fn a_jpeg_cut_off_anywhere_is_an_error_and_the_next_picture_is_whole() {
    let size = (160, 120);
    for sampling in [
        SamplingFactor::R_4_2_2,
        SamplingFactor::R_4_4_4,
        SamplingFactor::R_4_2_0,
    ] {
        let data = jpeg(size, sampling, 90);
        for data in [&data, &without_tables(&data)] {
            let mut decoder = jpeg_decoder(size);
            decode_jpeg(&mut decoder, data, size).expect("whole");
            for end in 0..data.len() - 1 {
                let result = try_jpeg(&mut decoder, &data[..end], size);
                assert!(
                    result.is_err(),
                    "{sampling:?} cut at {end} of {}",
                    data.len()
                );
            }
            let db = decode_jpeg(&mut decoder, data, size).expect("whole again");
            assert!(db[0] > 34.0, "{db:?}");
        }
    }
}

/// The first picture of a camera may be cut off too: then nothing is known of its habits.
#[test]
fn a_first_jpeg_that_is_cut_off_is_an_error_but_for_its_last_rows() {
    let size = (160, 120);
    let data = jpeg(size, SamplingFactor::R_4_2_2, 90);
    for end in 0..data.len() * 9 / 10 {
        let result = try_jpeg(&mut jpeg_decoder(size), &data[..end], size);
        assert!(result.is_err(), "cut at {end} of {}", data.len());
    }
}

/// Numbers from a seed, printed with each failure by the assertions' place.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

#[test]
fn garbage_never_panics() {
    let size = (64, 48);
    let mut random = Random(0x5eed);
    let mut decoder = jpeg_decoder(size);
    let whole = jpeg(size, SamplingFactor::R_4_2_0, 75);
    let bare = without_tables(&whole);
    let (mut good, mut bad) = (0, 0);
    for round in 0..20_000 {
        let mut data = if round % 2 == 0 {
            whole.clone()
        } else {
            bare.clone()
        };
        match round % 5 {
            0 => {
                data = (0..random.next() % 3000)
                    .map(|_| random.next() as u8)
                    .collect()
            }
            1 => {
                let (a, b) = (random.next() % data.len(), random.next() % data.len());
                data.drain(a.min(b)..a.max(b)); // bytes that never came
            }
            _ => {
                for _ in 0..=random.next() % 4 {
                    let at = random.next() % data.len();
                    data[at] = random.next() as u8;
                }
            }
        }
        match try_jpeg(&mut decoder, &data, size) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    println!("{good} decoded, {bad} refused");
    assert!(good > 0 && bad > 0);
    decode_jpeg(&mut decoder, &whole, size).expect("as good as the first");
}
