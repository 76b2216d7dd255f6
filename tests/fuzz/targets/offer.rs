//! SDP offers: answered with one section for each of theirs (RFC 3264 section 6) and one
//! fingerprint, or refused. A session that an offer opened lives, is patched and ends.
#![no_main]

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pinhole::config::Latency;
use pinhole::session::{Certificate, End, Session, Setup, install_crypto, new_certificate};

fuzz_target!(|offer: &str| {
    let now = Instant::now();
    let candidates = [
        SocketAddr::from(([192, 0, 2, 1], 8555)),
        "[2001:db8::1]:8555".parse().expect("an address"),
    ];
    let setup = Setup {
        offer,
        candidates: &candidates,
        certificate: certificate(),
        latency: Latency::Low,
        mtu: 1200,
        rate: 50_000_000,
        max_queue: 4 << 20,
        seed: 7,
    };
    let Ok((mut session, answer)) = Session::open(now, &setup) else {
        return;
    };
    let sections = |text: &str| text.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(sections(&answer), sections(offer), "{answer}");
    assert!(answer.contains("a=fingerprint:sha-256 "));
    assert!(
        !answer.contains("a=recvonly") && !answer.contains("a=sendrecv"),
        "{answer}"
    );
    session.handle_timeout(now + Duration::from_millis(50));
    let candidate = "candidate:1 1 udp 2113937151 192.0.2.9 5000 typ host".to_owned();
    session.add_candidates(now, std::slice::from_ref(&candidate));
    let _ = session.restart_ice(now, "abcd", "abcdefghijklmnopqrstuv", &[candidate], &candidates);
    session.handle_timeout(now + Duration::from_secs(20));
    session.close(End::Left);
    let mut outbox = Vec::new();
    session.take_datagrams(&mut outbox);
    assert!(outbox.len() < 1000);
});

fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        install_crypto();
        new_certificate().expect("randomness")
    })
}
