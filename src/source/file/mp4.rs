//! The H.264 track of an MP4 file (ISO/IEC 14496-12 and -15).
//!
//! In: a reader. Out: the NAL units of one picture after the other, with their times.
//! Not here: the form of boxes (boxes, `mp4-atom`), key frames (clip).

use std::io::{Read, Seek, SeekFrom};

use mp4_atom::{Avcc, Co64, Ctts, Decode, Mdhd, Stco, Stsc, Stsz, StszSamples, Stts};

use super::boxes::{head, part, parts, read};
use super::clip::{ClipError, MAX_PICTURE, Nals};

/// A movie with an index of one track.
pub(super) struct Movie<R> {
    reader: R,
    samples: Vec<Sample>,
    at: usize,
    /// Bytes of the length before each NAL unit, 1 to 4.
    length_size: usize,
    /// Ticks from the first picture of a loop to that of the next.
    pub(super) length: i64,
    pub(super) sps: Vec<Vec<u8>>,
    pub(super) pps: Vec<Vec<u8>>,
    /// It is shown in another order than it is coded in.
    pub(super) is_reordered: bool,
}

/// What the index says of one track.
struct Track {
    /// Ticks per second.
    timescale: u64,
    avcc: Avcc,
    times: Stts,
    /// From when a picture is decoded to when it is shown.
    shifts: Option<Ctts>,
    sizes: Stsz,
    runs: Stsc,
    /// Of chunks, from the beginning of the file.
    offsets: Vec<u64>,
}

/// One picture in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    offset: u64,
    size: u32,
    ticks: i64,
}

impl<R: Read + Seek> Movie<R> {
    pub(super) fn open(mut reader: R) -> Result<Self, ClipError> {
        let end = reader.seek(SeekFrom::End(0))?;
        let moov = find_moov(&mut reader, end)?;
        let track = track(&moov)?;
        let (samples, length) = index(&track)?;
        if samples.is_empty() {
            return Err(match part(&moov, b"mvex") {
                Some(_) => ClipError::Broken(
                    "a fragmented MP4; `ffmpeg -i IN -c copy OUT.mp4` makes a plain one of it",
                ),
                None => ClipError::Broken("an MP4 without pictures"),
            });
        }
        if samples
            .iter()
            .any(|s| s.offset.saturating_add(u64::from(s.size)) > end)
        {
            return Err(ClipError::Broken("an MP4 that is cut off"));
        }
        let shifts = track.shifts.iter().flat_map(|ctts| &ctts.entries);
        let mut shifts = shifts.map(|entry| entry.sample_offset);
        let first = shifts.next();
        Ok(Self {
            reader,
            samples,
            at: 0,
            length_size: usize::from(track.avcc.length_size),
            length,
            is_reordered: shifts.any(|shift| Some(shift) != first),
            sps: track.avcc.sequence_parameter_sets,
            pps: track.avcc.picture_parameter_sets,
        })
    }

    pub(super) fn restart(&mut self) {
        self.at = 0;
    }

    /// The NAL units and the time of the next picture, in 90 kHz ticks from the first.
    pub(super) fn next(&mut self) -> Result<Option<(Nals, i64)>, ClipError> {
        let Some(sample) = self.samples.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        let mut data = vec![0; sample.size as usize];
        self.reader.seek(SeekFrom::Start(sample.offset))?;
        self.reader.read_exact(&mut data)?;
        let mut nals = Nals::default();
        let mut rest = &data[..];
        while let Some((length, body)) = rest.split_at_checked(self.length_size) {
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let Some((nal, behind)) = body.split_at_checked(length) else {
                return Err(ClipError::Broken(
                    "a picture whose parts do not fit into it",
                ));
            };
            if !nal.is_empty() {
                nals.push(nal);
            }
            rest = behind;
        }
        Ok(Some((nals, sample.ticks)))
    }
}

/// What is in the index: walks over the boxes of the file to it.
fn find_moov<R: Read + Seek>(reader: &mut R, end: u64) -> Result<Vec<u8>, ClipError> {
    let mut at = 0;
    while at + 8 <= end {
        reader.seek(SeekFrom::Start(at))?;
        let mut bytes = [0; 16];
        let got = usize::min(16, (end - at) as usize);
        reader.read_exact(&mut bytes[..got])?;
        let Some((kind, head, size)) = head(&bytes[..got], end - at) else {
            return Err(ClipError::Broken("an MP4 that is cut off"));
        };
        if kind == *b"moov" {
            if size > MAX_INDEX {
                return Err(ClipError::Size {
                    what: "an MP4 index",
                    bytes: size,
                    max: MAX_INDEX,
                });
            }
            let mut data = vec![0; (size - head) as usize];
            reader.seek(SeekFrom::Start(at + head))?;
            reader.read_exact(&mut data)?;
            return Ok(data);
        }
        at += size;
    }
    Err(ClipError::Broken("an MP4 without an index (moov)"))
}

/// The first track of H.264.
fn track(moov: &[u8]) -> Result<Track, ClipError> {
    let mut others = Vec::new();
    for trak in parts(moov).filter(|part| part.kind == *b"trak") {
        let Some(mdia) = part(trak.body, b"mdia") else {
            continue;
        };
        let minf = part(mdia.body, b"minf");
        let Some(table) = minf.and_then(|minf| part(minf.body, b"stbl")) else {
            continue;
        };
        let codings = part(table.body, b"stsd").and_then(|stsd| stsd.body.get(STSD_HEAD..));
        for coding in parts(codings.unwrap_or_default()) {
            if coding.kind == *b"avc1" || coding.kind == *b"avc3" {
                let parts = coding.body.get(VISUAL_HEAD..).unwrap_or_default();
                return whole_track(mdia.body, table.body, read(parts, b"avcC")?);
            }
            others.push(coding.kind.escape_ascii().to_string());
        }
    }
    others.truncate(8);
    Err(ClipError::NoTrack(match others.is_empty() {
        true => "no track at all".to_owned(),
        false => format!("only {}", others.join(", ")),
    }))
}

fn whole_track(mdia: &[u8], table: &[u8], avcc: Option<Avcc>) -> Result<Track, ClipError> {
    let Some(avcc) = avcc else {
        return Err(ClipError::Broken("an H.264 track without avcC"));
    };
    if !(1..=4).contains(&avcc.length_size) {
        return Err(ClipError::Broken("an H.264 track with a wrong length size"));
    }
    let clock: Mdhd = needed(mdia, b"mdhd", "an MP4 track without a clock")?;
    let short: Option<Stco> = read(table, b"stco")?;
    let long: Option<Co64> = read(table, b"co64")?;
    let short = short.into_iter().flat_map(|stco| stco.entries);
    let long = long.into_iter().flat_map(|co64| co64.entries);
    Ok(Track {
        timescale: u64::from(clock.timescale),
        avcc,
        times: needed(table, b"stts", "an MP4 track without times")?,
        shifts: read(table, b"ctts")?,
        sizes: needed(table, b"stsz", "an MP4 track without sizes")?,
        runs: needed(table, b"stsc", "an MP4 track without places")?,
        offsets: short.map(u64::from).chain(long).collect(),
    })
}

fn needed<T: Decode>(bytes: &[u8], kind: &[u8; 4], missing: &'static str) -> Result<T, ClipError> {
    match read(bytes, kind)? {
        Some(read) => Ok(read),
        None => Err(ClipError::Broken(missing)),
    }
}

/// Where every picture lies and when it comes, and how long all of them last (8.6 and 8.7).
fn index(track: &Track) -> Result<(Vec<Sample>, i64), ClipError> {
    let timescale = track.timescale;
    if timescale == 0 {
        return Err(ClipError::Broken("an MP4 track without a clock"));
    }
    let count = match &track.sizes.samples {
        StszSamples::Identical { count, .. } => *count as usize,
        StszSamples::Different { sizes } => sizes.len(),
    };
    if count > MAX_SAMPLES {
        return Err(ClipError::Size {
            what: "an MP4 track of so many pictures in place",
            bytes: count as u64,
            max: MAX_SAMPLES as u64,
        });
    }
    let size_of = |n: usize| match &track.sizes.samples {
        StszSamples::Identical { size, .. } => *size,
        StszSamples::Different { sizes } => sizes[n],
    };
    let mut deltas = track.times.entries.iter().flat_map(|entry| {
        std::iter::repeat_n(u64::from(entry.sample_delta), entry.sample_count as usize)
    });
    let mut chunks = chunks(track);
    let (mut left, mut offset, mut time, mut last) = (0, 0_u64, 0_u64, 0);
    let mut samples = Vec::with_capacity(count);
    for n in 0..count {
        while left == 0 {
            (offset, left) = chunks
                .next()
                .ok_or(ClipError::Broken("an MP4 with more pictures than places"))?;
        }
        let size = size_of(n);
        if size as usize > MAX_PICTURE {
            return Err(ClipError::Size {
                what: "a picture",
                bytes: u64::from(size),
                max: MAX_PICTURE as u64,
            });
        }
        samples.push(Sample {
            offset,
            size,
            ticks: to_ticks(time, timescale),
        });
        offset = offset.saturating_add(u64::from(size));
        left -= 1;
        last = deltas.next().unwrap_or(last);
        time = time.saturating_add(last);
    }
    // Without any duration the clip would spin.
    let length = to_ticks(time, timescale);
    let mean = length / count.max(1) as i64;
    if count > 0 && mean < MIN_MEAN {
        return Err(ClipError::Broken("an MP4 track without times"));
    }
    Ok((samples, length))
}

/// Offset and number of pictures of each chunk.
fn chunks(track: &Track) -> impl Iterator<Item = (u64, u32)> {
    let (runs, mut run) = (&track.runs.entries, 0);
    let offsets = track.offsets.iter().copied();
    offsets.zip(1_u32..).map(move |(offset, number)| {
        while runs
            .get(run + 1)
            .is_some_and(|next| next.first_chunk <= number)
        {
            run += 1;
        }
        (offset, runs.get(run).map_or(0, |run| run.samples_per_chunk))
    })
}

fn to_ticks(time: u64, timescale: u64) -> i64 {
    let ticks = u128::from(time) * 90_000 / u128::from(timescale);
    i64::try_from(ticks).unwrap_or(i64::MAX / 4)
}

/// What comes before the entries of an `stsd` box (8.5.2): version, flags, their number.
const STSD_HEAD: usize = 8;
/// What comes before the boxes of a visual sample entry (8.5.2 and 12.1.3).
const VISUAL_HEAD: usize = 78;
/// Bytes of an index: half a day at 60 pictures per second has less.
const MAX_INDEX: u64 = 64 << 20;
/// Pictures of a clip: nine hours at 60 per second.
const MAX_SAMPLES: usize = 2_000_000;
/// Mean ticks of a picture: 240 per second at most.
const MIN_MEAN: i64 = 90_000 / 240;
