//! Bodies of WHEP PATCH requests: read within their bounds or refused, and every candidate in
//! them is read or skipped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinhole::session::offer::read_candidate;
use pinhole::whep::Fragment;
use pinhole::whep::fragment::{MAX_LINE, MAX_LINES};

fuzz_target!(|body: &[u8]| {
    let Ok(fragment) = Fragment::parse(body) else {
        return;
    };
    assert!(fragment.candidates.len() < MAX_LINES);
    for candidate in &fragment.candidates {
        assert!(candidate.len() <= MAX_LINE && candidate.starts_with("candidate:"));
        let _ = read_candidate(candidate);
    }
    for (credential, least) in [(&fragment.ufrag, 4), (&fragment.pwd, 22)] {
        let length = credential.as_ref().map_or(least, String::len);
        assert!((least..=256).contains(&length));
    }
});
