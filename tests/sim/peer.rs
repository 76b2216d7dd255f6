//! A viewer: a str0m of its own, and a decoder that behaves as Chromium was measured to: pictures
//! in order, a complete key frame ahead is jumped to, PLI every 200 ms without a key frame, and
//! three seconds after a loss that nobody repairs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::crypto::dtls::DtlsProvider;
use str0m::crypto::{CryptoProvider, from_feature_flags};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, RtpPacket};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::camera::number_of;

/// How a viewer is set up.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Offers RTX.
    pub has_rtx: bool,
    /// Offers the fingerprint of a certificate that it does not have.
    pub is_impostor: bool,
    /// How long it waits for a repair before it asks for a key frame.
    pub patience: Duration,
    /// Its DTLS, if it is not ours.
    pub dtls: Option<&'static dyn DtlsProvider>,
}

impl Habits {
    pub const BROWSER: Self = Self {
        has_rtx: true,
        is_impostor: false,
        patience: Duration::from_secs(3),
        dtls: None,
    };

    /// Cannot be sent a packet again.
    pub const WITHOUT_RTX: Self = Self {
        has_rtx: false,
        ..Self::BROWSER
    };
}

/// A picture that was shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub at: Instant,
    pub number: u64,
    pub rtp_time: u32,
    pub is_key_frame: bool,
}

pub struct Peer {
    pub rtc: Rtc,
    pub address: SocketAddr,
    mid: Mid,
    pending: Option<SdpPendingOffer>,
    pub habits: Habits,
    pub timeout: Instant,
    pub is_connected: bool,
    pub connected_at: Option<Instant>,
    /// The answer as it came, with the credentials of the last ICE restart.
    pub answer: String,
    pub offer: String,
    pub is_closed: bool,
    /// Reads nothing from its socket.
    pub is_deaf: bool,
    pub outbox: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    packets: BTreeMap<u64, Piece>,
    next_seq: Option<u64>,
    pub shown: Vec<Shown>,
    stuck_since: Option<Instant>,
    last_pli: Option<Instant>,
    pub plis: u64,
    pub received_packets: u64,
    pub payload_types: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    rtp_time: u32,
    is_last: bool,
    is_first: bool,
    is_key_frame: bool,
    number: Option<u64>,
}

const KEYLESS_PLI: Duration = Duration::from_millis(200);
/// A decoder keeps no more than that.
const MAX_PIECES: usize = 6000;

impl Peer {
    /// A viewer at `address`, and its offer.
    pub fn new(now: Instant, address: SocketAddr, habits: Habits) -> (Self, String) {
        let mut config = RtcConfig::new()
            .clear_codecs()
            .set_rtp_mode(true)
            .set_extension(5, Extension::PlayoutDelay);
        if let Some(dtls_provider) = habits.dtls {
            config = config.set_crypto_provider(Arc::new(CryptoProvider {
                dtls_provider,
                ..from_feature_flags()
            }));
        }
        let rtx = |pt: u8| habits.has_rtx.then(|| Pt::new_with_value(pt));
        let codecs = config.codec_config();
        codecs.add_h264(Pt::new_with_value(103), rtx(104), true, 0x42001f);
        codecs.add_h264(Pt::new_with_value(107), rtx(108), true, 0x42e01f);
        codecs.add_h264(Pt::new_with_value(109), rtx(110), true, 0x4d001f);
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let mut api = rtc.sdp_api();
        let mid = api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = api.apply().unwrap();
        let mut offer = offer.to_sdp_string();
        if habits.is_impostor {
            let end = offer.find("a=fingerprint:").expect("one");
            let end = end + offer[end..].find('\r').expect("a line");
            offer.replace_range(
                end - 2..end,
                if &offer[end - 2..end] == "00" {
                    "01"
                } else {
                    "00"
                },
            );
        }
        let peer = Self {
            rtc,
            address,
            mid,
            pending: Some(pending),
            habits,
            timeout: now,
            is_connected: false,
            connected_at: None,
            answer: String::new(),
            offer: offer.clone(),
            is_closed: false,
            is_deaf: false,
            outbox: Vec::new(),
            packets: BTreeMap::new(),
            next_seq: None,
            shown: Vec::new(),
            stuck_since: None,
            last_pli: None,
            plis: 0,
            received_packets: 0,
            payload_types: Vec::new(),
        };
        (peer, offer)
    }

    pub fn accept(&mut self, now: Instant, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).expect("our own answer parses");
        let pending = self.pending.take().expect("one answer");
        self.answer = answer.to_sdp_string();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
        self.handle_timeout(now);
    }

    /// Begins an ICE restart; gives the new `ice-ufrag` and `ice-pwd`.
    pub fn restart_ice(&mut self, now: Instant) -> (String, String) {
        let mut api = self.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        self.offer = offer.to_sdp_string();
        self.handle_timeout(now);
        credentials_in(&self.offer)
    }

    /// Takes the server's fragment that answers it.
    pub fn accept_fragment(&mut self, now: Instant, fragment: &str) {
        let (ufrag, pwd) = credentials_in(fragment);
        let (old_ufrag, old_pwd) = credentials_in(&self.answer);
        let answer = self.answer.replace(&old_ufrag, &ufrag);
        self.accept(now, &answer.replace(&old_pwd, &pwd));
    }

    pub fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if self.is_deaf || self.is_closed {
            return;
        }
        let receive = Receive::new(Protocol::Udp, from, self.address, bytes).unwrap();
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
        self.drain(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain(now);
        self.complain(now);
    }

    /// When it must be called again.
    pub fn next_at(&self) -> Instant {
        let pli = match (self.shown.is_empty(), self.stuck_since) {
            (true, _) => self.last_pli.map(|at| at + KEYLESS_PLI),
            (false, Some(since)) => Some(since + self.habits.patience),
            (false, None) => None,
        };
        let waits = self.is_connected && !self.packets.is_empty();
        pli.filter(|_| waits)
            .map_or(self.timeout, |at| at.min(self.timeout))
    }

    pub fn leave(&mut self, now: Instant) {
        self.rtc.close().unwrap();
        self.drain(now);
        self.is_closed = true;
    }

    fn drain(&mut self, now: Instant) {
        loop {
            let Ok(output) = self.rtc.poll_output() else {
                self.is_closed = true; // its handshake timed out
                break;
            };
            match output {
                Output::Timeout(at) => {
                    self.timeout = at.max(now + Duration::from_micros(100));
                    break;
                }
                Output::Transmit(t) => {
                    self.outbox
                        .push((t.source, t.destination, t.contents.to_vec()));
                }
                Output::Event(Event::Connected) => {
                    self.is_connected = true;
                    self.connected_at = Some(now);
                }
                Output::Event(Event::Closed) => self.is_closed = true,
                Output::Event(Event::RtpPacket(packet)) => self.take(now, &packet),
                Output::Event(_) => {}
            }
        }
        if !self.rtc.is_alive() {
            self.is_closed = true;
        }
    }

    fn take(&mut self, now: Instant, packet: &RtpPacket) {
        self.received_packets += 1;
        if self.received_packets == 1 && !self.habits.has_rtx {
            // str0m asks for nothing that has no RTX; browsers do.
            if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(self.mid, None) {
                stream.suppress_nack(false);
            }
        }
        let pt = *packet.header.payload_type;
        if self.payload_types.last() != Some(&pt) {
            self.payload_types.push(pt);
        }
        if self.next_seq.is_some_and(|next| *packet.seq_no < next) {
            return;
        }
        let piece = Piece::read(packet);
        self.packets.insert(*packet.seq_no, piece);
        if self.packets.len() > MAX_PIECES {
            self.packets.pop_first();
        }
        self.show(now);
        if self.shown.is_empty() && self.last_pli.is_none() {
            self.last_pli = Some(now);
        }
    }

    fn show(&mut self, now: Instant) {
        while let Some((first, last)) = self.next_picture() {
            let number = self.packets.range(first..=last).find_map(|(_, p)| p.number);
            let piece = self.packets[&last];
            let is_key_frame = self.packets[&first].is_key_frame;
            self.shown.push(Shown {
                at: now,
                number: number.unwrap_or(u64::MAX),
                rtp_time: piece.rtp_time,
                is_key_frame,
            });
            self.packets = self.packets.split_off(&(last + 1));
            self.next_seq = Some(last + 1);
            self.stuck_since = None;
        }
        if !self.packets.is_empty() && self.stuck_since.is_none() {
            self.stuck_since = Some(now);
        }
    }

    /// The picture that comes next if it is whole, else the first whole key frame.
    fn next_picture(&self) -> Option<(u64, u64)> {
        if let Some(next) = self.next_seq
            && let Some(last) = self.whole_from(next)
        {
            return Some((next, last));
        }
        self.packets
            .iter()
            .filter(|(_, piece)| piece.is_first && piece.is_key_frame)
            .find_map(|(seq, _)| Some((*seq, self.whole_from(*seq)?)))
    }

    fn whole_from(&self, first: u64) -> Option<u64> {
        for (expected, (seq, piece)) in (first..).zip(self.packets.range(first..)) {
            if *seq != expected {
                return None;
            }
            if piece.is_last {
                return Some(*seq);
            }
        }
        None
    }

    fn complain(&mut self, now: Instant) {
        if !self.is_connected || self.is_closed || self.packets.is_empty() {
            return;
        }
        let since = if self.shown.is_empty() {
            self.last_pli.map(|at| at + KEYLESS_PLI)
        } else {
            self.stuck_since.map(|at| at + self.habits.patience)
        };
        if since.is_some_and(|at| at <= now) {
            self.last_pli = Some(now);
            self.stuck_since = self.stuck_since.map(|_| now);
            self.request_key_frame(now);
        }
    }

    pub fn request_key_frame(&mut self, now: Instant) {
        self.plis += 1;
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(self.mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain(now);
    }

    /// The longest time between two shown pictures from `since` to `until`.
    pub fn longest_gap(&self, since: Instant, until: Instant) -> Duration {
        let inner = self.shown.iter().map(|s| s.at).filter(|at| *at >= since);
        let times: Vec<Instant> = [since].into_iter().chain(inner).chain([until]).collect();
        times
            .windows(2)
            .map(|pair| pair[1].saturating_duration_since(pair[0]))
            .max()
            .unwrap_or_default()
    }
}

/// The first `ice-ufrag` and `ice-pwd` of a description.
pub fn credentials_in(sdp: &str) -> (String, String) {
    let find = |name| sdp.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    let (ufrag, pwd) = (find("a=ice-ufrag:"), find("a=ice-pwd:"));
    (ufrag.trim().to_owned(), pwd.trim().to_owned())
}

impl Piece {
    fn read(packet: &RtpPacket) -> Self {
        let payload = &packet.payload;
        let kind = payload[0] & 0x1f;
        let fu = payload.get(1).copied().unwrap_or_default();
        let is_fu_start = kind == 28 && fu & 0x80 != 0;
        let number = match kind {
            1 | 5 => number_of(payload),
            28 if is_fu_start => number_of(&payload[1..]),
            _ => None,
        };
        Self {
            rtp_time: packet.header.timestamp,
            is_last: packet.header.marker,
            is_first: kind == 24 || kind == 1 || is_fu_start && fu & 0x1f == 1,
            is_key_frame: kind == 24,
            number,
        }
    }
}
