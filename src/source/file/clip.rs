//! A clip without an end: what its file holds, again and again.
//!
//! In: a path. Out: access units with ticks that go on across the loops.
//! Not here: the two kinds of file (annexb, mp4), real time (the module above).

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, ByteReader};

use super::annexb::Stream;
use super::mp4::Movie;
use crate::media::h264::{START_CODE, SpsFacts, is_b_slice, nal_type, nal_type_of};

/// A file that is open and known to hold H.264.
pub struct Clip {
    kind: Kind,
    sets: ParameterSets,
    /// Ticks at which the present loop began.
    base: i64,
    fps: (u64, u64),
    has_started: bool,
}

enum Kind {
    /// With the number of pictures so far in this loop.
    Stream(Stream<fs::File>, u64),
    Movie(Movie<fs::File>),
}

/// One picture.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Annex B; a key frame carries its SPS and PPS.
    pub data: Bytes,
    /// An IDR picture.
    pub is_key_frame: bool,
    /// 90 kHz, from 0 on.
    pub ticks: i64,
}

/// Why a clip cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("{what} of {bytes} bytes; at most {max}")]
    Size {
        what: &'static str,
        bytes: u64,
        max: u64,
    },
    #[error("neither MP4 nor an H.264 byte stream")]
    NotH264,
    #[error("no key frame (IDR) with SPS and PPS")]
    NoKeyFrame,
    #[error("no H.264 track ({0})")]
    NoTrack(String),
    #[error("MP4")]
    Mp4(#[from] mp4_atom::Error),
    #[error("{0}")]
    Broken(&'static str),
}

impl Clip {
    /// Opens a file and looks for its first key frame. `fps` is the rate of a byte stream; without
    /// it the stream's own word holds, else [`DEFAULT_FPS`]. An MP4 has times of its own.
    ///
    /// # Errors
    /// No such file, no H.264 in it, or no key frame.
    pub fn open(path: &Path, fps: Option<u32>) -> Result<Self, ClipError> {
        let mut file = fs::File::open(path).map_err(ClipError::Open)?;
        if !file.metadata().map_err(ClipError::Open)?.is_file() {
            return Err(ClipError::Broken("not a regular file"));
        }
        let mut head = Vec::new();
        file.by_ref().take(SNIFFED).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(0))?;
        let kind = match head.get(4..8) {
            Some(b"ftyp" | b"moov" | b"mdat" | b"free" | b"wide" | b"skip") => {
                Kind::Movie(Movie::open(file)?)
            }
            _ if is_byte_stream(&head) => Kind::Stream(Stream::new(file), 0),
            _ => return Err(ClipError::NotH264),
        };
        let mut clip = Self {
            kind,
            sets: ParameterSets::default(),
            base: 0,
            fps: (u64::from(fps.unwrap_or(DEFAULT_FPS)), 1),
            has_started: false,
        };
        if let Kind::Movie(movie) = &clip.kind {
            clip.sets = ParameterSets {
                sps: movie.sps.clone(),
                pps: movie.pps.clone(),
                has_b: movie.is_reordered,
            };
        }
        let first = clip.next_sample()?;
        if fps.is_none()
            && let Kind::Stream(..) = clip.kind
            && let Some(said) = clip.sets.rate()
        {
            clip.fps = said;
        }
        debug_assert!(first.is_key_frame, "a loop begins with a key frame");
        clip.restart()?;
        clip.base = 0;
        clip.has_started = false;
        Ok(clip)
    }

    /// What the clip is, for a person.
    pub fn describe(&self) -> String {
        let facts = self.sets.sps.first().and_then(|sps| SpsFacts::parse(sps));
        let size = match facts.and_then(|facts| facts.size) {
            Some((width, height)) => format!(" {width}x{height}"),
            None => String::new(),
        };
        let rate = match &self.kind {
            Kind::Stream(..) => {
                let fps = self.fps.0 as f64 / self.fps.1 as f64;
                format!(
                    "byte stream at {} pictures per second",
                    (fps * 100.0).round() / 100.0
                )
            }
            Kind::Movie(_) => "MP4".to_owned(),
        };
        let reordered = match self.sets.has_b {
            true => "; it has B-pictures, which browsers show late or not at all",
            false => "",
        };
        format!("H.264{size}, {rate}{reordered}")
    }

    /// The next picture; behind the last comes the first. A loop begins with its first key frame.
    ///
    /// # Errors
    /// The file cannot be read, breaks its format, or holds no key frame.
    pub fn next_sample(&mut self) -> Result<Sample, ClipError> {
        let mut loops = 0;
        loop {
            let picture = match &mut self.kind {
                Kind::Stream(stream, count) => stream.next()?.map(|nals| {
                    *count += 1;
                    let ticks = (*count - 1).saturating_mul(90_000 * self.fps.1) / self.fps.0;
                    (nals, ticks as i64)
                }),
                Kind::Movie(movie) => movie.next()?,
            };
            let Some((nals, ticks)) = picture else {
                loops += 1;
                if loops > 1 {
                    return Err(ClipError::NoKeyFrame);
                }
                self.restart()?;
                continue;
            };
            let Some((data, is_key_frame)) = self.sets.assemble(&nals) else {
                continue;
            };
            if !self.has_started && !is_key_frame {
                continue;
            }
            self.has_started = true;
            return Ok(Sample {
                data,
                is_key_frame,
                ticks: self.base + ticks,
            });
        }
    }

    fn restart(&mut self) -> Result<(), ClipError> {
        self.base += match &mut self.kind {
            Kind::Stream(stream, count) => {
                let length = count.saturating_mul(90_000 * self.fps.1) / self.fps.0;
                *count = 0;
                stream.restart()?;
                length as i64
            }
            Kind::Movie(movie) => {
                movie.restart();
                movie.length
            }
        };
        self.has_started = false;
        Ok(())
    }
}

/// Zeros and a start code, or at least the latter (Annex B).
fn is_byte_stream(head: &[u8]) -> bool {
    let first = head.iter().position(|byte| *byte != 0);
    first.is_some_and(|at| at >= 2 && head[at] == 1)
}

/// NAL units of one picture, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Nals {
    pub(super) bytes: Vec<u8>,
    /// Where each one ends.
    pub(super) ends: Vec<usize>,
}

impl Nals {
    pub(super) fn push(&mut self, nal: &[u8]) {
        self.bytes.extend_from_slice(nal);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let nal = &self.bytes[begin..*end];
            begin = *end;
            nal
        })
    }
}

/// The latest of the file.
#[derive(Debug, Default)]
struct ParameterSets {
    sps: Vec<Vec<u8>>,
    pps: Vec<Vec<u8>>,
    has_b: bool,
}

impl ParameterSets {
    /// Pictures per second as the SPS has them (E.2.1: two ticks for each), within reason.
    fn rate(&self) -> Option<(u64, u64)> {
        let bits = BitReader::new(ByteReader::skipping_h264_header(&self.sps.first()?[..]));
        let sps = SeqParameterSet::from_bits(bits).ok()?;
        let timing = sps.vui_parameters?.timing_info?;
        let rate = (
            u64::from(timing.time_scale),
            2 * u64::from(timing.num_units_in_tick),
        );
        let is_sane = rate.1 > 0 && rate.0 >= rate.1 && rate.0 <= MAX_FPS * rate.1;
        is_sane.then_some(rate)
    }

    /// Annex B of one picture and whether it is a key frame; `None` where there is no picture, or
    /// a key frame whose parameters are nowhere.
    fn assemble(&mut self, nals: &Nals) -> Option<(Bytes, bool)> {
        let (mut sps, mut pps) = (Vec::new(), Vec::new());
        let (mut has_slice, mut is_key_frame) = (false, false);
        for nal in nals.iter() {
            match nal_type_of(nal) {
                nal_type::SPS => sps.push(nal.to_vec()),
                nal_type::PPS => pps.push(nal.to_vec()),
                nal_type::IDR => (has_slice, is_key_frame) = (true, true),
                nal_type::SLICE => {
                    has_slice = true;
                    self.has_b |= is_b_slice(nal);
                }
                _ => {}
            }
        }
        let (has_sps, has_pps) = (!sps.is_empty(), !pps.is_empty());
        if has_sps {
            sps.truncate(MAX_SETS);
            self.sps = sps;
        }
        if has_pps {
            pps.truncate(MAX_SETS);
            self.pps = pps;
        }
        if !has_slice || self.sps.is_empty() || self.pps.is_empty() {
            return None;
        }
        let mut data = Vec::with_capacity(nals.bytes.len() + 8 * nals.ends.len() + 256);
        let mut put = |nal: &[u8]| {
            data.extend_from_slice(&START_CODE);
            data.extend_from_slice(nal);
        };
        if is_key_frame && !has_sps {
            self.sps.iter().for_each(|nal| put(nal));
        }
        if is_key_frame && !has_pps {
            self.pps.iter().for_each(|nal| put(nal));
        }
        let is_needed = |nal: &&[u8]| {
            !matches!(
                nal_type_of(nal),
                nal_type::ACCESS_UNIT_DELIMITER
                    | nal_type::END_OF_SEQUENCE
                    | nal_type::END_OF_STREAM
                    | nal_type::FILLER
            )
        };
        nals.iter().filter(is_needed).for_each(put);
        Some((data.into(), is_key_frame))
    }
}

/// Pictures per second of a byte stream that does not say.
pub const DEFAULT_FPS: u32 = 25;
/// Bytes of one picture; a larger one ends the clip. 8 MiB is 4 bytes per pixel of 1080p.
pub const MAX_PICTURE: usize = 8 << 20;
/// What a stream may say of itself.
const MAX_FPS: u64 = 120;
/// Parameter sets of one kind that are kept (7.4.1.2.1 has 32 and 256; clips have one or two).
const MAX_SETS: usize = 32;
/// Bytes looked at to tell the kinds of file apart.
const SNIFFED: u64 = 64;
