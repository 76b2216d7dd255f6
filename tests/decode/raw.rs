//! Raw formats.

use std::time::Instant;

use jpeg_encoder::SamplingFactor;
use pinhole::config::EncoderChoice;
use pinhole::media::pixel::{Colour, Layout, PixelFormat};
use pinhole::source::decode::{DecodeError, Decoder};
use pinhole::source::encode::{self, Coded, Settings};

use crate::jpeg::jpeg;
use crate::view::*;

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
