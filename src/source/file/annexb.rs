//! An H.264 byte stream (ITU-T H.264, Annex B), cut into pictures.
//!
//! In: a reader. Out: the NAL units of one picture after the other.
//! Not here: times, key frames (clip).

use std::io::{Read, Seek, SeekFrom};

use memchr::memmem;

use super::clip::{ClipError, MAX_PICTURE, Nals};
use crate::media::h264::{nal_type, nal_type_of};

/// Reads a stream from its begin, with a window of [`CHUNK`] bytes and the NAL unit at hand.
pub(super) struct Stream<R> {
    reader: R,
    /// From behind a start code on, or anything before the first.
    window: Vec<u8>,
    /// Bytes of `window` in which there is no start code.
    searched: usize,
    has_begun: bool,
    is_at_end: bool,
    /// Belongs to the next picture.
    held: Option<Vec<u8>>,
}

impl<R: Read + Seek> Stream<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            window: Vec::new(),
            searched: 0,
            has_begun: false,
            is_at_end: false,
            held: None,
        }
    }

    pub(super) fn restart(&mut self) -> Result<(), ClipError> {
        self.reader.seek(SeekFrom::Start(0))?;
        self.window.clear();
        (self.searched, self.held) = (0, None);
        (self.has_begun, self.is_at_end) = (false, false);
        Ok(())
    }

    /// The NAL units of the next picture, or what is left at the end.
    pub(super) fn next(&mut self) -> Result<Option<Nals>, ClipError> {
        let mut nals = Nals::default();
        let mut has_slice = false;
        loop {
            let nal = match self.held.take() {
                Some(nal) => nal,
                None => match self.nal()? {
                    Some(nal) => nal,
                    None => return Ok((!nals.ends.is_empty()).then_some(nals)),
                },
            };
            if has_slice && begins_picture(&nal) {
                self.held = Some(nal);
                return Ok(Some(nals));
            }
            has_slice |= is_slice(&nal);
            nals.push(&nal);
            if nals.bytes.len() > MAX_PICTURE {
                return Err(too_large(nals.bytes.len()));
            }
        }
    }

    /// The next NAL unit, without start code and trailing zeros.
    fn nal(&mut self) -> Result<Option<Vec<u8>>, ClipError> {
        loop {
            let found = memmem::find(&self.window[self.searched..], &[0, 0, 1]);
            let (end, rest) = match found.map(|at| at + self.searched) {
                Some(at) => (at, at + 3),
                None if self.is_at_end => (self.window.len(), self.window.len()),
                None => {
                    // A start code may lie across the border.
                    self.searched = self.window.len().saturating_sub(2);
                    self.fill()?;
                    continue;
                }
            };
            let is_last = self.is_at_end && rest == self.window.len() && found.is_none();
            let zeros = self.window[..end]
                .iter()
                .rev()
                .take_while(|b| **b == 0)
                .count();
            let nal = self.window[..end - zeros].to_vec();
            self.window.drain(..rest);
            self.searched = 0;
            let was_begun = std::mem::replace(&mut self.has_begun, true);
            if was_begun && !nal.is_empty() {
                return Ok(Some(nal));
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> Result<(), ClipError> {
        if self.window.len() > MAX_PICTURE {
            return Err(too_large(self.window.len()));
        }
        let mut chunk = self.reader.by_ref().take(CHUNK);
        self.is_at_end = chunk.read_to_end(&mut self.window)? == 0;
        Ok(())
    }
}

fn too_large(bytes: usize) -> ClipError {
    ClipError::Size {
        what: "a picture",
        bytes: bytes as u64,
        max: MAX_PICTURE as u64,
    }
}

fn is_slice(nal: &[u8]) -> bool {
    matches!(nal_type_of(nal), nal_type::SLICE..=nal_type::IDR)
}

/// Whether a NAL unit behind a slice is the first of the next picture (7.4.1.2.3). Of slices that
/// is one with `first_mb_in_slice` 0, written as a single 1 bit.
fn begins_picture(nal: &[u8]) -> bool {
    match nal_type_of(nal) {
        nal_type::SLICE | 2 | nal_type::IDR => nal.get(1).is_some_and(|byte| byte & 0x80 != 0),
        nal_type::SEI | nal_type::SPS | nal_type::PPS | nal_type::ACCESS_UNIT_DELIMITER => true,
        14..=18 => true,
        _ => false,
    }
}

/// Bytes read at once.
const CHUNK: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const SPS: &[u8] = &[0x67, 1];
    const PPS: &[u8] = &[0x68, 2];
    const IDR: &[u8] = &[0x65, 0x88];
    const IDR_SECOND_SLICE: &[u8] = &[0x65, 0x40];
    const DELTA: &[u8] = &[0x41, 0x9a];
    const DELIMITER: &[u8] = &[0x09, 0xf0];

    fn stream(nals: &[&[u8]], code: &[u8]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [code, nal].concat()).collect()
    }

    fn pictures(data: Vec<u8>) -> Vec<Vec<Vec<u8>>> {
        let mut stream = Stream::new(Cursor::new(data));
        let mut all = Vec::new();
        while let Some(nals) = stream.next().expect("in bounds") {
            all.push(nals.iter().map(<[u8]>::to_vec).collect());
        }
        all
    }

    #[test]
    fn pictures_are_cut_where_the_standard_says() {
        let nals = [
            SPS,
            PPS,
            IDR,
            IDR_SECOND_SLICE,
            DELTA,
            DELIMITER,
            DELTA,
            PPS,
            DELTA,
        ];
        for code in [&[0, 0, 1][..], &[0, 0, 0, 1], &[0, 0, 0, 0, 0, 1]] {
            let expected: [&[&[u8]]; 4] = [&nals[..4], &nals[4..5], &nals[5..7], &nals[7..]];
            assert_eq!(pictures(stream(&nals, code)), expected);
        }
    }

    #[test]
    fn units_across_the_border_of_what_is_read_at_once_are_whole() {
        for shift in 0..8 {
            let large = [&[0x65, 0x88][..], &vec![7; CHUNK as usize - 12 + shift]].concat();
            let nals: [&[u8]; 4] = [SPS, PPS, &large, DELTA];
            let data = stream(&nals, &[0, 0, 0, 1]);
            assert_eq!(pictures(data), [&nals[..3], &nals[3..]]);
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        for data in [
            vec![],
            vec![0; 10],
            vec![0, 0, 1],
            vec![1, 2, 3],
            vec![0, 0, 1, 0, 0, 1],
        ] {
            assert_eq!(pictures(data), Vec::<Vec<Vec<u8>>>::new());
        }
    }

    #[test]
    fn a_picture_without_an_end_is_an_error_before_memory_runs_out() {
        let endless = std::iter::once(&[0_u8, 0, 1, 0x65, 0x88][..])
            .chain(std::iter::repeat_n(&[7; 1000][..], 2 * MAX_PICTURE / 1000));
        let data: Vec<u8> = endless.flatten().copied().collect();
        let mut stream = Stream::new(Cursor::new(data));
        assert!(matches!(stream.next(), Err(ClipError::Size { .. })));
        let slices = [0, 0, 1, 0x41, 0x40, 7, 7, 7].repeat(MAX_PICTURE / 3);
        let mut stream = Stream::new(Cursor::new(slices));
        assert!(matches!(stream.next(), Err(ClipError::Size { .. })));
    }

    #[test]
    fn it_can_be_read_again() {
        let data = stream(&[SPS, PPS, IDR, DELTA], &[0, 0, 1]);
        let mut stream = Stream::new(Cursor::new(data));
        for _ in 0..3 {
            let mut count = 0;
            while stream.next().expect("in bounds").is_some() {
                count += 1;
            }
            assert_eq!(count, 2);
            stream.restart().expect("rewinds");
        }
    }
}
