//! What every room must agree on about ICE: bounds and alphabets of what viewers send.
//!
//! In: words of a description. Out: whether they are allowed.
//! Not here: ICE itself (str0m).

/// Remote candidates that are used in one ICE generation, that is between two restarts: a machine
/// with 10 addresses has 20. Further ones are dropped and counted: each costs memory and time for
/// as long as the session lives.
pub const MAX_CANDIDATES: usize = 32;

/// Addresses from which a viewer's ICE checks are heard in one generation. Each makes a candidate
/// that lives as long; and whoever has seen one check can repeat it from anywhere.
pub const MAX_SOURCES: usize = 256;

/// `ice-ufrag`: 4 to 256 letters, digits, `+` and `/` (RFC 8839 section 5.4).
pub fn is_ufrag(text: &str) -> bool {
    (4..=256).contains(&text.len()) && text.bytes().all(is_ice_char)
}

/// `ice-pwd`: 22 to 256 of the same.
pub fn is_pwd(text: &str) -> bool {
    (22..=256).contains(&text.len()) && text.bytes().all(is_ice_char)
}

fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}
