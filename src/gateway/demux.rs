//! Finds the viewer of a datagram: by its address, or by the ICE ufrag of a STUN request.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::viewer::ViewerId;
use crate::session::find_by_ufrag;

/// Addresses remembered for one viewer; the oldest is forgotten first, but never the one that its
/// media goes to: anybody who has seen one of its STUN requests can repeat it from elsewhere.
const MAX_ADDRESSES: usize = 8;
/// Ufrags that name one viewer; each ICE restart brings one, the oldest is forgotten first.
const MAX_UFRAGS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Demux {
    by_address: HashMap<SocketAddr, ViewerId>,
    by_ufrag: HashMap<String, ViewerId>,
    addresses: HashMap<ViewerId, Known>,
    ufrags: HashMap<ViewerId, VecDeque<String>>,
}

/// The addresses of one viewer.
#[derive(Debug, Default)]
struct Known {
    /// Oldest first.
    addresses: VecDeque<SocketAddr>,
    /// One of them: where its media goes.
    path: Option<SocketAddr>,
}

impl Known {
    /// Forgets what is too many.
    fn cut(&mut self) -> Option<SocketAddr> {
        if self.addresses.len() <= MAX_ADDRESSES {
            return None;
        }
        let is_spare = |address: &SocketAddr| Some(*address) != self.path;
        let oldest = self.addresses.iter().position(is_spare)?;
        self.addresses.remove(oldest)
    }
}

impl Demux {
    /// Nothing is allocated for a datagram of a stranger.
    pub(super) fn find(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<ViewerId> {
        // A request names its session, even where an address has passed to another viewer.
        let named = find_by_ufrag(bytes, |ufrag| self.by_ufrag.get(ufrag).copied());
        if let Some(id) = named {
            self.learn(from, id);
            return named;
        }
        self.find_address(from)
    }

    pub(super) fn find_address(&self, address: SocketAddr) -> Option<ViewerId> {
        self.by_address.get(&address).copied()
    }

    fn learn(&mut self, address: SocketAddr, id: ViewerId) {
        if self.by_address.insert(address, id) == Some(id) {
            return;
        }
        let known = self.addresses.entry(id).or_default();
        known.addresses.push_back(address);
        if let Some(oldest) = known.cut() {
            self.forget_address(oldest, id);
        }
    }

    /// The viewer's media goes to this address from now on (ICE has selected it).
    pub(super) fn select(&mut self, address: SocketAddr, id: ViewerId) {
        self.learn(address, id);
        self.addresses.entry(id).or_default().path = Some(address);
    }

    fn forget_address(&mut self, address: SocketAddr, id: ViewerId) {
        if self.by_address.get(&address) == Some(&id) {
            self.by_address.remove(&address);
        }
    }

    /// This ufrag names this viewer from now on; earlier ones go on naming it while an ICE
    /// restart is under way.
    pub(super) fn name(&mut self, ufrag: String, id: ViewerId) {
        if self.by_ufrag.insert(ufrag.clone(), id) == Some(id) {
            return;
        }
        let known = self.ufrags.entry(id).or_default();
        known.push_back(ufrag);
        if known.len() > MAX_UFRAGS
            && let Some(oldest) = known.pop_front()
        {
            self.by_ufrag.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, id: ViewerId) {
        for ufrag in self.ufrags.remove(&id).unwrap_or_default() {
            self.by_ufrag.remove(&ufrag);
        }
        let known = self.addresses.remove(&id).unwrap_or_default();
        for address in known.addresses {
            self.forget_address(address, id);
        }
    }

    /// What is remembered: addresses, ufrags.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.by_address.len(), self.by_ufrag.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_viewer_is_known_by_few_addresses() {
        let mut demux = Demux::default();
        let id = ViewerId(1);
        (0..100).for_each(|port| demux.learn(address(port), id));
        assert_eq!(demux.len().0, MAX_ADDRESSES);
        assert_eq!(demux.find_address(address(0)), None);
        assert_eq!(demux.find_address(address(99)), Some(id));
    }

    #[test]
    fn the_address_that_media_goes_to_is_not_pushed_out() {
        let mut demux = Demux::default();
        let id = ViewerId(1);
        demux.learn(address(1), id);
        demux.select(address(1), id);
        (100..200).for_each(|port| demux.learn(address(port), id));
        assert_eq!(demux.find_address(address(1)), Some(id));
        assert_eq!(demux.len().0, MAX_ADDRESSES);
        // It has moved: the old one is as good as any other.
        demux.select(address(2), id);
        (100..200).for_each(|port| demux.learn(address(port), id));
        assert_eq!(demux.find_address(address(1)), None);
        assert_eq!(demux.find_address(address(2)), Some(id));
        demux.forget(id);
        assert_eq!(demux.len(), (0, 0));
    }

    #[test]
    fn an_address_passes_to_the_viewer_that_used_it_last() {
        let mut demux = Demux::default();
        demux.learn(address(5), ViewerId(1));
        demux.learn(address(5), ViewerId(2));
        demux.forget(ViewerId(1));
        assert_eq!(demux.find_address(address(5)), Some(ViewerId(2)));
        demux.forget(ViewerId(2));
        assert_eq!(demux.len(), (0, 0));
    }

    #[test]
    fn ice_restarts_without_end_leave_few_names() {
        let mut demux = Demux::default();
        (0..100).for_each(|i| demux.name(format!("ufrag{i}"), ViewerId(1)));
        assert_eq!(demux.len().1, MAX_UFRAGS);
        demux.forget(ViewerId(1));
        assert_eq!(demux.len().1, 0);
    }

    #[test]
    fn garbage_finds_nobody() {
        let mut demux = Demux::default();
        demux.name("abcd".to_owned(), ViewerId(1));
        for bytes in [&[][..], &[0], &[0; 20], &[1; 100], &[200; 1200]] {
            assert_eq!(demux.find(address(1), bytes), None);
        }
    }
}
