//! Watches NACKs of viewers that know no RTX: what they miss is never resent, so the second NACK
//! for a packet means that they need a key frame. A browser itself asks for one only seconds later.

use std::collections::VecDeque;

/// Sequence numbers remembered; older ones are forgotten.
const MAX_REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct NackWatch {
    seen: VecDeque<u16>,
}

impl NackWatch {
    /// Notes a NACK; true when it is not the first for this packet.
    pub(super) fn on_nack(&mut self, seq: u16) -> bool {
        if let Some(at) = self.seen.iter().position(|s| *s == seq) {
            // The third shall be as good as a second again: the answer may have been lost.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_nack_of_a_packet_counts() {
        let mut watch = NackWatch::default();
        assert!(!watch.on_nack(7));
        assert!(!watch.on_nack(8));
        assert!(watch.on_nack(7));
        assert!(watch.on_nack(8));
    }

    #[test]
    fn it_remembers_a_bounded_number() {
        let mut watch = NackWatch::default();
        (0..=u16::MAX).for_each(|seq| assert!(!watch.on_nack(seq)));
        assert_eq!(watch.seen.len(), MAX_REMEMBERED);
        assert!(!watch.on_nack(0), "forgotten long ago");
    }
}
