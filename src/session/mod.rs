//! One viewer: one `str0m::Rtc`, driven by calls.
//!
//! In: an offer, datagrams, frames, time. Out: an answer, datagrams, [`Event`]s, a time to be
//! called again.
//! Not here: sockets, which camera it watches, limits over all viewers (gateway).
//!
//! This is the only room that touches str0m. Whatever changes the `Rtc` goes through
//! [`Session::with`], which drains it to its timeout before it is changed again; but packets are
//! written many at a time before a drain, which releases them. It may panic on a peer's bytes:
//! the gateway catches that, and the viewer is dropped.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod crypto;
mod dtls;
mod nack;
pub mod offer;
pub mod queue;
mod repair;
mod rtc;
mod tally;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::Rtc;
use str0m::media::{MediaTime as StrMediaTime, Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpWrite};
use tracing::trace;

use crate::config::Latency;
use crate::media::frame::{Frame, Need};
use crate::media::ice::{MAX_CANDIDATES, MAX_SOURCES};

pub use crypto::{Certificate, install_crypto, new_certificate};
pub use rtc::find_by_ufrag;
pub use tally::{Drops, Tally};

use nack::NackWatch;
use offer::{H264Type, OfferError};
use queue::{Pace, Pacer, SendQueue, wire_len};
use repair::Repairs;

/// One UDP datagram to send.
#[derive(Debug)]
pub struct Datagram {
    /// Our address, as a candidate of the answer names it.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// Everything that a session is made of.
#[derive(Debug)]
pub struct Setup<'a> {
    pub offer: &'a str,
    /// Every address at which the media port can be reached.
    pub candidates: &'a [SocketAddr],
    pub certificate: &'a Certificate,
    pub latency: Latency,
    /// Largest UDP payload, bytes.
    pub mtu: usize,
    /// Bits per second to this viewer.
    pub rate: u64,
    /// Bytes that may wait for this viewer.
    pub max_queue: usize,
    /// Random: the first sequence number and the offset of RTP times.
    pub seed: u64,
}

/// What the gateway must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// ICE and DTLS are up: pictures can be sent.
    Connected,
    /// ICE is up again after a restart.
    Reconnected,
    /// The viewer cannot decode what comes next.
    KeyFrameNeeded(KeyFrameReason),
    /// The last packet of the first key frame left.
    FirstPicture,
    /// The first datagram of the handshake that could not be used, and why. Said once.
    Trouble(String),
    /// The session is over; it sends nothing after what it has queued already.
    Ended(End),
}

/// Why a viewer needs a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFrameReason {
    /// PLI or FIR (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1).
    Requested,
    /// The second NACK for a packet that is not resent, or NACKs for more than can be.
    Unrepairable,
    /// Its queue grew past its bound and was cut.
    Skipped,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The viewer said so (DTLS close, WHEP DELETE).
    Left,
    /// It was not connected in time.
    HalfOpen,
    /// It reached the age at which sessions end.
    Expired,
    /// The process ends.
    Drained,
    /// No answer to ICE checks any more (RFC 7675).
    ConsentLost,
    /// It failed; for the log.
    Failed(String),
}

/// Where a viewer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    /// Connected, nothing to decode yet.
    Waiting,
    /// What was cached is on its way.
    CatchingUp,
    Playing,
    Ended,
}

/// What the next frame must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
    /// Nothing but a key frame can be decoded.
    KeyFrame,
    /// Whatever comes next.
    Any,
}

/// One viewer.
#[derive(Debug)]
pub struct Session {
    rtc: Rtc,
    mid: Mid,
    types: Vec<H264Type>,
    /// Chosen at the first key frame, kept for good (browsers decode on across profiles).
    pt: Option<Pt>,
    /// The offer as str0m got it, for an ICE restart.
    offer: String,
    /// Our own, as far as the viewer was told.
    local_addresses: Vec<SocketAddr>,
    is_connected: bool,
    /// Connected, and asked to find a new path that it has not found yet.
    is_restarting: bool,
    /// What the viewer called itself before its last ICE restart.
    old_remote_ufrag: Option<String>,
    end: Option<End>,
    feed: Feed,
    queue: SendQueue,
    pacer: Pacer,
    max_queue: usize,
    /// Cached bytes on their way: they do not count against `max_queue`.
    catching_up: usize,
    /// The group that was replayed to this viewer last, for its recovery.
    replayed_gop: Option<u64>,
    /// Number of the first packet of the newest key frame that has left completely, and when.
    key_frame: Option<(u64, Instant)>,
    next_seq: u64,
    time_offset: u32,
    playout_delay: Option<StrMediaTime>,
    nacks: NackWatch,
    repairs: Repairs,
    /// Bytes of repairs that the common pace has not been told of.
    unpaid: usize,
    /// Addresses of the viewer's candidates since the last ICE restart.
    candidates: Vec<SocketAddr>,
    /// Addresses that its ICE checks came from since then.
    sources: Vec<SocketAddr>,
    local_ufrag: String,
    outbox: Vec<Datagram>,
    outbox_bytes: usize,
    events: VecDeque<Event>,
    rtc_timeout: Instant,
    /// The latest time that str0m was given, see [`Self::tick`].
    clock: Instant,
    has_sent_picture: bool,
    has_told_trouble: bool,
    /// Of the call that is running.
    now: Instant,
    tally: Tally,
    drops: Drops,
}

/// Slack of timers: what is due within it is done now, so that close ones share a turn.
pub const SLACK: Duration = Duration::from_millis(1);
/// Packets written before str0m is drained: as many as leave in one system call. Its queue keeps
/// room for the most that it ever held, 400 bytes each.
const WRITES_PER_DRAIN: usize = 32;
/// Bytes of datagrams that wait for one viewer's turn; what comes after is dropped. Pictures come
/// by pace and repairs by their own bound, so this is met by answers to a flood at most.
pub const MAX_OUTBOX: usize = 1 << 20;
/// Until a viewer's round trip is known, and the bounds of what is believed of it.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const MIN_ROUND_TRIP: Duration = Duration::from_millis(50);
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);

impl Session {
    /// Answers an offer. The session connects by itself from here on.
    pub fn open(now: Instant, setup: &Setup<'_>) -> Result<(Self, String), OfferError> {
        rtc::open(now, setup)
    }

    /// Takes a datagram from a peer.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        self.now = now;
        if rtc::is_stun(bytes) && !self.is_heard(from) {
            self.drops.candidates += 1;
            return;
        }
        let at = self.tick(now);
        let outcome = self.with(|rtc| rtc::receive(rtc, at, from, to, bytes));
        if let Err(error) = outcome {
            // Anybody can send bytes from a viewer's address, so they must not end a session,
            // nor a handshake: one that really failed ends by `limits.setup_timeout`. The first
            // is told, as it may be why (a certificate that we cannot verify).
            trace!(%from, error, "datagram of no use");
            if !self.has_told_trouble && !self.is_connected {
                self.emit(Event::Trouble(error));
            }
            self.has_told_trouble = true;
            self.drops.inputs += 1;
        }
    }

    /// Whether ICE checks from this address are taken: of the first [`MAX_SOURCES`].
    fn is_heard(&mut self, from: SocketAddr) -> bool {
        let is_known = self.sources.contains(&from);
        let is_heard = is_known || self.sources.len() < MAX_SOURCES;
        if is_heard && !is_known {
            self.sources.push(from);
        }
        is_heard
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.rtc_timeout <= now + SLACK {
            let at = self.tick(self.rtc_timeout.max(now));
            let outcome = self.with(|rtc| rtc::advance(rtc, at));
            self.fail_on(outcome);
        }
    }

    /// When [`Self::handle_timeout`] or [`Self::pump`] has something to do by time alone.
    pub fn poll_timeout(&self) -> Instant {
        if self.queue.is_empty() || !self.is_connected {
            self.rtc_timeout
        } else {
            self.rtc_timeout.min(self.pacer.opens_at())
        }
    }

    /// Queues a live frame, if this viewer can use it.
    pub fn push_frame(&mut self, frame: &Arc<Frame>) {
        if !self.is_connected || (self.feed == Feed::KeyFrame && !frame.is_key_frame) {
            return;
        }
        if frame.is_key_frame {
            // What is older is of no use any more: the key frame is nearer to now.
            self.queue.skip();
            self.catching_up = 0;
            self.feed = Feed::Any;
        }
        self.queue.push(frame);
        // A key frame cannot be skipped to a better one, however large it is.
        if !frame.is_key_frame && self.queue.bytes() > self.max_queue + self.catching_up {
            self.skip();
        }
    }

    /// Queues cached frames, beginning with a key frame. With `live_follows` the next live frame
    /// continues them; otherwise the next key frame does. One recovery per group of pictures.
    pub fn replay(&mut self, frames: &[Arc<Frame>], live_follows: bool, need: Need) {
        let Some(key_frame) = frames.first().filter(|f| f.is_key_frame) else {
            return;
        };
        self.queue.skip();
        frames.iter().for_each(|frame| self.queue.push(frame));
        self.catching_up = self.queue.bytes();
        if need != Need::Join {
            self.replayed_gop = Some(key_frame.gop);
        }
        self.feed = if live_follows {
            Feed::Any
        } else {
            Feed::KeyFrame
        };
    }

    /// Whether this group was replayed to this viewer for its recovery already, or a replay is
    /// on its way.
    pub fn has_replayed(&self, gop: u64) -> bool {
        self.replayed_gop == Some(gop) || self.catching_up > 0
    }

    /// A key frame is queued, or left so shortly ago that a PLI was sent before it was there.
    pub fn is_key_frame_on_its_way(&self, now: Instant) -> bool {
        let told = self.tally.round_trip.unwrap_or(ROUND_TRIP);
        let round_trip = told.clamp(MIN_ROUND_TRIP, MAX_ROUND_TRIP);
        let is_fresh = |(_, left)| now.saturating_duration_since(left) < round_trip;
        self.queue.key_frame_sent().is_some() || self.key_frame.is_some_and(is_fresh)
    }

    /// Number of the first packet of the newest key frame, where one left or is leaving: what was
    /// lost before it is missed no more.
    fn newest_key_frame(&self) -> Option<u64> {
        let leaving = self.queue.key_frame_sent();
        let leaving = leaving.map(|sent| self.next_seq - sent as u64);
        leaving.or_else(|| self.key_frame.map(|(first, _)| first))
    }

    /// The stream begins anew (its camera restarted): only a key frame can follow.
    pub fn await_key_frame(&mut self) {
        self.feed = Feed::KeyFrame;
        self.queue.skip();
        self.catching_up = 0;
    }

    fn skip(&mut self) {
        self.await_key_frame();
        self.tally.skips += 1;
        self.emit(Event::KeyFrameNeeded(KeyFrameReason::Skipped));
    }

    /// Sends what its pace and the common pace of all viewers allow. Tells when the newest live
    /// frame that left completely had been received; how old a replay is says nothing.
    pub fn pump(&mut self, now: Instant, common: &mut Pacer) -> Option<Instant> {
        self.now = now;
        common.spend(std::mem::take(&mut self.unpaid));
        let mut completed = None;
        while self.is_connected && !self.queue.is_empty() {
            let written = self.write_some(now, common, &mut completed);
            if written == 0 {
                break;
            }
            let (at, before) = (self.tick(now), self.tally.packets);
            let outcome = self.with(|rtc| rtc::advance(rtc, at));
            self.fail_on(outcome);
            // Nothing left: the paces are paid by what leaves, so more of it would know no bound.
            if self.tally.packets == before {
                break;
            }
        }
        if self.queue.is_empty() {
            self.catching_up = 0;
        }
        completed
    }

    /// Which pace holds back what is left after [`Self::pump`].
    pub fn held_by(&mut self, now: Instant) -> Option<Pace> {
        let is_held = self.is_connected && !self.queue.is_empty();
        is_held.then(|| match self.pacer.is_open(now) {
            true => Pace::Common,
            false => Pace::Own,
        })
    }

    /// Hands packets to str0m, which encrypts and releases them in the next drain.
    fn write_some(
        &mut self,
        now: Instant,
        common: &mut Pacer,
        completed: &mut Option<Instant>,
    ) -> usize {
        let mut written = 0;
        // The own pace is paid when packets really leave, in the drain: until then it is held
        // here. Both are looked at, so that the one that is open knows what time it is.
        let (own, shared) = (self.pacer.room(now), common.room(now));
        let mut room = own.min(shared);
        let mut has_key_frame = false;
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(self.mid, None) else {
            self.finish(End::Failed("nothing to send on was negotiated".to_owned()));
            return 0;
        };
        while written < WRITES_PER_DRAIN && room > 0.0 {
            let Some(packet) = self.queue.pop() else {
                break;
            };
            let pt = *self
                .pt
                .get_or_insert_with(|| rtc::choose_type(&self.types, packet.sps));
            room -= wire_len(&packet.payload) as f64;
            common.spend(wire_len(&packet.payload));
            if packet.is_last {
                if self.catching_up == 0 {
                    *completed = Some(packet.received);
                }
                if packet.is_key_frame {
                    has_key_frame = true;
                    self.key_frame = Some((self.next_seq - packet.index as u64, now));
                }
            }
            let write = RtpWrite::new(
                pt,
                self.next_seq.into(),
                packet.time.as_rtp().wrapping_add(self.time_offset),
                packet.captured.min(now),
                packet.payload,
            );
            stream.write_rtp(write.marker(packet.is_last).nackable(true).ext_vals(
                ExtensionValues {
                    play_delay_min: self.playout_delay,
                    play_delay_max: self.playout_delay,
                    ..ExtensionValues::default()
                },
            ));
            self.next_seq += 1;
            written += 1;
        }
        if has_key_frame {
            self.on_key_frame_left();
        }
        written
    }

    fn on_key_frame_left(&mut self) {
        if !self.has_sent_picture {
            self.has_sent_picture = true;
            self.emit(Event::FirstPicture);
        }
    }

    /// The kernel refused a datagram to this viewer: its buffers are full, so pause. The hole is
    /// left to the viewer's NACK, which also knows whether it was a picture at all: repaired a
    /// round trip later (RTX), while a skip to the next key frame would be seen by every viewer
    /// and, from a camera that cannot be asked for one, last for up to a group of pictures. One
    /// without RTX gets its key frame at its second NACK.
    pub fn on_refused(&mut self) {
        self.pacer.pause();
    }

    /// Ends the session from our side: BYE and DTLS close are queued.
    pub fn close(&mut self, why: End) {
        // Said first: what the drain sees is the consequence.
        self.finish(why);
        if let Err(error) = self.with(rtc::close) {
            tracing::debug!(error, "a session ended without saying good-bye");
        }
    }

    /// Adds what a trickle fragment brought. Candidates that cannot be used are left out, as are
    /// those that are known; past [`MAX_CANDIDATES`] since the last ICE restart they are dropped.
    pub fn add_candidates(&mut self, now: Instant, candidates: &[String]) {
        self.now = now;
        let mut usable = Vec::new();
        for candidate in candidates.iter().filter_map(|c| offer::read_candidate(c)) {
            if self.candidates.contains(&candidate.addr()) {
                continue;
            }
            if self.candidates.len() >= MAX_CANDIDATES {
                self.drops.candidates += 1;
                continue;
            }
            self.candidates.push(candidate.addr());
            usable.push(candidate);
        }
        let at = self.tick(now);
        let outcome = self.with(|rtc| rtc::add_candidates(rtc, at, usable));
        self.fail_on(outcome);
    }

    /// Restarts ICE for new credentials of the viewer (RFC 8445 section 2.4); gives our side's
    /// fragment, with the media port's addresses as they are now (`ours`) and those that were told
    /// before. Media goes on over the old path meanwhile.
    pub fn restart_ice(
        &mut self,
        now: Instant,
        ufrag: &str,
        pwd: &str,
        theirs: &[String],
        ours: &[SocketAddr],
    ) -> Result<String, OfferError> {
        self.now = now;
        let offer = rtc::with_credentials(&self.offer, ufrag, pwd)?;
        let mut known = std::mem::take(&mut self.local_addresses);
        let at = self.tick(now);
        let answer = self.with(|rtc| {
            rtc::add_local_candidates(rtc, &mut known, ours);
            rtc::answer(rtc, at, &offer)
        });
        self.local_addresses = known;
        let answer = answer?;
        self.is_restarting = self.is_connected;
        self.old_remote_ufrag = self.remote_ufrag().map(str::to_owned);
        self.offer = offer;
        self.local_ufrag = rtc::local_ufrag(&mut self.rtc);
        self.candidates.clear();
        self.sources.clear();
        self.add_candidates(now, theirs);
        Ok(rtc::fragment_of(&answer))
    }

    /// The `ice-ufrag` that the viewer told last.
    pub fn remote_ufrag(&self) -> Option<&str> {
        rtc::credentials_of(&self.offer).map(|(ufrag, _)| ufrag)
    }

    /// The one before its last ICE restart: what still comes under it is late.
    pub fn old_remote_ufrag(&self) -> Option<&str> {
        self.old_remote_ufrag.as_deref()
    }

    /// Our own `ice-ufrag`: how a datagram from an unknown address names this session. Changes
    /// with each ICE restart.
    pub fn local_ufrag(&self) -> &str {
        &self.local_ufrag
    }

    /// The time to give to str0m for what happens at `at`. Timers that are due within [`SLACK`] are
    /// given theirs early, and from then on it ignores any time before that: what it was handed in
    /// between would not leave.
    fn tick(&mut self, at: Instant) -> Instant {
        self.clock = self.clock.max(at);
        self.clock
    }

    /// Whatever was done to the `Rtc`, it is drained before we return.
    fn with<T>(&mut self, act: impl FnOnce(&mut Rtc) -> T) -> T {
        let outcome = act(&mut self.rtc);
        rtc::drain(self);
        outcome
    }

    fn fail_on(&mut self, outcome: Result<(), String>) {
        if let Err(error) = outcome {
            self.finish(End::Failed(error));
        }
    }

    fn finish(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end.clone());
            self.is_connected = false;
            self.emit(Event::Ended(end));
        }
    }

    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Moves what is to be sent to `outbox`, which must be empty; its room is reused.
    pub fn take_datagrams(&mut self, outbox: &mut Vec<Datagram>) {
        std::mem::swap(&mut self.outbox, outbox);
        self.outbox_bytes = 0;
    }

    /// What was dropped since the last call.
    pub fn take_drops(&mut self) -> Drops {
        std::mem::take(&mut self.drops)
    }

    /// Where the viewer stands.
    pub fn state(&self) -> State {
        match (&self.end, self.is_connected) {
            (Some(_), _) => State::Ended,
            (None, false) => State::Connecting,
            (None, true) if self.catching_up > 0 => State::CatchingUp,
            (None, true) if self.feed == Feed::KeyFrame || !self.has_sent_picture => State::Waiting,
            (None, true) => State::Playing,
        }
    }

    /// Counters.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }
}
