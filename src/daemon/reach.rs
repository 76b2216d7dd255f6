//! At which addresses viewers reach the media port, and a word when there is none.

use std::net::SocketAddr;

use tracing::warn;

use crate::config::Config;
use crate::net::interfaces;
use crate::net::udp::Udp;

/// Tells of a missing address once, and again when there has been one in between.
#[derive(Debug, Default)]
pub(super) struct Reach {
    is_missing: bool,
}

impl Reach {
    /// The media port on every address that a viewer may reach, as they are now.
    pub(super) fn candidates(&mut self, config: &Config, udp: &Udp) -> Vec<SocketAddr> {
        let found: Vec<_> = interfaces::addresses(&config.ice, config.server.listen.ip())
            .into_iter()
            .filter(|ip| udp.has_family_of(*ip))
            .map(|ip| SocketAddr::new(ip, udp.port()))
            .collect();
        if self.is_news(found.is_empty()) {
            warn!(
                ice.interfaces = ?config.ice.interfaces,
                ice.exclude = ?config.ice.exclude,
                there_are = ?interfaces::names(),
                "no address of this machine may be told to viewers: nobody will see a picture"
            );
        }
        found
    }

    /// Whether there is none now, and nobody was told yet.
    fn is_news(&mut self, is_missing: bool) -> bool {
        let was_missing = std::mem::replace(&mut self.is_missing, is_missing);
        is_missing && !was_missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_address_is_told_once_and_again_after_there_was_one() {
        let mut reach = Reach::default();
        let told = [true, true, true, false, false, true, true].map(|none| reach.is_news(none));
        assert_eq!(told, [true, false, false, false, false, true, false]);
    }
}
