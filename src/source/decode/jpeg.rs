//! JPEG pictures of cameras, by `zune-jpeg`.
//!
//! In: one picture's bytes and the size that was agreed. Out: RGB rows.
//! Not here: segments (headers), RGB to I420 (packed).
//!
//! Why zune-jpeg: it is Rust alone, so every target builds with the compiler at hand, and its
//! bounds checks stand between a USB device and our memory. libjpeg-turbo takes two thirds of its
//! time on x86, at the price of CMake, NASM and C in every cross build. Its fastest way out is RGB,
//! which costs the same as the range and matrix conversion that JPEG colours need anyway.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::DecodeError;
use super::headers::{self, Headers};

/// Buffers kept from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Jpeg {
    rgb: Vec<u8>,
    /// A picture with Huffman tables put in.
    completed: Vec<u8>,
    /// This camera ends its pictures as it should: one without an end is cut off.
    closes: bool,
}

impl Jpeg {
    /// RGB rows of the whole picture and their stride.
    pub(super) fn decode(
        &mut self,
        data: &[u8],
        size: (usize, usize),
    ) -> Result<(&[u8], usize), DecodeError> {
        let headers = headers::read(data, size)?;
        if self.closes && !headers.is_closed {
            return Err(DecodeError::Truncated);
        }
        let picture = complete(data, &headers, &mut self.completed);
        self.rgb.resize(size.0 * size.1 * 3, 0);
        decode(picture, size, &mut self.rgb)?;
        self.closes |= headers.is_closed;
        Ok((&self.rgb, size.0 * 3))
    }
}

/// The first picture in `data`, with tables if it has none.
fn complete<'a>(data: &'a [u8], headers: &Headers, completed: &'a mut Vec<u8>) -> &'a [u8] {
    if headers.has_tables {
        return &data[..headers.end];
    }
    completed.clear();
    completed.extend_from_slice(&data[..headers.scan]);
    tables::write(completed);
    completed.extend_from_slice(&data[headers.scan..headers.end]);
    completed
}

fn decode(data: &[u8], size: (usize, usize), rgb: &mut [u8]) -> Result<(), DecodeError> {
    let options = DecoderOptions::default()
        .set_strict_mode(true) // else what is missing is painted over
        .set_max_width(size.0)
        .set_max_height(size.1)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
    // The decoder is made for hostile input; should it be wrong about that, one picture is lost.
    catch_unwind(AssertUnwindSafe(|| decoder.decode_into(rgb)))
        .unwrap_or_else(|_| Err("the decoder panicked".into()))
        .map_err(|error| DecodeError::BrokenJpeg(short(&error.to_string())))
}

/// Errors of the decoder may quote at length.
fn short(text: &str) -> String {
    text.chars().take(MAX_DETAIL).collect()
}

const MAX_DETAIL: usize = 200;

mod tables {
    //! The typical Huffman tables (ITU-T T.81, Annex K.3), which Motion JPEG leaves out.

    /// Appends one segment with all four.
    pub(super) fn write(to: &mut Vec<u8>) {
        let tables: [(u8, &[u8; 16], &[u8]); 4] = [
            (0x00, &DC_LUMA, &DC),
            (0x10, &AC_LUMA.0, &AC_LUMA.1),
            (0x01, &DC_CHROMA, &DC),
            (0x11, &AC_CHROMA.0, &AC_CHROMA.1),
        ];
        let length = 2 + tables.iter().map(|t| 17 + t.2.len()).sum::<usize>();
        to.extend_from_slice(&[0xff, 0xc4]);
        to.extend_from_slice(&(length as u16).to_be_bytes());
        for (class_and_place, counts, values) in tables {
            to.push(class_and_place);
            to.extend_from_slice(counts);
            to.extend_from_slice(values);
        }
    }

    /// Tables K.3 and K.4: codes of each length from 1 to 16 bits; both have these values.
    const DC_LUMA: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
    const DC_CHROMA: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
    const DC: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

    /// Table K.5: run of zeros and size, by length of code.
    #[rustfmt::skip]
    const AC_LUMA: ([u8; 16], [u8; 162]) = (
        [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
        [
            0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
            0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
            0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
            0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
            0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
            0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
            0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
            0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
            0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
            0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
            0xf9, 0xfa,
        ],
    );

    /// Table K.6: run of zeros and size, by length of code.
    #[rustfmt::skip]
    const AC_CHROMA: ([u8; 16], [u8; 162]) = (
        [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
        [
            0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
            0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
            0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
            0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
            0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
            0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
            0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
            0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
            0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
            0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
            0xf9, 0xfa,
        ],
    );
}
