//! Offers that fuzzing found to break something, each against the whole core.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test panics at what it does not expect"
)]

use std::net::SocketAddr;
use std::time::Instant;

use pinhole::config::{Camera, Config, Pattern, Source};
use pinhole::gateway::Gateway;
use pinhole::session::{install_crypto, new_certificate};
use pinhole::whep::{Command, Outcome, Refusal};

const CHROMIUM: &str = include_str!("data/offers/chromium-offer.sdp");

/// What comes of an offer; that no session panicked on it is checked.
fn post(offer: &str) -> Outcome {
    install_crypto();
    let camera = Camera::new("cam", Source::Pattern(Pattern::default()));
    let config = Config {
        cameras: vec![camera],
        ..Config::default()
    };
    let now = Instant::now();
    let certificate = new_certificate().expect("randomness");
    let mut gateway = Gateway::new(config, certificate, [7; 32], now);
    let command = Command::Open {
        camera: "cam".to_owned(),
        offer: offer.to_owned(),
        peer: [192, 0, 2, 9].into(),
    };
    let candidates = [SocketAddr::from(([192, 0, 2, 1], 8555))];
    let outcome = gateway.handle_command(now, command, &candidates);
    assert_eq!(gateway.counters().sessions_panicked, 0);
    outcome
}

fn answer_to(offer: &str) -> String {
    let outcome = post(offer);
    let Outcome::Opened { answer, .. } = outcome else {
        panic!("{outcome:?}");
    };
    answer
}

#[test]
fn payload_types_of_the_same_profile_are_answered_once() {
    let same = CHROMIUM.replace("profile-level-id=42e01f", "profile-level-id=42001f");
    let same = same.replace("profile-level-id=4d001f", "profile-level-id=42001f");
    assert!(
        same.matches("packetization-mode=1;profile-level-id=42001f")
            .count()
            > 1
    );
    assert!(answer_to(&same).contains("H264/90000"));
}

#[test]
fn a_payload_type_without_a_profile_stands_beside_a_baseline_one() {
    let key = ";profile-level-id=f4001f";
    assert!(CHROMIUM.contains(key));
    assert!(answer_to(&CHROMIUM.replace(key, "")).contains("H264/90000"));
    // Alone, it is what is taken.
    let nameless = CHROMIUM.lines().map(|line| {
        let (line, _) = line.split_once(";profile-level-id=").unwrap_or((line, ""));
        format!("{line}\r\n")
    });
    assert!(answer_to(&nameless.collect::<String>()).contains("H264/90000"));
}

#[test]
fn a_section_that_the_answer_could_not_hold_is_refused() {
    let unknown_kind = "m=text 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:9\r\n".to_owned();
    let second_of_its_name = CHROMIUM[CHROMIUM.find("m=video").expect("it has")..].to_owned();
    for section in [unknown_kind, second_of_its_name] {
        let outcome = post(&format!("{CHROMIUM}{section}"));
        assert!(
            matches!(outcome, Outcome::Refused(Refusal::BadOffer(_))),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_payload_type_is_mapped_once_however_often_an_offer_says_it() {
    // 1700 maps and formats of one type took str0m four seconds, and cost time below the bound
    // on lines, too.
    let flood = "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x\r\n".repeat(300);
    let offer = pinhole::session::offer::read(&format!("{CHROMIUM}{flood}")).expect("it is one");
    assert_eq!(offer.sdp.matches("a=rtpmap:96 ").count(), 1);
}

#[test]
fn an_offer_of_endless_lines_is_refused() {
    let flood = "a=x\r\n".repeat(1001);
    let refusal = pinhole::session::offer::read(&format!("{CHROMIUM}{flood}"));
    assert!(refusal.is_err_and(|e| e.to_string().contains("1000 lines")));
}
