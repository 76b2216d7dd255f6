//! Reads a viewer's SDP offer and prepares it for str0m.
//!
//! In: offer text. Out: the H.264 types it accepts, and the offer with only one receiving video
//! section and only candidates that can be reached over UDP.
//! Not here: the answer (str0m makes it), ICE.

use std::collections::HashSet;
use std::net::SocketAddr;

use str0m::Candidate;

use crate::media::h264::ProfileLevelId;
use crate::media::ice::MAX_CANDIDATES;

/// Payload types looked at in one section; browsers offer some 40.
const MAX_TYPES: usize = 96;

/// Why an offer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    NoCommonCodec(String),
}

/// An H.264 payload type with packetization-mode 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Type {
    pub pt: u8,
    /// Its RTX partner.
    pub rtx: Option<u8>,
    pub profile_level_id: ProfileLevelId,
}

/// An offer that can be answered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What str0m is given.
    pub sdp: String,
    pub types: Vec<H264Type>,
    /// `a=mid` of the section that we send video in.
    pub mid: String,
    /// There are audio sections to answer as inactive.
    pub has_audio: bool,
    /// Addresses of the candidates that are left in `sdp`.
    pub candidates: Vec<SocketAddr>,
    /// Usable ones past [`MAX_CANDIDATES`].
    pub candidates_dropped: u64,
}

/// Reads `text`.
pub fn read(text: &str) -> Result<Offer, OfferError> {
    let sections = split(text)?;
    let chosen = choose(&sections)?;
    let types = h264_types(&sections[chosen]);
    let mid = sections[chosen].attribute("mid").next();
    let mid = mid.ok_or_else(|| OfferError::Bad("its video section has no a=mid".to_owned()))?;
    let mut sdp = String::with_capacity(text.len());
    let mut candidates = Candidates::default();
    for (i, section) in sections.iter().enumerate() {
        let direction = (i > 0 && section.is_media()).then_some(if i == chosen {
            "recvonly"
        } else {
            "inactive"
        });
        write_section(section, direction, &mut candidates, &mut sdp);
    }
    Ok(Offer {
        sdp,
        types,
        mid: mid.to_owned(),
        has_audio: sections.iter().any(|s| s.kind == "audio"),
        candidates: candidates.taken,
        candidates_dropped: candidates.dropped,
    })
}

/// The session part, then one for each m-line.
#[derive(Debug)]
struct Section<'a> {
    /// `audio`, `video`, `application`; empty for the session part.
    kind: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn is_media(&self) -> bool {
        matches!(self.kind, "audio" | "video")
    }

    fn attribute(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let prefix = format!("a={name}:");
        let lines: Vec<&'a str> = self
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect();
        lines.into_iter()
    }

    /// `recvonly`, `sendrecv` or nothing said (which is `sendrecv`, RFC 8866 section 6.7).
    fn can_receive(&self) -> bool {
        !self
            .lines
            .iter()
            .any(|line| matches!(*line, "a=sendonly" | "a=inactive"))
    }

    fn payload_types(&self) -> impl Iterator<Item = u8> {
        let m_line = self.lines.first().copied().unwrap_or_default();
        let list = m_line.split_ascii_whitespace().skip(3).take(MAX_TYPES);
        list.filter_map(|pt| pt.parse().ok())
    }
}

fn split(text: &str) -> Result<Vec<Section<'_>>, OfferError> {
    let bad = |what: &str| OfferError::Bad(what.to_owned());
    if !text.starts_with("v=0") {
        return Err(bad("an SDP offer begins with \"v=0\""));
    }
    let mut sections = vec![Section {
        kind: "",
        lines: Vec::new(),
    }];
    for (i, line) in text.lines().map(str::trim_end).enumerate() {
        if i >= MAX_LINES {
            return Err(bad("it has more than 1000 lines"));
        }
        if line.is_empty() {
            continue;
        }
        if let Some(media) = line.strip_prefix("m=") {
            sections.push(Section {
                kind: media.split(' ').next().unwrap_or_default(),
                lines: Vec::new(),
            });
        }
        if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        }
    }
    match sections.len() {
        1 => Err(bad("it has no media section")),
        n if n > MAX_SECTIONS => Err(bad("it has more than 16 media sections")),
        _ => Ok(sections),
    }
}

/// Lines of one offer: browsers write some 220. Each costs time in the loop.
const MAX_LINES: usize = 1000;
/// Sections of one offer, the session part among them.
const MAX_SECTIONS: usize = 17;

/// The first video section that can receive H.264.
fn choose(sections: &[Section<'_>]) -> Result<usize, OfferError> {
    let mut videos = sections
        .iter()
        .enumerate()
        .filter(|(_, s)| s.kind == "video");
    if videos.clone().next().is_none() {
        return Err(OfferError::Bad("it asks for no video".to_owned()));
    }
    if !videos.clone().any(|(_, s)| s.can_receive()) {
        return Err(OfferError::Bad(
            "it does not receive video: a viewer offers recvonly".to_owned(),
        ));
    }
    videos
        .find(|(_, s)| s.can_receive() && !h264_types(s).is_empty())
        .map(|(i, _)| i)
        .ok_or_else(|| OfferError::NoCommonCodec(missing_h264(sections)))
}

fn missing_h264(sections: &[Section<'_>]) -> String {
    let mut offered: Vec<&str> = sections
        .iter()
        .filter(|s| s.kind == "video")
        .flat_map(|s| s.attribute("rtpmap"))
        .filter_map(|map| map.split_once(' ')?.1.split('/').next())
        .filter(|name| !matches!(*name, "rtx" | "red" | "ulpfec" | "flexfec-03"))
        .take(MAX_TYPES)
        .collect();
    offered.sort_unstable();
    offered.dedup();
    offered.truncate(8);
    format!(
        "the camera sends H264 (packetization-mode 1), the offer has {}",
        offered.join(", ")
    )
}

/// The types that can be sent to, in the order of the offer.
fn h264_types(section: &Section<'_>) -> Vec<H264Type> {
    let find = |name: &str, pt: u8| {
        section
            .attribute(name)
            .filter_map(|value| value.split_once(' '))
            .find(|(number, _)| number.parse() == Ok(pt))
            .map(|(_, rest)| rest)
    };
    let apt_of = |pt| {
        let map = find("rtpmap", pt)?;
        let is_rtx = map.get(..4)?.eq_ignore_ascii_case("rtx/");
        is_rtx.then(|| parameter(find("fmtp", pt)?, "apt")?.parse::<u8>().ok())?
    };
    let repairs: Vec<(u8, u8)> = section
        .payload_types()
        .filter_map(|pt| Some((apt_of(pt)?, pt)))
        .collect();
    let read = |pt| {
        let map = find("rtpmap", pt)?;
        if !map.trim().eq_ignore_ascii_case("H264/90000") {
            return None;
        }
        // RFC 6184 section 8.1: without packetization-mode it is 0, single NAL units only.
        let fmtp = find("fmtp", pt)?;
        if parameter(fmtp, "packetization-mode")? != "1" {
            return None;
        }
        let profile = parameter(fmtp, "profile-level-id");
        Some(H264Type {
            pt,
            rtx: repairs.iter().find(|(apt, _)| *apt == pt).map(|r| r.1),
            profile_level_id: profile.map_or(Some(BASELINE), ProfileLevelId::parse)?,
        })
    };
    let types: Vec<H264Type> = section.payload_types().filter_map(read).collect();
    // Of several with one profile and level, str0m takes the last, and it panics where it is
    // told of more than that one.
    let class = |t: &H264Type| {
        let [_, flags, level] = t.profile_level_id.0;
        let rank = t.profile_level_id.rank();
        // From high on, it takes each set of flags for a profile of its own.
        (rank, if rank >= HIGH { flags } else { 0 }, level)
    };
    let rest = |i: usize| types.iter().skip(i + 1);
    let is_last = |(i, t): &(usize, &H264Type)| !rest(*i).any(|later| class(later) == class(t));
    let last = types.iter().enumerate().filter(is_last);
    last.map(|(_, t)| *t).collect()
}

/// What a missing `profile-level-id` means: baseline (RFC 6184 section 8.1). The level is the one
/// that str0m assumes; nothing of ours depends on it.
const BASELINE: ProfileLevelId = ProfileLevelId([0x42, 0x00, 0x1f]);

/// [`ProfileLevelId::rank`] of the high profile.
const HIGH: u8 = 4;

fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|p| p.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[derive(Default)]
struct Candidates {
    taken: Vec<SocketAddr>,
    dropped: u64,
}

impl Candidates {
    /// Whether a candidate is left in the offer.
    fn take(&mut self, value: &str) -> bool {
        let Some(candidate) = read_candidate(value) else {
            return false;
        };
        let is_taken = self.taken.len() < MAX_CANDIDATES;
        if is_taken {
            self.taken.push(candidate.addr());
        } else {
            self.dropped += 1;
        }
        is_taken
    }
}

fn write_section(
    section: &Section<'_>,
    direction: Option<&str>,
    candidates: &mut Candidates,
    sdp: &mut String,
) {
    let mut mapped = HashSet::new();
    for line in &section.lines {
        // str0m multiplies repeated maps with all formats of their type: 64 KiB of them cost
        // four seconds.
        let map = line.strip_prefix("a=rtpmap:");
        let type_of = |map: &&str| map.split(' ').next().and_then(|pt| pt.parse::<u8>().ok());
        if map.is_some_and(|map| !mapped.insert(type_of(&map))) {
            continue;
        }
        let is_direction = matches!(
            *line,
            "a=sendrecv" | "a=recvonly" | "a=sendonly" | "a=inactive"
        );
        if direction.is_some() && is_direction {
            continue;
        }
        if let Some(value) = line.strip_prefix("a=candidate:")
            && !candidates.take(value)
        {
            continue;
        }
        sdp.push_str(line);
        sdp.push_str("\r\n");
    }
    if let Some(direction) = direction {
        sdp.push_str("a=");
        sdp.push_str(direction);
        sdp.push_str("\r\n");
    }
}

/// A candidate that we can send to: UDP, RTP component, a plain address. Names (`.local`) are
/// dropped silently (they would have to be resolved first, and the viewer's own check tells its
/// address anyway).
pub fn read_candidate(value: &str) -> Option<Candidate> {
    let value = value.strip_prefix("candidate:").unwrap_or(value);
    let mut words = value.split_ascii_whitespace();
    let (_foundation, component) = (words.next()?, words.next()?);
    if component != "1" || !words.next()?.eq_ignore_ascii_case("udp") {
        return None;
    }
    Candidate::from_sdp_string(&format!("candidate:{value}")).ok()
}
