//! A viewer for benchmarks: a str0m that offers what Chromium offers of H.264, answers STUN and
//! RTCP like any client, and counts what it receives.
//!
//! In: datagrams, time. Out: datagrams. Not here: sockets, decoding.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, RtpPacket};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

pub struct Viewer {
    rtc: Rtc,
    pub address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    pub timeout: Instant,
    pub is_connected: bool,
    /// To send: to whom, what.
    pub outbox: Vec<(SocketAddr, Vec<u8>)>,
    pub packets: u64,
    pub frames: u64,
    /// Holes in the sequence of packets.
    pub losses: u64,
    newest: Option<u64>,
}

impl Viewer {
    /// A viewer at `address`, and its offer.
    pub fn new(now: Instant, address: SocketAddr) -> (Self, String) {
        let mut config = RtcConfig::new()
            .clear_codecs()
            .set_rtp_mode(true)
            .set_extension(5, Extension::PlayoutDelay);
        let codecs = config.codec_config();
        let rtx = |pt: u8| Some(Pt::new_with_value(pt));
        codecs.add_h264(Pt::new_with_value(103), rtx(104), true, 0x42_001f);
        codecs.add_h264(Pt::new_with_value(107), rtx(108), true, 0x42_e01f);
        codecs.add_h264(Pt::new_with_value(112), rtx(113), true, 0x64_001f);
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a host address"));
        let mut api = rtc.sdp_api();
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = api.apply().expect("there is something to offer");
        let viewer = Self {
            rtc,
            address,
            pending: Some(pending),
            timeout: now,
            is_connected: false,
            outbox: Vec::new(),
            packets: 0,
            frames: 0,
            losses: 0,
            newest: None,
        };
        (viewer, offer.to_sdp_string())
    }

    pub fn accept(&mut self, now: Instant, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).expect("an answer that parses");
        let pending = self.pending.take().expect("one answer only");
        let api = self.rtc.sdp_api();
        api.accept_answer(pending, answer)
            .expect("an answer that fits");
        self.handle_timeout(now);
    }

    /// Takes a datagram; `on_packet` sees the media in it.
    pub fn receive(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        on_packet: impl FnMut(&RtpPacket),
    ) {
        if let Ok(receive) = Receive::new(Protocol::Udp, from, self.address, bytes) {
            // Stray datagrams of an earlier viewer at this address are no concern here.
            let _ = self.rtc.handle_input(Input::Receive(now, receive));
        }
        self.drain(now, on_packet);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = self.rtc.handle_input(Input::Timeout(now));
        self.drain(now, |_| {});
    }

    #[allow(dead_code)] // one of the benches has nobody leave
    pub fn leave(&mut self, now: Instant) {
        let _ = self.rtc.close();
        self.drain(now, |_| {});
    }

    #[allow(clippy::wildcard_enum_match_arm)] // str0m's enum; the rest is of no interest
    fn drain(&mut self, now: Instant, mut on_packet: impl FnMut(&RtpPacket)) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.timeout = at.max(now + MIN_WAIT);
                    break;
                }
                Ok(Output::Transmit(t)) => self.outbox.push((t.destination, t.contents.to_vec())),
                Ok(Output::Event(Event::Connected)) => self.is_connected = true,
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    self.count(&packet);
                    on_packet(&packet);
                }
                Ok(Output::Event(_)) => {}
                Err(_) => break,
            }
        }
    }

    fn count(&mut self, packet: &RtpPacket) {
        self.packets += 1;
        self.frames += u64::from(packet.header.marker);
        let seq = *packet.seq_no;
        if let Some(newest) = self.newest {
            self.losses += (seq.saturating_sub(newest)).saturating_sub(1);
        }
        self.newest = self.newest.max(Some(seq));
    }
}

/// Timers that are due at once are not spun on.
const MIN_WAIT: Duration = Duration::from_millis(1);
