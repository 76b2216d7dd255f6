//! What is done with the `Rtc` itself: building, feeding, draining. Kept apart from the viewer's
//! own logic, and in terms of str0m.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::ice::StunMessage;
use str0m::media::{MediaTime, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::rtcp::Rtcp;
use str0m::rtp::{Extension, RawPacket};
use str0m::{Candidate, Event as RtcEvent, IceConnectionState, Input, Output, Rtc, RtcConfig};

use super::nack::{self, NackWatch};
use super::offer::{self, H264Type, OfferError};
use super::queue::{Pacer, SendQueue};
use super::repair::{self, Repair, Repairs};
use super::{Datagram, End, Event, Feed, KeyFrameReason, MAX_OUTBOX, Session, Setup};
use crate::config::Latency;
use crate::media::h264::SpsFacts;
use crate::media::ice;

/// How often str0m reports round trip and loss.
const STATS_INTERVAL: Duration = Duration::from_secs(2);
/// Addresses of ours in one session, over all its ICE restarts.
const MAX_LOCAL: usize = 128;
/// Header extension id proposed; the offer's own one is used in the end.
const PLAYOUT_DELAY_ID: u8 = 14;

pub(super) fn open(now: Instant, setup: &Setup<'_>) -> Result<(Session, String), OfferError> {
    let offer = offer::read(setup.offer)?;
    let mut rtc = build(now, setup, &offer);
    let mut local_addresses = Vec::new();
    add_local_candidates(&mut rtc, &mut local_addresses, setup.candidates);
    let answer = answer(&mut rtc, now, &offer.sdp)?;
    let mid = Mid::from(offer.mid.as_str());
    let types = negotiated(&rtc, mid, &offer.types);
    if types.is_empty() {
        let what = "none of the offered H264 types can be sent";
        return Err(OfferError::NoCommonCodec(what.to_owned()));
    }
    let local_ufrag = local_ufrag(&mut rtc);
    let mut session = Session {
        mid,
        types,
        rtc,
        pt: None,
        offer: offer.sdp,
        local_addresses,
        is_connected: false,
        is_restarting: false,
        old_remote_ufrag: None,
        end: None,
        feed: Feed::KeyFrame,
        queue: SendQueue::default(),
        pacer: Pacer::new(setup.rate, now),
        max_queue: setup.max_queue,
        catching_up: 0,
        replayed_gop: None,
        key_frame: None,
        next_seq: setup.seed & 0x7fff, // below 2^15: far from the first rollover (RFC 3711, 3.3.1)
        time_offset: (setup.seed >> 32) as u32,
        playout_delay: (setup.latency == Latency::Low).then_some(MediaTime::ZERO),
        nacks: NackWatch::default(),
        repairs: Repairs::default(),
        unpaid: 0,
        candidates: offer.candidates,
        sources: Vec::new(),
        local_ufrag,
        outbox: Vec::new(),
        outbox_bytes: 0,
        events: VecDeque::new(),
        rtc_timeout: now,
        clock: now,
        has_sent_picture: false,
        has_told_trouble: false,
        now,
        tally: super::Tally::default(),
        drops: super::Drops {
            candidates: offer.candidates_dropped,
            ..super::Drops::default()
        },
    };
    drain(&mut session);
    Ok((session, answer))
}

fn build(now: Instant, setup: &Setup<'_>, offer: &offer::Offer) -> Rtc {
    let can_all_be_repaired = offer.types.iter().all(|t| t.rtx.is_some());
    let mut config = RtcConfig::new()
        .clear_codecs()
        // What is not used is not negotiated: each extension costs bytes and time per packet. The
        // MID is not needed either (the answer names the SSRC of the only stream, RFC 8843
        // section 9.2), and str0m never stops sending it where RTX is negotiated.
        .clear_extension_map()
        .set_rtp_mode(true)
        .set_ice_lite(true)
        .set_dtls_cert(setup.certificate.0.clone())
        .set_stats_interval(Some(STATS_INTERVAL))
        .set_mtu(setup.mtu..=setup.mtu)
        // Raw packets cost a copy of each, so only a viewer that may turn out to be beyond repair
        // has them (the type is chosen later): they are the only way to see its NACKs.
        .enable_raw_packets(!can_all_be_repaired);
    if setup.latency == Latency::Low {
        config = config.set_extension(PLAYOUT_DELAY_ID, Extension::PlayoutDelay);
    }
    if offer.has_audio {
        // Never sent: an audio section that leads the bundle must not be rejected, so it needs
        // a codec to be answered as inactive.
        config = config
            .enable_opus(true, false)
            .enable_pcmu(true, false)
            .enable_pcma(true, false);
    }
    for h264 in &offer.types {
        let profile = h264.profile_level_id.as_u32();
        let rtx = h264.rtx.map(Pt::new_with_value);
        let pt = Pt::new_with_value(h264.pt);
        config.codec_config().add_h264(pt, rtx, true, profile);
    }
    config.build(now)
}

pub(super) fn answer(rtc: &mut Rtc, now: Instant, offer: &str) -> Result<String, OfferError> {
    let sections = |sdp: &str| sdp.lines().filter(|l| l.starts_with("m=")).count();
    let offered = sections(offer);
    let offer = SdpOffer::from_sdp_string(offer).map_err(|e| OfferError::Bad(e.to_string()))?;
    let answer = rtc.sdp_api().accept_offer(offer);
    let answer = answer.map_err(|e| OfferError::Bad(e.to_string()))?;
    advance(rtc, now).map_err(OfferError::Bad)?;
    let answer = answer.to_sdp_string();
    // An answer has a section for each of the offer's (RFC 3264 section 6).
    if sections(&answer) != offered {
        let what = "a media section has an unknown kind or the a=mid of another one";
        return Err(OfferError::Bad(what.to_owned()));
    }
    Ok(with_end_of_candidates(&answer))
}

/// A WHEP server cannot trickle, so the answer says that there is nothing to wait for
/// (RFC 8840 section 8.2).
fn with_end_of_candidates(answer: &str) -> String {
    let mut lines: Vec<&str> = answer.lines().collect();
    if let Some(last) = lines.iter().rposition(|l| l.starts_with("a=candidate:")) {
        lines.insert(last + 1, "a=end-of-candidates");
    }
    lines.join("\r\n") + "\r\n"
}

fn negotiated(rtc: &Rtc, mid: Mid, offered: &[H264Type]) -> Vec<H264Type> {
    let accepted = rtc.media(mid).map(|m| m.remote_pts()).unwrap_or_default();
    let is_accepted = |t: &&H264Type| accepted.iter().any(|pt| **pt == t.pt);
    offered.iter().filter(is_accepted).copied().collect()
}

/// The type for a stream with this SPS: the same profile, else the nearest below, else the first.
pub(super) fn choose_type(types: &[H264Type], sps: SpsFacts) -> Pt {
    let wanted = sps.profile_level_id;
    let same = |t: &&H264Type| t.profile_level_id.rank() == wanted.rank();
    let below = |t: &&H264Type| t.profile_level_id.rank() < wanted.rank();
    let exact = types.iter().find(same);
    let nearest = || {
        let ranked = types.iter().filter(below);
        ranked.max_by_key(|t| t.profile_level_id.rank())
    };
    let chosen = exact.or_else(nearest).or_else(|| types.first());
    // A session without types was refused as having no common codec.
    Pt::new_with_value(chosen.map_or(0, |t| t.pt))
}

pub(super) fn receive(
    rtc: &mut Rtc,
    now: Instant,
    from: SocketAddr,
    to: SocketAddr,
    bytes: &[u8],
) -> Result<(), String> {
    let receive = Receive::new(Protocol::Udp, from, to, bytes).map_err(|e| e.to_string())?;
    let input = Input::Receive(now, receive);
    rtc.handle_input(input).map_err(|e| e.to_string())
}

pub(super) fn advance(rtc: &mut Rtc, now: Instant) -> Result<(), String> {
    rtc.handle_input(Input::Timeout(now))
        .map_err(|e| e.to_string())
}

pub(super) fn close(rtc: &mut Rtc) -> Result<(), String> {
    rtc.close().map_err(|e| e.to_string())
}

/// Offers the media port's addresses, each once. `known` are those of this session, at most
/// [`MAX_LOCAL`] however often the machine's addresses change.
pub(super) fn add_local_candidates(
    rtc: &mut Rtc,
    known: &mut Vec<SocketAddr>,
    addresses: &[SocketAddr],
) {
    for address in addresses {
        if known.contains(address) || known.len() == MAX_LOCAL {
            continue;
        }
        // An address that ICE cannot use (multicast, unspecified) is not a candidate.
        if let Ok(candidate) = Candidate::host(*address, "udp") {
            rtc.add_local_candidate(candidate);
            known.push(*address);
        }
    }
}

pub(super) fn add_candidates(
    rtc: &mut Rtc,
    now: Instant,
    candidates: Vec<Candidate>,
) -> Result<(), String> {
    candidates
        .into_iter()
        .for_each(|c| rtc.add_remote_candidate(c));
    advance(rtc, now)
}

pub(super) fn local_ufrag(rtc: &mut Rtc) -> String {
    rtc.direct_api().local_ice_credentials().ufrag
}

/// Takes everything out of the `Rtc` until it only wants to wait.
pub(super) fn drain(session: &mut Session) {
    loop {
        match session.rtc.poll_output() {
            Ok(Output::Timeout(at)) => {
                session.rtc_timeout = at;
                break;
            }
            Ok(Output::Transmit(transmit)) => {
                let bytes = Vec::from(transmit.contents);
                if may_leave(session, &bytes) {
                    session.outbox.push(Datagram {
                        from: transmit.source,
                        to: transmit.destination,
                        bytes,
                    });
                }
            }
            Ok(Output::Event(event)) => on_event(session, event),
            Err(error) => {
                session.rtc.disconnect();
                session.finish(End::Failed(error.to_string()));
                break;
            }
        }
    }
    if !session.rtc.is_alive() {
        session.finish(End::Left);
    }
}

/// Counts what leaves, drops what is too much, and lets repairs slow down what follows: str0m
/// sends them by itself.
fn may_leave(session: &mut Session, bytes: &[u8]) -> bool {
    let len = bytes.len();
    if let Some((pt, rtp_time)) = rtp_of(bytes) {
        if !session.types.iter().any(|t| t.rtx == Some(pt)) {
            session.repairs.on_first(session.now, rtp_time, len);
        } else if !may_repair(session, rtp_time, len) {
            return false;
        }
    }
    if session.outbox_bytes + len > MAX_OUTBOX {
        session.drops.outputs += 1;
        return false;
    }
    session.outbox_bytes += len;
    session.tally.packets += 1;
    session.tally.bytes += len as u64;
    session.pacer.spend(len);
    true
}

/// Payload type and time of an RTP packet, which are not encrypted (RFC 3711 section 3.1). RTCP
/// shares its first byte (RFC 5761 section 4).
fn rtp_of(bytes: &[u8]) -> Option<(u8, u32)> {
    match *bytes {
        [128..=191, 192..=223, ..] => None,
        [128..=191, kind, _, _, a, b, c, d, ..] => {
            Some((kind & 0x7f, u32::from_be_bytes([a, b, c, d])))
        }
        _ => None,
    }
}

fn may_repair(session: &mut Session, rtp_time: u32, len: usize) -> bool {
    let repair = session.repairs.on_again(session.now, rtp_time, len);
    match repair {
        Repair::Leaves => {}
        Repair::IsLast => session.emit(Event::KeyFrameNeeded(KeyFrameReason::Unrepairable)),
        Repair::IsTooMuch => {
            session.drops.repairs += 1;
            // Empties str0m's cache: what is still asked for is not there any more, and costs
            // no encryption.
            keep_for_repair(session);
            session.emit(Event::KeyFrameNeeded(KeyFrameReason::Unrepairable));
            return false;
        }
    }
    session.tally.repairs += 1;
    session.unpaid += len;
    true
}

fn keep_for_repair(session: &mut Session) {
    let mut api = session.rtc.direct_api();
    if let Some(stream) = api.stream_tx_by_mid(session.mid, None) {
        // Without str0m's own cap on repairs: it looks every 50 ms, and says nothing when it
        // throws them away.
        stream.set_rtx_cache(repair::PACKETS, repair::AGE, None);
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // str0m's enum, most of it about receiving media
fn on_event(session: &mut Session, event: RtcEvent) {
    match event {
        RtcEvent::Connected => {
            keep_for_repair(session);
            session.is_connected = session.end.is_none();
            session.emit(Event::Connected);
        }
        RtcEvent::IceConnectionStateChange(state) => on_ice_state(session, state),
        RtcEvent::KeyframeRequest(_) => {
            session.tally.key_frame_requests += 1;
            session.emit(Event::KeyFrameNeeded(KeyFrameReason::Requested));
        }
        RtcEvent::PeerStats(stats) => {
            session.tally.round_trip = stats.rtt.or(session.tally.round_trip);
            session.tally.loss = stats.egress_loss_fraction;
        }
        RtcEvent::RawPacket(raw) => {
            if let RawPacket::RtcpRx(Rtcp::Nack(nack)) = *raw {
                on_nack(session, nack.reports.iter().map(|r| (r.pid, r.blp)));
            }
        }
        RtcEvent::Closed => session.finish(End::Left),
        // Data channels and what a viewer sends are of no use yet.
        _ => {}
    }
}

/// "Disconnected" says that no known pair of addresses works, and is no end while a path is looked
/// for: the viewer's check, or its next candidate, makes a new pair. Who never finds one is
/// reaped by `limits.setup_timeout`.
fn on_ice_state(session: &mut Session, state: IceConnectionState) {
    match state {
        IceConnectionState::Disconnected => {
            if session.is_connected && !session.is_restarting {
                session.rtc.disconnect();
                session.finish(End::ConsentLost);
            }
        }
        IceConnectionState::Connected | IceConnectionState::Completed => {
            if std::mem::take(&mut session.is_restarting) {
                session.emit(Event::Reconnected);
            }
        }
        IceConnectionState::New | IceConnectionState::Checking => {}
    }
}

/// `pid` and the bits of `blp` after it (RFC 4585 section 6.2.1).
fn on_nack(session: &mut Session, reports: impl Iterator<Item = (u16, u16)>) {
    let chosen = session
        .types
        .iter()
        .find(|t| session.pt == Some(t.pt.into()));
    if chosen.is_some_and(|t| t.rtx.is_some()) {
        return; // str0m sends it again
    }
    // What was lost before a key frame is missed no more.
    let first = session.newest_key_frame().unwrap_or(0);
    let mut is_unrepairable = false;
    for (pid, blp) in reports {
        let more = (0..16).filter(|bit| blp >> bit & 1 == 1);
        let all = more.map(|bit| pid.wrapping_add(bit + 1));
        for seq in [pid].into_iter().chain(all) {
            let seq = nack::extend(seq, session.next_seq);
            if let Some(seq) = seq.filter(|seq| *seq >= first) {
                is_unrepairable |= session.nacks.on_nack(seq);
            }
        }
    }
    if is_unrepairable {
        session.emit(Event::KeyFrameNeeded(KeyFrameReason::Unrepairable));
    }
}

/// By the first byte (RFC 7983 section 7).
pub(super) fn is_stun(bytes: &[u8]) -> bool {
    matches!(bytes, [0..=3, ..])
}

/// Looks up the local ufrag that a STUN request names: `local:remote` (RFC 8445 section 7.2.2).
/// Allocates nothing: this is what a flood of garbage meets.
pub fn find_by_ufrag<T>(bytes: &[u8], find: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    if !is_stun(bytes) {
        return None;
    }
    let message = StunMessage::parse(bytes).ok()?;
    let (local, _) = message.split_username()?;
    find(local)
}

/// `ice-ufrag` and `ice-pwd` of an offer.
pub(super) fn credentials_of(offer: &str) -> Option<(&str, &str)> {
    let find = |name: &str| {
        let mut lines = offer.lines();
        lines.find_map(|l| l.strip_prefix(name)).map(str::trim)
    };
    Some((find("a=ice-ufrag:")?, find("a=ice-pwd:")?))
}

/// The offer with other credentials and without its candidates, which belong to the old ones.
pub(super) fn with_credentials(offer: &str, ufrag: &str, pwd: &str) -> Result<String, OfferError> {
    if !ice::is_ufrag(ufrag) || !ice::is_pwd(pwd) {
        let what = "ice-ufrag or ice-pwd is too short, too long or has a forbidden character";
        return Err(OfferError::Bad(what.to_owned()));
    }
    let mut sdp = String::with_capacity(offer.len());
    for line in offer.lines().filter(|l| !l.starts_with("a=candidate:")) {
        if line.starts_with("a=ice-ufrag:") {
            sdp.push_str("a=ice-ufrag:");
            sdp.push_str(ufrag);
        } else if line.starts_with("a=ice-pwd:") {
            sdp.push_str("a=ice-pwd:");
            sdp.push_str(pwd);
        } else {
            sdp.push_str(line);
        }
        sdp.push_str("\r\n");
    }
    Ok(sdp)
}

/// Our credentials and candidates as an `application/trickle-ice-sdpfrag` (RFC 8840 section 9).
pub(super) fn fragment_of(answer: &str) -> String {
    let mut fragment = String::new();
    let mut push = |line: &str| {
        fragment.push_str(line);
        fragment.push_str("\r\n");
    };
    if let Some((ufrag, pwd)) = credentials_of(answer) {
        push(&format!("a=ice-ufrag:{ufrag}"));
        push(&format!("a=ice-pwd:{pwd}"));
    }
    let is_head = |l: &&str| l.starts_with("m=") || l.starts_with("a=mid:");
    answer.lines().filter(is_head).take(2).for_each(&mut push);
    let is_candidate = |l: &&str| l.starts_with("a=candidate:") || *l == "a=end-of-candidates";
    answer.lines().filter(is_candidate).for_each(&mut push);
    fragment
}
