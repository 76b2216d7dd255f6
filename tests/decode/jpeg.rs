//! JPEG, as cameras send it.

use jpeg_encoder::{ColorType, Encoder as JpegEncoder, SamplingFactor};
use pinhole::media::pixel::{Colour, PixelFormat};
use pinhole::source::decode::{DecodeError, Decoder, PlaneRef};

use crate::view::*;

/// The view as a JPEG.
pub fn jpeg(size: (usize, usize), sampling: SamplingFactor, quality: u8) -> Vec<u8> {
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
