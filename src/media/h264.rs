//! H.264 facts: NAL units of an Annex B byte stream, what an SPS says, what a slice is.
//!
//! In: Annex B bytes. Out: borrowed NAL units, [`SpsFacts`].
//! Not here: RTP (packetize), decoding.

use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, ByteReader};
use memchr::memmem;

/// `nal_unit_type` values of ITU-T H.264 table 7-1 that this program tells apart.
pub mod nal_type {
    pub const SLICE: u8 = 1;
    pub const IDR: u8 = 5;
    pub const SEI: u8 = 6;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const ACCESS_UNIT_DELIMITER: u8 = 9;
    pub const END_OF_SEQUENCE: u8 = 10;
    pub const END_OF_STREAM: u8 = 11;
    pub const FILLER: u8 = 12;
}

/// Start code put before each NAL unit (Annex B, B.1.1).
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The `nal_unit_type` of a NAL unit; 0 (unspecified) for an empty one.
pub fn nal_type_of(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

/// The NAL units of an Annex B stream, without start codes and without the zero bytes that may
/// trail a unit (B.1.1 `trailing_zero_8bits`). Bytes before the first start code are skipped.
pub fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = memmem::find_iter(data, &[0, 0, 1]).map(|at| at + 3);
    let mut next = starts.next();
    std::iter::from_fn(move || {
        loop {
            let begin = next?;
            next = starts.next();
            let end = next.map_or(data.len(), |following| following - 3);
            let nal = trim_zeros(&data[begin..end.max(begin)]);
            if !nal.is_empty() {
                return Some(nal);
            }
        }
    })
}

fn trim_zeros(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &nal[..end]
}

/// `profile_idc`, constraint flags and `level_idc`, as SDP writes them in `profile-level-id`
/// (RFC 6184 section 8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProfileLevelId(pub [u8; 3]);

impl ProfileLevelId {
    /// Reads six hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 6 || !text.is_ascii() {
            return None;
        }
        let value = u32::from_str_radix(text, 16).ok()?;
        let [_, profile, flags, level] = value.to_be_bytes();
        Some(Self([profile, flags, level]))
    }

    /// As one number, `0x42e01f` for `42e01f`.
    pub fn as_u32(self) -> u32 {
        u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]])
    }

    /// How much a decoder must be able to do, for choosing the nearest type below: constrained
    /// baseline < baseline < main < extended < high and what builds on it. A stream may keep to the
    /// bounds of a lesser profile too, and say so in its flags (RFC 6184 section 8.1, table 5).
    pub fn rank(self) -> u8 {
        let [profile, flags, _] = self.0;
        let set0 = flags & 0x80 != 0; // as in baseline
        let set1 = flags & 0x40 != 0; // as in main
        match profile {
            66 if set1 => 0,
            77 if set0 => 0,
            88 if set0 && set1 => 0,
            66 => 1,
            88 if set0 => 1,
            77 => 2,
            88 => 3,
            100 => 4,
            110 => 5,
            122 => 6,
            _ => 7,
        }
    }
}

impl std::fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06x}", self.as_u32())
    }
}

/// What a sequence parameter set says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpsFacts {
    pub profile_level_id: ProfileLevelId,
    /// Pixels, cropping applied; `None` where the SPS is beyond our parser.
    pub size: Option<(u32, u32)>,
}

impl SpsFacts {
    /// Reads an SPS NAL unit (header byte included). `None` if it is too short to be one.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let &[_, profile, flags, level, ..] = nal else {
            return None;
        };
        let bits = BitReader::new(ByteReader::skipping_h264_header(nal));
        let size = SeqParameterSet::from_bits(bits)
            .ok()
            .and_then(|sps| sps.pixel_dimensions().ok());
        Some(Self {
            profile_level_id: ProfileLevelId([profile, flags, level]),
            size,
        })
    }
}

/// Whether a coded slice is a B slice (`slice_type` 1 or 6, table 7-6). Looks at the first bits
/// of the slice header only.
pub fn is_b_slice(nal: &[u8]) -> bool {
    if nal_type_of(nal) != nal_type::SLICE {
        return false;
    }
    // The two values fit the first few bytes, where emulation prevention cannot occur before a
    // run of zeros that no slice_type follows.
    let mut bits = Bits::new(&nal[1..nal.len().min(16)]);
    let first_mb = bits.exp_golomb();
    let slice_type = bits.exp_golomb();
    first_mb.is_some() && matches!(slice_type, Some(1 | 6))
}

/// The little of a bit reader that a slice header's first two values need.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = *self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// `ue(v)` of section 9.1, at most 31 leading zeros.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let mut value = 1u32;
        for _ in 0..zeros {
            value = value << 1 | self.bit()?;
        }
        Some(value - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 1280x720 constrained baseline 3.1, as openh264 writes it.
    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdd, 0x80, 0xb5, 0x01, 0x01, 0x01,
        0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc6, 0x0c, 0xa8,
    ];

    #[test]
    fn annex_b_is_cut_at_both_kinds_of_start_code() {
        let data = [
            9, 9, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 0, 1, 0x65, 4, 0,
        ];
        let nals: Vec<&[u8]> = nal_units(&data).collect();
        assert_eq!(nals, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 4]]);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        for data in [&[][..], &[0, 0, 1], &[0, 0, 0, 1, 0, 0, 1], &[1, 2, 3]] {
            assert_eq!(nal_units(data).count(), 0, "{data:?}");
        }
    }

    #[test]
    fn sps_tells_profile_and_size() {
        let facts = SpsFacts::parse(SPS).unwrap();
        assert_eq!(facts.profile_level_id.to_string(), "42c01f");
        assert_eq!(facts.size.map(|s| s.0), Some(1280));
    }

    #[test]
    fn a_broken_sps_still_tells_its_profile() {
        assert_eq!(
            SpsFacts::parse(&[0x67, 0x64, 0, 0x28]).map(|f| (f.profile_level_id.as_u32(), f.size)),
            Some((0x640028, None))
        );
        assert_eq!(SpsFacts::parse(&[0x67, 0x64]), None);
    }

    #[test]
    fn b_slices_are_told_from_p_slices() {
        // first_mb_in_slice = 0 ("1"), slice_type: 0 = "1", 1 = "010", 5 = "00110", 6 = "00111"
        assert!(!is_b_slice(&[0x41, 0b1100_0000]));
        assert!(is_b_slice(&[0x01, 0b1010_0000]));
        assert!(!is_b_slice(&[0x41, 0b1001_1000]));
        assert!(is_b_slice(&[0x01, 0b1001_1100]));
        assert!(!is_b_slice(&[0x65, 0b1010_0000]), "an IDR has no B slices");
        assert!(!is_b_slice(&[0x01]));
        assert!(!is_b_slice(&[0x01, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn profiles_rank_by_what_they_ask_of_a_decoder() {
        let rank = |text| ProfileLevelId::parse(text).unwrap().rank();
        assert!(rank("42e01f") < rank("42001f"));
        assert!(rank("42001f") < rank("4d001f"));
        assert!(rank("4d001f") < rank("640028"));
        assert!(rank("640028") < rank("f4001f"));
        assert_eq!(ProfileLevelId::parse("42e01"), None);
        assert_eq!(ProfileLevelId::parse("42é1f"), None);
    }
}
