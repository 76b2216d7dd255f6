//! Watches NACKs of viewers that are sent nothing again (no RTX): the second one for a packet
//! means that they need a key frame. A browser itself asks for it only seconds later.
//!
//! In: the numbers of a NACK, extended. Out: whether one was asked for before.
//! Not here: viewers with RTX (`repair`).

use std::collections::VecDeque;

/// Sequence numbers remembered; older ones are forgotten.
const MAX_REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct NackWatch {
    /// Extended: a number that comes round again after 65,536 packets is another one.
    seen: VecDeque<u64>,
}

impl NackWatch {
    /// Notes a NACK; true when it is the second for this packet. The count then begins anew, so
    /// that the fourth is as good as the second: the answer may have been lost.
    pub(super) fn on_nack(&mut self, seq: u64) -> bool {
        if let Some(at) = self.seen.iter().position(|s| *s == seq) {
            self.seen.remove(at);
            return true;
        }
        if self.seen.len() == MAX_REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(seq);
        false
    }
}

/// The newest number before `next` that ends in these 16 bits (RFC 3711 section 3.3.1). `None` for
/// one that was never sent.
pub(super) fn extend(seq: u16, next: u64) -> Option<u64> {
    let behind = (next as u16).wrapping_sub(seq);
    let behind = if behind == 0 {
        1 << 16
    } else {
        u64::from(behind)
    };
    next.checked_sub(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_nack_of_a_packet_counts() {
        let mut watch = NackWatch::default();
        for _ in 0..2 {
            assert!(!watch.on_nack(7));
            assert!(!watch.on_nack(8));
            assert!(watch.on_nack(7));
            assert!(watch.on_nack(8));
        }
    }

    #[test]
    fn it_remembers_a_bounded_number() {
        let mut watch = NackWatch::default();
        (0..=65_535).for_each(|seq| assert!(!watch.on_nack(seq)));
        assert_eq!(watch.seen.len(), MAX_REMEMBERED);
        assert!(!watch.on_nack(0), "forgotten long ago");
    }

    #[test]
    fn a_number_that_comes_round_again_is_another_packet() {
        let mut watch = NackWatch::default();
        assert_eq!(extend(5, 10), Some(5));
        assert!(!watch.on_nack(5));
        assert_eq!(extend(5, 65_546), Some(65_541));
        assert!(!watch.on_nack(65_541));
        assert_eq!(extend(65_535, 65_536), Some(65_535));
        assert_eq!(extend(10, 10), None, "not sent yet");
        assert_eq!(extend(10, 65_546), Some(10), "not the next one");
    }
}
