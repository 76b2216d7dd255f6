//! H.264 as a camera may send it: split into units, read, cut into RTP payloads, and joined again
//! by the rules of RFC 6184. What goes in comes out, in payloads that fit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinhole::media::h264::{SpsFacts, is_b_slice, nal_type_of, nal_units};
use pinhole::media::packetize::{MIN_PAYLOAD, packetize};

fuzz_target!(|data: &[u8]| {
    let Some((&room, data)) = data.split_first() else {
        return;
    };
    let room = usize::from(room) * 5;
    let units: Vec<&[u8]> = nal_units(data).collect();
    for unit in &units {
        assert!(!unit.is_empty() && unit.last() != Some(&0));
        let _ = SpsFacts::parse(unit);
        let _ = is_b_slice(unit);
    }
    let sent = units.iter().filter(|unit| {
        let kind = nal_type_of(unit);
        (1..=23).contains(&kind) && !(9..=12).contains(&kind)
    });
    let sent: Vec<Vec<u8>> = sent.map(|unit| unit.to_vec()).collect();
    let payloads = packetize(data, room);
    let mut joined = Vec::new();
    for payload in &payloads {
        assert!(
            payload.len() <= room.max(MIN_PAYLOAD),
            "a payload is too long"
        );
        unpack(payload, &mut joined);
    }
    assert_eq!(joined, sent);
});

/// Adds what a payload holds to the units before it.
fn unpack(payload: &[u8], units: &mut Vec<Vec<u8>>) {
    match nal_type_of(payload) {
        24 => {
            let mut rest = &payload[1..];
            while let [high, low, tail @ ..] = rest {
                let (unit, next) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                units.push(unit.to_vec());
                rest = next;
            }
            assert!(rest.is_empty());
        }
        28 => {
            let (indicator, header, part) = (payload[0], payload[1], &payload[2..]);
            assert!(
                header & 0xc0 != 0xc0,
                "first and last fragment at once (section 5.8)"
            );
            assert!(!part.is_empty());
            if header & 0x80 != 0 {
                units.push(vec![indicator & 0xe0 | header & 0x1f]);
            }
            units
                .last_mut()
                .expect("a fragment follows a first one")
                .extend_from_slice(part);
        }
        _ => units.push(payload.to_vec()),
    }
}
