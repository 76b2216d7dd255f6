//! Fans one stream out to its viewers.
//!
//! In: access units, wishes for a key frame. Out: [`Frame`]s that are cut into RTP payloads once,
//! replays of the running group of pictures, demands to the source.
//! Not here: who the viewers are (gateway), how a frame reaches one of them (session).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod facts;
mod gop;
mod wish;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::frame::{Frame, Need};
use crate::media::h264::{START_CODE, SpsFacts, is_b_slice, nal_type, nal_type_of, nal_units};
use crate::media::packetize::{Payload, packetize};
use crate::media::time::{MediaTime, Timeline};
use crate::media::{Abilities, AccessUnit};

pub use facts::StreamFacts;
pub use gop::Replay;

use gop::GopCache;
use wish::KeyFrameWish;

/// What is fixed for a hub's life.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Room for one RTP payload, bytes.
    pub payload: usize,
    /// Bytes that the GOP cache may hold; 0 turns it off.
    pub gop_cache: usize,
    /// Zero of [`MediaTime`].
    pub epoch: Instant,
}

/// One stream.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    abilities: Abilities,
    timeline: Timeline,
    parameters: Parameters,
    gop: GopCache,
    wish: KeyFrameWish,
    facts: StreamFacts,
    /// Nothing passes before the next key frame: the run is new, or something was lost.
    is_holding: bool,
    gops: u64,
}

/// The newest parameter sets, kept as NAL units.
#[derive(Debug, Default)]
struct Parameters {
    sps: Option<(Vec<u8>, SpsFacts)>,
    pps: Option<Vec<u8>>,
}

impl Hub {
    /// A hub exists before its source starts and outlives every run of it.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            abilities: Abilities::default(),
            timeline: Timeline::default(),
            parameters: Parameters::default(),
            gop: GopCache::new(settings.gop_cache),
            wish: KeyFrameWish::default(),
            facts: StreamFacts::default(),
            is_holding: true,
            gops: 0,
        }
    }

    /// A new run of the source begins or the last one ended: its clock and its pictures have
    /// nothing to do with what comes next.
    pub fn restart(&mut self, abilities: Abilities) {
        self.abilities = abilities;
        self.timeline.restart();
        self.gop.clear();
        self.wish.clear();
        self.is_holding = true;
        self.facts.restart();
    }

    /// Begins anew after a panic, which may have left anything half done.
    pub fn renew(&mut self) {
        *self = Self {
            abilities: self.abilities,
            gops: self.gops,
            ..Self::new(self.settings)
        };
    }

    /// Takes the next unit; gives the frame that its viewers shall have. `None` while the stream
    /// is held for a key frame, and for units with nothing in them.
    pub fn push_unit(&mut self, now: Instant, unit: &AccessUnit) -> Option<Arc<Frame>> {
        self.is_holding |= unit.after_loss;
        if self.is_holding && !unit.is_key_frame {
            self.wish_key_frame(now);
            return None;
        }
        let has_b_slice = self.parameters.learn(&unit.data);
        let payloads = self.cut(unit)?;
        self.is_holding = false;
        let arrived = MediaTime::at(self.settings.epoch, unit.received);
        let time = self.timeline.place(unit.ticks, arrived, has_b_slice);
        if unit.is_key_frame {
            self.gops += 1;
            self.wish.on_key_frame(now);
        }
        let sps = self.parameters.sps.as_ref().map(|(_, facts)| *facts);
        let frame = Arc::new(Frame {
            bytes: payloads.iter().map(|p| p.len()).sum(),
            payloads,
            is_key_frame: unit.is_key_frame,
            gop: self.gops,
            time,
            captured: time.instant(self.settings.epoch).min(unit.received),
            received: unit.received,
            sps: sps.unwrap_or_default(),
        });
        self.gop.push(&frame);
        // Past the spacing a source that can be asked is asked: nobody needs the group any more.
        if self.abilities.can_force_key_frame && !self.wish.is_too_soon(now) {
            self.gop.clear();
        }
        self.facts.on_frame(now, &frame, has_b_slice);
        Some(frame)
    }

    /// The payloads of a unit; a key frame without its parameter sets gets the newest ones.
    /// `None` if there is nothing to send, or a key frame that nobody could decode.
    fn cut(&self, unit: &AccessUnit) -> Option<Vec<Payload>> {
        let room = self.settings.payload;
        let mut payloads = Vec::new();
        if unit.is_key_frame && !starts_with_parameters(&unit.data) {
            let (sps, _) = self.parameters.sps.as_ref()?;
            let pps = self.parameters.pps.as_ref()?;
            let head = [&START_CODE, sps.as_slice(), &START_CODE, pps.as_slice()].concat();
            payloads = packetize(&head, room);
        }
        payloads.append(&mut packetize(&unit.data, room));
        (!payloads.is_empty()).then_some(payloads)
    }

    /// Answers a viewer's need for a picture that decodes by itself, at a link that carries
    /// `rate` bits per second. A source that can be asked is asked, unless the running group is
    /// so young that a replay is sooner; one that cannot is replayed for this viewer alone.
    pub fn answer(&mut self, now: Instant, need: Need, rate: u64) -> Replay {
        if !self.abilities.can_force_key_frame {
            return self.gop.replay(now, rate, self.facts.key_frame_interval());
        }
        if need == Need::Join && self.wish.is_too_soon(now) {
            let replay = self.gop.replay(now, rate, None);
            // Such a source may send no further key frame by itself.
            if !matches!(replay, Replay::Gop(_)) {
                self.wish_key_frame(now);
            }
            return replay;
        }
        self.wish_key_frame(now);
        Replay::Nothing
    }

    fn wish_key_frame(&mut self, now: Instant) {
        if self.abilities.can_force_key_frame {
            self.wish.want(now);
        }
    }

    /// True when the source shall be asked for a key frame now. Each true is one request.
    pub fn poll_key_frame(&mut self, now: Instant) -> bool {
        self.wish.poll(now)
    }

    /// When [`Self::poll_key_frame`] can become true by time alone.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wish.poll_timeout()
    }

    /// What is known of the stream.
    pub fn facts(&self) -> &StreamFacts {
        &self.facts
    }

    /// What the running source can do.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Groups of pictures that the cache had no room for, or that lasted too long for it.
    pub fn gops_cut(&self) -> u64 {
        self.gop.cuts()
    }

    /// The group of pictures that is running; changes with each key frame.
    pub fn gop(&self) -> u64 {
        self.gops
    }
}

impl Parameters {
    /// Keeps the parameter sets of a unit; tells whether it holds a B slice.
    fn learn(&mut self, data: &[u8]) -> bool {
        let mut has_b_slice = false;
        for nal in nal_units(data) {
            match nal_type_of(nal) {
                nal_type::SPS if self.sps.as_ref().is_none_or(|(old, _)| old != nal) => {
                    self.sps = SpsFacts::parse(nal).map(|facts| (nal.to_vec(), facts));
                }
                nal_type::PPS if self.pps.as_deref() != Some(nal) => {
                    self.pps = Some(nal.to_vec());
                }
                nal_type::SLICE => {
                    has_b_slice |= is_b_slice(nal);
                    break; // parameter sets come before the first slice
                }
                nal_type::IDR => break,
                _ => {}
            }
        }
        has_b_slice
    }
}

fn starts_with_parameters(data: &[u8]) -> bool {
    nal_units(data)
        .map(nal_type_of)
        .take_while(|kind| !matches!(*kind, nal_type::SLICE | nal_type::IDR))
        .any(|kind| kind == nal_type::SPS)
}

/// Forced key frames of one stream are at least this far apart, whoever asks and how often.
pub const KEY_FRAME_SPACING: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
