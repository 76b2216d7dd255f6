//! Pictures that the camera has coded itself: H.264 passed on.
//!
//! In: one buffer of Annex B. Out: an access unit whose key frames carry their parameter sets.
//! Not here: what follows a damaged one (capture).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::Bytes;

use crate::media::h264::{START_CODE, nal_type, nal_type_of, nal_units};

/// The parameter sets of one run.
#[derive(Debug, Default)]
pub(super) struct Coded {
    sps: Option<Vec<u8>>,
    pps: Option<Vec<u8>>,
}

/// What a buffer held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    Picture {
        data: Bytes,
        is_key_frame: bool,
    },
    /// Parameter sets or other units without a picture.
    NoPicture,
    /// A key frame before any parameter sets.
    NotDecodable,
    /// No H.264 at all.
    Garbage,
}

impl Coded {
    /// Reads one buffer.
    pub(super) fn take(&mut self, data: &[u8]) -> Held {
        let (mut has_nal, mut has_slice, mut is_key_frame) = (false, false, false);
        let (mut has_sps, mut has_pps) = (false, false);
        for nal in nal_units(data) {
            has_nal = true;
            match nal_type_of(nal) {
                nal_type::SPS => {
                    has_sps = true;
                    keep(&mut self.sps, nal);
                }
                nal_type::PPS => {
                    has_pps = true;
                    keep(&mut self.pps, nal);
                }
                nal_type::IDR => (has_slice, is_key_frame) = (true, true),
                nal_type::SLICE => has_slice = true,
                _ => {}
            }
        }
        if !has_nal {
            return Held::Garbage;
        }
        if !has_slice {
            return Held::NoPicture;
        }
        if !is_key_frame || (has_sps && has_pps) {
            let data = Bytes::copy_from_slice(data);
            return Held::Picture { data, is_key_frame };
        }
        let (Some(sps), Some(pps)) = (&self.sps, &self.pps) else {
            return Held::NotDecodable;
        };
        let mut whole = Vec::with_capacity(sps.len() + pps.len() + data.len() + 8);
        for nal in [sps, pps] {
            whole.extend_from_slice(&START_CODE);
            whole.extend_from_slice(nal);
        }
        whole.extend_from_slice(data);
        Held::Picture {
            data: whole.into(),
            is_key_frame,
        }
    }
}

fn keep(kept: &mut Option<Vec<u8>>, nal: &[u8]) {
    if nal.len() <= MAX_PARAMETERS && kept.as_deref() != Some(nal) {
        *kept = Some(nal.to_vec());
    }
}

/// Bytes of a parameter set that is kept; real ones have less than a hundred.
const MAX_PARAMETERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 1, 2];
    const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 3];
    const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 4];
    const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 5];

    fn picture(data: &[u8], is_key_frame: bool) -> Held {
        Held::Picture {
            data: Bytes::copy_from_slice(data),
            is_key_frame,
        }
    }

    #[test]
    fn a_key_frame_carries_the_parameter_sets_that_came_once() {
        let mut coded = Coded::default();
        assert_eq!(coded.take(IDR), Held::NotDecodable);
        assert_eq!(coded.take(&[SPS, PPS].concat()), Held::NoPicture);
        assert_eq!(coded.take(IDR), picture(&[SPS, PPS, IDR].concat(), true));
        assert_eq!(coded.take(DELTA), picture(DELTA, false));
        let whole = [SPS, PPS, IDR].concat();
        assert_eq!(coded.take(&whole), picture(&whole, true));
    }

    #[test]
    fn what_is_no_h264_is_garbage() {
        let mut coded = Coded::default();
        assert_eq!(coded.take(&[]), Held::Garbage);
        assert_eq!(coded.take(&[0xFF; 64]), Held::Garbage);
    }
}
