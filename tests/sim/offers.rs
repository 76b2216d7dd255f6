//! Offers as real viewers make them, and what they are answered.

use pinhole::whep::Refusal;

use crate::world::World;

fn read(name: &str) -> String {
    let path = format!(
        "{}/tests/data/offers/{name}.sdp",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path).unwrap()
}

fn answer(offer: &str) -> Result<String, Refusal> {
    let mut world = World::passthrough(1);
    let posted = world.post(0, offer.to_owned(), [10, 0, 0, 9].into());
    posted.map(|(_, _, answer)| answer)
}

/// The session part, then the media sections, as lines.
fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    sections
}

fn values<'a>(section: &[&'a str], prefix: &str) -> Vec<&'a str> {
    let values = section.iter().filter_map(|l| l.strip_prefix(prefix));
    values.collect()
}

fn payload_types(section: &[&str]) -> Vec<u8> {
    let words = section[0].split(' ').skip(3);
    words.map(|pt| pt.parse().unwrap()).collect()
}

fn has(section: &[&str], line: &str) -> bool {
    section.contains(&line)
}

/// What holds for every answer to every offer (RFC 3264 section 6, RFC 9143 section 7.3,
/// draft-ietf-wish-whep section 4.2).
fn assert_sound(name: &str, offer: &str, answer: &str) {
    assert!(answer.starts_with("v=0\r\n"), "{name}");
    assert!(answer.lines().count() == answer.matches("\r\n").count());
    let (asked, told) = (sections(offer), sections(answer));
    assert_eq!(asked.len(), told.len(), "{name}: a section for each");
    let prints: Vec<_> = answer
        .lines()
        .filter_map(|l| l.strip_prefix("a=fingerprint:"))
        .collect();
    assert!(!prints.is_empty(), "{name}");
    assert!(
        prints
            .iter()
            .all(|p| *p == prints[0] && p.starts_with("sha-256 ")),
        "{name}: {prints:?}"
    );
    assert!(!answer.contains("a=setup:actpass"), "{name}");
    let bundle = values(&told[0], "a=group:BUNDLE ");
    assert_eq!(bundle, values(&asked[0], "a=group:BUNDLE "), "{name}");
    for (asked, told) in asked[1..].iter().zip(&told[1..]) {
        assert_eq!(values(asked, "a=mid:"), values(told, "a=mid:"), "{name}");
        let kind = |section: &[&str]| section[0].split(' ').next().unwrap().to_owned();
        assert_eq!(kind(asked), kind(told), "{name}");
        assert!(
            told[0].split(' ').nth(1) != Some("0"),
            "{name}: rejected: {}",
            told[0]
        );
        let is_video = told[0].starts_with("m=video");
        let is_audio = told[0].starts_with("m=audio");
        assert_eq!(has(told, "a=sendonly"), is_video, "{name}");
        assert_eq!(has(told, "a=inactive"), is_audio, "{name}");
        assert!(
            !has(told, "a=sendrecv") && !has(told, "a=recvonly"),
            "{name}"
        );
    }
    assert!(
        answer.contains("10.0.0.1 8555 typ host"),
        "{name}: {answer}"
    );
    assert!(answer.contains("a=end-of-candidates"), "{name}");
    assert!(!answer.contains(".local"), "{name}");
    assert!(answer.contains("a=ice-lite"), "{name}");
}

/// Every type has packetization-mode 1 and is there with its repair type, if it has one.
fn assert_types(name: &str, offer: &str, answer: &str, expected: &[u8]) {
    let told = sections(answer);
    let video = told[1..].iter().find(|s| s[0].starts_with("m=video"));
    let video = video.unwrap();
    let mut types = payload_types(video);
    types.sort_unstable();
    let mut wanted = expected.to_vec();
    wanted.sort_unstable();
    assert_eq!(types, wanted, "{name}: {}", video[0]);
    for pt in expected {
        let map = values(video, &format!("a=rtpmap:{pt} "));
        let fmtp = values(video, &format!("a=fmtp:{pt} "));
        match map[0] {
            "H264/90000" => {
                assert!(fmtp[0].contains("packetization-mode=1"), "{name} {pt}");
                let asked = format!("a=fmtp:{pt} ");
                let asked = offer.lines().find_map(|l| l.strip_prefix(&asked)).unwrap();
                let profile = |f: &str| {
                    let at = f.find("profile-level-id=").unwrap() + 17;
                    f[at..at + 4].to_owned()
                };
                assert_eq!(profile(fmtp[0]), profile(asked.trim()), "{name} {pt}");
                for feedback in ["nack pli", "ccm fir"] {
                    let line = format!("a=rtcp-fb:{pt} {feedback}");
                    let is_asked = offer.lines().any(|l| l.trim() == line);
                    assert!(!is_asked || has(video, &line), "{name}: {line}");
                }
            }
            "rtx/90000" => assert!(fmtp[0].starts_with("apt="), "{name} {pt}"),
            other => panic!("{name}: {other}"),
        }
    }
    let delay = "playout-delay";
    let is_asked = offer.lines().any(|l| l.contains(delay));
    let is_told = video.iter().any(|l| l.contains(delay));
    assert_eq!(is_asked, is_told, "{name}: {delay}");
}

#[test]
fn each_viewers_offer_is_answered_as_it_understands() {
    const CHROMIUM: &[u8] = &[102, 103, 108, 109, 116, 117, 41, 42];
    let expected: [(&str, &[u8]); 10] = [
        ("aiortc", &[99, 100, 101, 102]),
        ("chromium-offer", CHROMIUM),
        ("chromium-offer-av-data", CHROMIUM),
        ("chromium-video-data", CHROMIUM),
        ("chromium-video-data-loopback", CHROMIUM),
        ("firefox-offer-h264-gmp", &[126, 127, 105, 106]),
        ("gstreamer", &[102]),
        ("libdatachannel", &[102]),
        ("pion", &[102, 103, 106, 107, 127, 125, 112, 113]),
        ("werift", &[102]),
    ];
    for (name, types) in expected {
        let offer = read(name);
        let answer = answer(&offer).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_sound(name, &offer, &answer);
        assert_types(name, &offer, &answer, types);
    }
}

#[test]
fn a_firefox_without_h264_is_told_what_it_offers_and_what_is_missing() {
    for name in [
        "firefox-offer",
        "firefox-offer-av-data",
        "firefox-video-data",
    ] {
        let Err(Refusal::NoCommonCodec(what)) = answer(&read(name)) else {
            panic!("{name}: no refusal");
        };
        for word in ["H264", "VP8", "VP9", "AV1"] {
            assert!(what.contains(word), "{name}: {what}");
        }
        assert!(!what.contains("rtx"), "{what}");
    }
}

#[test]
fn every_recorded_offer_is_tested_here() {
    let path = format!("{}/tests/data/offers", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 13);
}

#[test]
fn an_audio_section_that_leads_the_bundle_is_answered_inactive() {
    let offer = read("chromium-offer-av-data");
    let parts = sections(&offer);
    let order = [0, 2, 1, 3];
    let lines = order.iter().flat_map(|i| parts[*i].clone());
    let offer = lines.map(|l| format!("{l}\r\n")).collect::<String>();
    let offer = offer.replace("BUNDLE 0 1 2", "BUNDLE 1 0 2");
    let answer = answer(&offer).unwrap();
    assert_sound("audio first", &offer, &answer);
    let told = sections(&answer);
    assert!(told[1][0].starts_with("m=audio "));
    assert!(!told[1][0].starts_with("m=audio 0"), "not rejected");
    assert!(has(&told[1], "a=inactive"));
    let types = [102, 103, 108, 109, 116, 117, 41, 42];
    assert_types("audio first", &offer, &answer, &types);
}

#[test]
fn types_with_packetization_mode_0_alone_are_no_common_codec() {
    let only_mode_0 = read("werift").replace("packetization-mode=1", "packetization-mode=0");
    let unsaid = read("werift").replace("packetization-mode=1;", "");
    let without_fmtp: String = read("werift")
        .lines()
        .filter(|l| !l.starts_with("a=fmtp:"))
        .map(|l| format!("{l}\r\n"))
        .collect();
    for offer in [only_mode_0, unsaid, without_fmtp] {
        let refusal = answer(&offer);
        assert!(
            matches!(refusal, Err(Refusal::NoCommonCodec(_))),
            "{refusal:?}"
        );
    }
}

/// Profiles that RFC 6184 (section 8.1, table 5) has for the same are one type to str0m; those of
/// high with other constraints are not.
#[test]
fn profiles_written_in_two_ways_are_one_type_and_others_are_not() {
    let offer = read("pion");
    let with = |from: &str, to: &str| offer.replace(from, to);
    assert!(offer.contains("42e01f") && offer.contains("64001f"));
    for same in ["4de01f", "58c01f", "42c01f"] {
        let answer = answer(&with("42001f", same)).unwrap();
        assert!(answer.contains("m=video"), "{same}");
    }
    let answer = answer(&with("42001f", "640c1f")).unwrap();
    assert!(answer.contains("64001f") && answer.contains("640c1f"));
}

#[test]
fn names_that_would_have_to_be_resolved_are_dropped() {
    let offer = read("chromium-offer");
    assert!(offer.contains(".local"));
    let read = pinhole::session::offer::read(&offer).unwrap();
    assert!(!read.sdp.contains(".local"));
    assert!(!read.sdp.contains("a=candidate:"));
    assert!(read.sdp.contains("a=recvonly"));
}

#[test]
fn an_offer_that_does_not_receive_is_a_mistake_that_is_named() {
    let offer = read("chromium-offer").replace("a=recvonly", "a=sendonly");
    let Err(Refusal::BadOffer(what)) = answer(&offer) else {
        panic!("accepted");
    };
    assert!(what.contains("recvonly"), "{what}");
    for (offer, word) in [
        ("", "v=0"),
        ("v=0\r\ns=-\r\n", "media"),
        (
            "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n",
            "video",
        ),
    ] {
        let Err(Refusal::BadOffer(what)) = answer(offer) else {
            panic!("accepted");
        };
        assert!(what.contains(word), "{what}");
    }
}

#[test]
fn offers_cut_or_damaged_anywhere_are_answered_or_refused() {
    let mut world = World::passthrough(2);
    let mut refused = 0;
    for name in ["chromium-offer-av-data", "aiortc", "gstreamer"] {
        let offer = read(name);
        let lines: Vec<&str> = offer.lines().collect();
        for i in 0..lines.len() {
            let without = lines.iter().enumerate().filter(|(at, _)| *at != i);
            let without: String = without.map(|(_, l)| format!("{l}\r\n")).collect();
            let cut: String = lines[..i].iter().map(|l| format!("{l}\r\n")).collect();
            let halves = lines[i].split_at(lines[i].len() / 2).0;
            let bent = offer.replacen(lines[i], halves, 1);
            for damaged in [without, cut, bent] {
                match world.post(0, damaged, [10, 0, 0, 9].into()) {
                    Ok((session, ..)) => {
                        world.command(pinhole::whep::Command::Close { session });
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    println!("{refused} refused");
    assert_eq!(world.counters().sessions_panicked, 0);
    assert_eq!(world.gateway.footprint(), Default::default());
}
