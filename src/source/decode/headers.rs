//! The segments of a JPEG before its picture data (ITU-T T.81, Annex B): what a camera sent, and
//! whether it is what it announced.
//!
//! In: bytes. Out: where the parts lie, or what is wrong.
//! Not here: the picture data itself (jpeg).

use memchr::memmem;

use super::DecodeError;

/// What a JPEG of a camera is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    /// Where the start of scan (marker included) begins.
    pub(super) scan: usize,
    /// Where the first picture ends: behind its end of image, or with the data.
    pub(super) end: usize,
    /// There is an end of image.
    pub(super) is_closed: bool,
    /// There are Huffman tables.
    pub(super) has_tables: bool,
}

/// Looks at every segment. Only baseline pictures of 8 bits and of `size` pass, so that memory
/// and time are bounded by what the camera agreed to.
pub(super) fn read(data: &[u8], size: (usize, usize)) -> Result<Headers, DecodeError> {
    if !data.starts_with(&[0xff, marker::START_OF_IMAGE]) {
        return Err(DecodeError::NotJpeg);
    }
    let (mut at, mut has_tables, mut has_frame) = (2, false, false);
    loop {
        let (kind, begin) = next_marker(data, at)?;
        if matches!(
            kind,
            marker::RESTART_FIRST..=marker::RESTART_LAST | marker::TEMPORARY
        ) {
            at = begin;
            continue;
        }
        if kind == marker::END_OF_IMAGE {
            return Err(broken("it ends before its picture"));
        }
        let segment = segment(data, begin)?;
        match kind {
            marker::BASELINE | marker::EXTENDED => {
                frame(segment, size)?;
                has_frame = true;
            }
            marker::HUFFMAN_TABLES => has_tables = true,
            marker::ARITHMETIC_TABLES => {
                return Err(DecodeError::UnsupportedJpeg("arithmetic JPEG"));
            }
            marker::FRAME_FIRST..=marker::FRAME_LAST => {
                return Err(DecodeError::UnsupportedJpeg("progressive or lossless JPEG"));
            }
            marker::START_OF_SCAN if !has_frame => return Err(broken("a scan without a frame")),
            marker::START_OF_SCAN => {
                let body = begin + 2 + segment.len();
                let closed = memmem::find(&data[body..], &[0xff, marker::END_OF_IMAGE]);
                return Ok(Headers {
                    scan: begin - 2,
                    end: closed.map_or(data.len(), |end| body + end + 2),
                    is_closed: closed.is_some(),
                    has_tables,
                });
            }
            _ => {} // tables, comments, applications
        }
        at = begin + 2 + segment.len();
    }
}

/// The marker at `at`, behind any fill bytes, and where what follows it begins.
fn next_marker(data: &[u8], mut at: usize) -> Result<(u8, usize), DecodeError> {
    if *data.get(at).ok_or(DecodeError::Truncated)? != 0xff {
        return Err(broken("no marker behind a segment"));
    }
    while *data.get(at).ok_or(DecodeError::Truncated)? == 0xff {
        at += 1;
    }
    Ok((data[at], at + 1))
}

/// The content of the segment whose length stands at `begin`.
fn segment(data: &[u8], begin: usize) -> Result<&[u8], DecodeError> {
    let Some(&[high, low]) = data.get(begin..begin + 2) else {
        return Err(DecodeError::Truncated);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let length = length
        .checked_sub(2)
        .ok_or_else(|| broken("a segment shorter than itself"))?;
    data.get(begin + 2..begin + 2 + length)
        .ok_or(DecodeError::Truncated)
}

/// Checks a frame header (B.2.2).
fn frame(segment: &[u8], expected: (usize, usize)) -> Result<(), DecodeError> {
    let &[precision, h1, h0, w1, w0, count, ref components @ ..] = segment else {
        return Err(broken("a frame header that is too short"));
    };
    if precision != 8 {
        return Err(DecodeError::UnsupportedJpeg("JPEG of more than 8 bits"));
    }
    let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
    let got = (side(w1, w0), side(h1, h0));
    // Two pictures of half the height, one for each field, as some capture boxes send them.
    if got != expected && got == (expected.0, expected.1 / 2) {
        return Err(DecodeError::Interlaced);
    }
    if got != expected {
        return Err(DecodeError::OtherSize { got, expected });
    }
    if !matches!(count, 1 | 3) {
        return Err(DecodeError::UnsupportedJpeg(
            "JPEG of other colours than YCbCr",
        ));
    }
    if components.len() != usize::from(count) * 3 {
        return Err(broken("a frame header of the wrong length"));
    }
    let is_known = |factors: u8| matches!(factors >> 4, 1 | 2 | 4) && matches!(factors & 15, 1 | 2);
    if !components.as_chunks::<3>().0.iter().all(|c| is_known(c[1])) {
        return Err(DecodeError::UnsupportedJpeg(
            "JPEG of an unusual chroma sampling",
        ));
    }
    Ok(())
}

fn broken(what: &str) -> DecodeError {
    DecodeError::BrokenJpeg(what.to_owned())
}

/// Second bytes of markers (T.81 table B.1).
mod marker {
    pub(super) const TEMPORARY: u8 = 0x01;
    pub(super) const BASELINE: u8 = 0xc0;
    pub(super) const EXTENDED: u8 = 0xc1;
    pub(super) const FRAME_FIRST: u8 = 0xc2;
    pub(super) const FRAME_LAST: u8 = 0xcf;
    pub(super) const HUFFMAN_TABLES: u8 = 0xc4;
    pub(super) const ARITHMETIC_TABLES: u8 = 0xcc;
    pub(super) const RESTART_FIRST: u8 = 0xd0;
    pub(super) const RESTART_LAST: u8 = 0xd7;
    pub(super) const START_OF_IMAGE: u8 = 0xd8;
    pub(super) const END_OF_IMAGE: u8 = 0xd9;
    pub(super) const START_OF_SCAN: u8 = 0xda;
}
