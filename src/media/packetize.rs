//! Cuts an H.264 access unit into RTP payloads once, for all viewers (RFC 6184).
//!
//! In: Annex B bytes and the room for a payload. Out: shared payloads in order.
//! Not here: RTP headers, sequence numbers, who receives them (session).

use std::sync::Arc;

use super::h264::{nal_type, nal_type_of, nal_units};

/// One RTP payload, shared by all viewers and by their repair caches.
pub type Payload = Arc<[u8]>;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_HEADER_LEN: usize = 2;
const NRI_MASK: u8 = 0x60;

/// The smallest room that leaves sense in fragmenting.
pub const MIN_PAYLOAD: usize = 100;

/// Cuts one access unit into payloads of at most `max` bytes (at least [`MIN_PAYLOAD`] is
/// used): small neighbours are gathered into a STAP-A, large units are split into FU-A fragments
/// of equal size, so that the kernel can cut them from one buffer (UDP GSO). Access unit
/// delimiters, filler and end markers are left out: they say nothing to an RTP receiver.
pub fn packetize(data: &[u8], max: usize) -> Vec<Payload> {
    let max = max.max(MIN_PAYLOAD);
    let mut payloads = Vec::with_capacity(data.len() / max + 4);
    let mut small: Vec<&[u8]> = Vec::new();
    let mut small_len = 1; // the STAP-A header
    for nal in nal_units(data).filter(|nal| is_sent(nal)) {
        let is_parameter = nal_type_of(nal) != nal_type::SLICE && nal_type_of(nal) != nal_type::IDR;
        if is_parameter && small_len + 2 + nal.len() <= max {
            small_len += 2 + nal.len();
            small.push(nal);
            continue;
        }
        flush_small(&mut small, &mut payloads);
        small_len = 1;
        if nal.len() <= max {
            payloads.push(Payload::from(nal));
        } else {
            fragment(nal, max, &mut payloads);
        }
    }
    flush_small(&mut small, &mut payloads);
    payloads
}

fn is_sent(nal: &[u8]) -> bool {
    use nal_type::{ACCESS_UNIT_DELIMITER, END_OF_SEQUENCE, END_OF_STREAM, FILLER};
    // Types 0 and 24 to 31 have other meanings inside RTP payloads (RFC 6184 table 1).
    matches!(nal_type_of(nal), 1..=23)
        && !matches!(
            nal_type_of(nal),
            ACCESS_UNIT_DELIMITER | END_OF_SEQUENCE | END_OF_STREAM | FILLER
        )
}

/// One unit goes as it is, several as a STAP-A (section 5.7.1).
fn flush_small(small: &mut Vec<&[u8]>, payloads: &mut Vec<Payload>) {
    match small.as_slice() {
        [] => {}
        [one] => payloads.push(Payload::from(*one)),
        several => {
            let nri = several.iter().map(|nal| nal[0] & NRI_MASK).max();
            let mut payload = vec![STAP_A | nri.unwrap_or(0)];
            for nal in several {
                // Every unit fits a payload, and a payload fits a datagram: no cut is possible.
                payload.extend_from_slice(&(nal.len() as u16).to_be_bytes());
                payload.extend_from_slice(nal);
            }
            payloads.push(payload.into());
        }
    }
    small.clear();
}

/// FU-A (section 5.8): the header byte is carried in the two FU bytes of every fragment.
fn fragment(nal: &[u8], max: usize, payloads: &mut Vec<Payload>) {
    let (header, body) = (nal[0], &nal[1..]);
    let count = body.len().div_ceil(max - FU_HEADER_LEN);
    let size = body.len().div_ceil(count);
    let last = body.len().div_ceil(size) - 1;
    for (i, part) in body.chunks(size).enumerate() {
        let start = if i == 0 { 0x80 } else { 0 };
        let end = if i == last { 0x40 } else { 0 };
        let fu = [header & !0x1f | FU_A, start | end | header & 0x1f];
        payloads.push(joined(fu, part));
    }
}

/// One allocation and one copy of the picture's bytes.
fn joined(head: [u8; FU_HEADER_LEN], body: &[u8]) -> Payload {
    let mut payload: Payload = std::iter::repeat_n(0, FU_HEADER_LEN + body.len()).collect();
    let bytes = Arc::get_mut(&mut payload).expect("made here, shared with nobody yet");
    bytes[..FU_HEADER_LEN].copy_from_slice(&head);
    bytes[FU_HEADER_LEN..].copy_from_slice(body);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::h264::START_CODE;

    fn annex_b(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter()
            .flat_map(|nal| START_CODE.iter().chain(*nal).copied())
            .collect()
    }

    #[test]
    fn parameter_sets_travel_together_before_the_picture() {
        let idr = vec![0x65; 50];
        let data = annex_b(&[&[0x09, 0xf0], &[0x67, 1, 2], &[0x68, 3], &idr]);
        let payloads = packetize(&data, 1120);
        assert_eq!(&*payloads[0], [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3]);
        assert_eq!(&*payloads[1], &idr[..]);
        assert_eq!(payloads.len(), 2);
    }

    #[test]
    fn a_large_unit_is_cut_into_equal_fragments_that_join_again() {
        let mut idr: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8 | 1).collect();
        idr[0] = 0x65;
        let payloads = packetize(&annex_b(&[&idr]), 1120);
        assert_eq!(payloads.len(), 5);
        let (last, rest) = payloads.split_last().unwrap();
        assert!(rest.iter().all(|p| p.len() == rest[0].len()));
        assert!(last.len() <= rest[0].len());
        assert_eq!(payloads[0][..2], [0x7c, 0x85]);
        assert_eq!(payloads[1][..2], [0x7c, 0x05]);
        assert_eq!(last[..2], [0x7c, 0x45]);
        let mut joined = vec![0x65];
        payloads
            .iter()
            .for_each(|p| joined.extend_from_slice(&p[2..]));
        assert_eq!(joined, idr);
    }

    #[test]
    fn every_size_joins_again_within_the_room() {
        for len in 1..700 {
            let nal: Vec<u8> = std::iter::once(0x41).chain((1..len).map(|_| 7)).collect();
            let payloads = packetize(&annex_b(&[&nal]), MIN_PAYLOAD);
            assert!(payloads.iter().all(|p| p.len() <= MIN_PAYLOAD), "{len}");
            let body: usize = match payloads.len() {
                1 => payloads[0].len() - 1,
                _ => payloads.iter().map(|p| p.len() - FU_HEADER_LEN).sum(),
            };
            assert_eq!(body, nal.len() - 1, "{len}");
        }
    }

    #[test]
    fn an_empty_or_foreign_unit_gives_nothing() {
        assert!(packetize(&[], 1120).is_empty());
        assert!(packetize(&annex_b(&[&[0x09, 0xf0], &[0x0c, 0xff], &[0x1c, 1]]), 1120).is_empty());
    }
}
