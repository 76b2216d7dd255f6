//! Reads an `application/trickle-ice-sdpfrag` body (RFC 8840, section 9).
//!
//! In: bytes of a peer. Out: a [`Fragment`], or what is wrong with them. Never panics.
//! Not here: the meaning of a candidate and how many are used (session), trickle or restart
//! (gateway).

use super::Fragment;
use crate::media::ice;

/// Lines of one fragment; a browser sends some 20. A longer one is refused whole.
pub const MAX_LINES: usize = 256;
/// Bytes of one line; a candidate takes some 150. A longer one refuses the fragment.
pub const MAX_LINE: usize = 1024;

/// Why a body is no fragment. Shown to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("it has more than {MAX_LINES} lines")]
    TooManyLines,
    #[error("one of its lines has more than {MAX_LINE} bytes")]
    LineTooLong,
    #[error("its ice-ufrag or ice-pwd is too short, too long or has a forbidden character")]
    BadCredentials,
    #[error("it names two different ice-ufrag or ice-pwd")]
    MixedCredentials,
    #[error("one of its candidates lacks an address and a port")]
    BadCandidate,
}

impl Fragment {
    /// Reads `body`. Lines that are not about ICE are skipped, as are `.local` candidates: a
    /// name that only the viewer's own network can resolve is useless here, and waiting for it
    /// would delay the ones that work.
    ///
    /// # Errors
    /// [`FragmentError`]; nothing of the fragment is used then.
    pub fn parse(body: &[u8]) -> Result<Self, FragmentError> {
        let text = std::str::from_utf8(body).map_err(|_| FragmentError::NotText)?;
        let mut fragment = Self::default();
        for (index, line) in text.split('\n').enumerate() {
            if index >= MAX_LINES {
                return Err(FragmentError::TooManyLines);
            }
            if line.len() > MAX_LINE {
                return Err(FragmentError::LineTooLong);
            }
            if let Some(attribute) = line.trim_end().strip_prefix("a=") {
                fragment.take(attribute)?;
            }
        }
        Ok(fragment)
    }

    fn take(&mut self, attribute: &str) -> Result<(), FragmentError> {
        if let Some(value) = attribute.strip_prefix("ice-ufrag:") {
            set_credential(&mut self.ufrag, value, ice::is_ufrag)
        } else if let Some(value) = attribute.strip_prefix("ice-pwd:") {
            set_credential(&mut self.pwd, value, ice::is_pwd)
        } else if let Some(value) = attribute.strip_prefix("candidate:") {
            self.take_candidate(attribute, value)
        } else {
            Ok(())
        }
    }

    fn take_candidate(&mut self, attribute: &str, value: &str) -> Result<(), FragmentError> {
        // candidate:<foundation> <component> <transport> <priority> <address> <port> typ <type>
        let mut words = value.split_ascii_whitespace().skip(4);
        let (Some(address), Some(port)) = (words.next(), words.next()) else {
            return Err(FragmentError::BadCandidate);
        };
        if port.parse::<u16>().is_err() {
            return Err(FragmentError::BadCandidate);
        }
        if is_mdns(address) {
            return Ok(());
        }
        self.candidates.push(attribute.to_owned());
        Ok(())
    }
}

/// Bundled sections repeat the same credentials; two different ones cannot both hold.
fn set_credential(
    slot: &mut Option<String>,
    value: &str,
    is_allowed: fn(&str) -> bool,
) -> Result<(), FragmentError> {
    if !is_allowed(value) {
        return Err(FragmentError::BadCredentials);
    }
    match slot {
        Some(known) if known != value => Err(FragmentError::MixedCredentials),
        Some(_) => Ok(()),
        None => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

fn is_mdns(address: &str) -> bool {
    let address = address.strip_suffix('.').unwrap_or(address);
    address
        .rsplit_once('.')
        .is_some_and(|(_, last)| last.eq_ignore_ascii_case("local"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = "a=group:BUNDLE 0\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.7 51556 typ host generation 0\r\n\
        a=candidate:2 1 udp 2130706431 6e5b.local 51557 typ host\r\n\
        a=candidate:3 1 tcp 1 2001:db8::7 9 typ host tcptype active\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_browsers_fragment_is_read_without_its_local_names() {
        let fragment = Fragment::parse(CHROMIUM.as_bytes()).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(fragment.pwd.as_deref(), Some("P2uYro0UCOQ4zxjKXaWCBui1"));
        assert_eq!(
            fragment.candidates,
            [
                "candidate:1 1 udp 2130706431 192.0.2.7 51556 typ host generation 0",
                "candidate:3 1 tcp 1 2001:db8::7 9 typ host tcptype active",
            ]
        );
    }

    #[test]
    fn bare_line_feeds_and_unknown_lines_are_fine() {
        for body in [&b"hello\n\na=mid:0\na=end-of-candidates"[..], b""] {
            assert_eq!(Fragment::parse(body).unwrap(), Fragment::default());
        }
    }

    #[test]
    fn every_bound_refuses_the_whole() {
        let candidate = "a=candidate:1 1 udp 1 192.0.2.7 5 typ host\n";
        let parse = |text: String| Fragment::parse(text.as_bytes());
        assert!(parse(candidate.repeat(MAX_LINES - 1)).is_ok());
        assert!(parse("\n".repeat(MAX_LINES - 1)).is_ok());
        assert_eq!(
            parse("\n".repeat(MAX_LINES)),
            Err(FragmentError::TooManyLines)
        );
        assert_eq!(
            parse("a".repeat(MAX_LINE + 1)),
            Err(FragmentError::LineTooLong)
        );
    }

    #[test]
    fn nonsense_is_an_error_that_says_why() {
        let cases: [(&[u8], FragmentError); 9] = [
            (b"\xff\xfe", FragmentError::NotText),
            (b"a=ice-ufrag:abc", FragmentError::BadCredentials),
            (b"a=ice-ufrag:ab cd", FragmentError::BadCredentials),
            (b"a=ice-ufrag:ab#d", FragmentError::BadCredentials),
            (b"a=ice-pwd:short", FragmentError::BadCredentials),
            (
                b"a=ice-ufrag:abcd\na=ice-ufrag:abce",
                FragmentError::MixedCredentials,
            ),
            (b"a=candidate:", FragmentError::BadCandidate),
            (
                b"a=candidate:1 1 udp 1 192.0.2.7",
                FragmentError::BadCandidate,
            ),
            (
                b"a=candidate:1 1 udp 1 192.0.2.7 70000 typ host",
                FragmentError::BadCandidate,
            ),
        ];
        for (body, why) in cases {
            assert_eq!(Fragment::parse(body), Err(why));
        }
    }

    #[test]
    fn the_same_credentials_in_each_bundled_section_are_one() {
        let fragment = Fragment::parse(b"a=ice-ufrag:abcd\na=ice-ufrag:abcd").unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("abcd"));
    }
}
