//! What of a camera's stream is handed on: from a key frame on, and after a loss not before the
//! next one.
//!
//! In: what was lost, each picture's facts. Out: hand on or hold.
//! Not here: sending, counting errors (tolerance).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use memchr::memmem;

/// Holds back what no decoder could use.
#[derive(Debug)]
pub(super) struct Gate {
    holding: bool,
    after_loss: bool,
}

/// What to do with one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Its reference was lost (or never seen).
    Hold,
    /// Hand it on; something before it was lost or not.
    HandOn { after_loss: bool },
}

impl Gate {
    /// Holds until the first key frame, which does not count as a loss.
    pub(super) fn new() -> Self {
        Self {
            holding: true,
            after_loss: false,
        }
    }

    /// Something was lost here: hold until the next key frame.
    pub(super) fn on_loss(&mut self) {
        self.holding = true;
        self.after_loss = true;
    }

    /// Is a key frame awaited?
    pub(super) fn is_holding(&self) -> bool {
        self.holding
    }

    /// Judges the next picture. [`Self::handed_on`] must follow where it really went out.
    pub(super) fn judge(&self, is_key_frame: bool) -> Passage {
        if self.holding && !is_key_frame {
            Passage::Hold
        } else {
            Passage::HandOn {
                after_loss: self.after_loss,
            }
        }
    }

    /// The picture was handed on.
    pub(super) fn handed_on(&mut self) {
        self.holding = false;
        self.after_loss = false;
    }
}

/// What the head of an access unit says, up to its first slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The first slice belongs to an IDR picture.
    pub(super) is_idr: bool,
    /// The first slice begins at the first macroblock. Where not, the slices before it were lost
    /// and the rest came through looking like a whole picture.
    pub(super) is_whole: bool,
    /// SPS and PPS stand before it.
    pub(super) has_parameters: bool,
}

impl Head {
    /// Reads `annex_b` up to its first slice.
    pub(super) fn read(annex_b: &[u8]) -> Self {
        let (mut sps, mut pps) = (false, false);
        for at in memmem::find_iter(annex_b, &[0, 0, 1]) {
            let Some(&header) = annex_b.get(at + 3) else {
                break;
            };
            match header & 0x1f {
                7 => sps = true,
                8 => pps = true,
                // Slices, and slice data partition A (H.264 table 7-1). first_mb_in_slice is the
                // first Exp-Golomb code of their header (section 7.3.3): a 1 bit means zero.
                kind @ (1 | 2 | 5) => {
                    return Self {
                        is_idr: kind == 5,
                        is_whole: annex_b.get(at + 4).is_some_and(|b| b & 0x80 != 0),
                        has_parameters: sps && pps,
                    };
                }
                _ => {}
            }
        }
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_before_the_first_key_frame() {
        let mut gate = Gate::new();
        assert_eq!(gate.judge(false), Passage::Hold);
        assert_eq!(gate.judge(true), Passage::HandOn { after_loss: false });
        gate.handed_on();
        assert_eq!(gate.judge(false), Passage::HandOn { after_loss: false });
    }

    #[test]
    fn after_a_loss_the_next_key_frame_says_so_once() {
        let mut gate = Gate::new();
        gate.handed_on();
        gate.on_loss();
        assert_eq!(gate.judge(false), Passage::Hold);
        assert_eq!(gate.judge(true), Passage::HandOn { after_loss: true });
        gate.handed_on();
        assert_eq!(gate.judge(true), Passage::HandOn { after_loss: false });
    }

    #[test]
    fn a_key_frame_that_found_no_room_leaves_the_gate_shut() {
        let mut gate = Gate::new();
        assert_eq!(gate.judge(true), Passage::HandOn { after_loss: false });
        gate.on_loss();
        assert_eq!(gate.judge(false), Passage::Hold);
        assert!(gate.is_holding());
    }

    #[test]
    fn the_head_of_a_key_frame_is_read() {
        let unit = b"\0\0\0\x01\x67\x42\0\0\0\x01\x68\xce\0\0\0\x01\x06\x05\0\0\0\x01\x65\x88\x84";
        assert_eq!(
            Head::read(unit),
            Head {
                is_idr: true,
                is_whole: true,
                has_parameters: true
            }
        );
    }

    #[test]
    fn an_idr_whose_first_slices_are_missing_is_not_whole() {
        let head = Head::read(b"\0\0\0\x01\x67\x42\0\0\0\x01\x68\xce\0\0\0\x01\x65\x0c\x80");
        assert!(head.is_idr && !head.is_whole);
    }

    #[test]
    fn broken_heads_say_nothing() {
        for bytes in [
            &b""[..],
            b"\0\0\x01",
            b"\0\0\x01\x65",
            b"\x65\x88",
            b"\0\0\x01\x09\x10",
        ] {
            let head = Head::read(bytes);
            assert!(!head.is_whole && !head.has_parameters, "{bytes:?}");
        }
    }
}
