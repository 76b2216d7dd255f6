//! A camera that stages what real ones do: a group of pictures, forced key frames, restarts with
//! new time bases, drift. Every picture carries its number.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pinhole::media::{Abilities, AccessUnit, Codec, Demand, DownReason, SourceEvent, Stages};

const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdd, 0x80, 0xb5, 0x01, 0x01, 0x01, 0x40,
    0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc6, 0x0c, 0xa8,
];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
/// Where a picture's number begins behind its NAL header, in steps that never make a start code.
pub const NUMBER_AT: usize = 2;

pub struct Camera {
    pub fps: f64,
    /// Pictures from one key frame to the next; `u64::MAX` for only when asked.
    pub gop: u64,
    pub key_bytes: usize,
    pub delta_bytes: usize,
    pub can_force: bool,
    /// Parts per million that its clock is fast.
    pub drift_ppm: f64,
    /// The 90 kHz clock at the start of the run.
    pub clock_base: i64,
    state: State,
    start: Instant,
    taken_in_run: u64,
    since_key: u64,
    pub number: u64,
    wants_key: bool,
    pub forced: u64,
    /// `profile_idc` and constraint flags of its SPS.
    pub profile: [u8; 2],
    /// Every delta picture holds a B slice.
    pub has_b_slices: bool,
    /// Answers, and sends no picture.
    pub is_silent: bool,
    pub opened: u64,
    pub closed: u64,
    after_loss: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed,
    Playing,
    Down,
}

impl Camera {
    pub fn new(start: Instant) -> Self {
        Self {
            fps: 30.0,
            gop: 120,
            key_bytes: 60_000,
            delta_bytes: 12_000,
            can_force: false,
            drift_ppm: 0.0,
            clock_base: 3_000_000_000,
            state: State::Closed,
            start,
            taken_in_run: 0,
            since_key: u64::MAX,
            number: 0,
            wants_key: false,
            forced: 0,
            profile: [0x42, 0xc0],
            has_b_slices: false,
            is_silent: false,
            opened: 0,
            closed: 0,
            after_loss: false,
        }
    }

    /// One that encodes on demand, as the test pattern does.
    pub fn forcing(start: Instant) -> Self {
        Self {
            can_force: true,
            gop: u64::MAX,
            ..Self::new(start)
        }
    }

    pub fn is_playing(&self) -> bool {
        self.state == State::Playing
    }

    pub fn demand(&mut self, now: Instant, demand: Demand) -> Vec<SourceEvent> {
        match demand {
            Demand::Open => self.open(now),
            Demand::Close => {
                self.state = State::Closed;
                self.closed += 1;
                vec![SourceEvent::Closed]
            }
            Demand::KeyFrame => {
                self.wants_key = true;
                self.forced += 1;
                Vec::new()
            }
            Demand::Bitrate(_) => Vec::new(),
        }
    }

    pub fn open(&mut self, now: Instant) -> Vec<SourceEvent> {
        self.opened += 1;
        self.state = State::Playing;
        self.start = now;
        self.taken_in_run = 0;
        self.since_key = u64::MAX;
        let abilities = Abilities {
            can_force_key_frame: self.can_force,
            can_change_rate: self.can_force,
        };
        vec![SourceEvent::Opening, SourceEvent::Playing(abilities)]
    }

    pub fn die(&mut self, retry_at: Instant) -> SourceEvent {
        self.state = State::Down;
        SourceEvent::Down {
            reason: DownReason::Unreachable,
            detail: "pulled".to_owned(),
            retry_at: Some(retry_at),
        }
    }

    /// The next unit follows a loss.
    pub fn lose(&mut self) {
        self.after_loss = true;
    }

    pub fn next_at(&self) -> Option<Instant> {
        let at = self.start + Duration::from_secs_f64(self.taken_in_run as f64 / self.fps);
        (self.is_playing() && !self.is_silent).then_some(at)
    }

    pub fn take(&mut self, now: Instant) -> SourceEvent {
        let is_key_frame = self.since_key >= self.gop.saturating_sub(1) || self.wants_key;
        self.since_key = if is_key_frame { 0 } else { self.since_key + 1 };
        self.wants_key = false;
        let seconds = self.taken_in_run as f64 / self.fps * (1.0 + self.drift_ppm / 1e6);
        let unit = AccessUnit {
            codec: Codec::H264,
            data: self.picture(is_key_frame),
            is_key_frame,
            ticks: self.clock_base + (seconds * 90_000.0) as i64,
            received: now,
            after_loss: std::mem::take(&mut self.after_loss),
            stages: Stages::default(),
        };
        self.taken_in_run += 1;
        self.number += 1;
        SourceEvent::Unit(unit)
    }

    fn picture(&self, is_key_frame: bool) -> Bytes {
        let mut data = Vec::new();
        let mut nal = |bytes: &[u8]| {
            data.extend_from_slice(&[0, 0, 0, 1]);
            data.extend_from_slice(bytes);
        };
        let (header, len) = if is_key_frame {
            let mut sps = SPS.to_vec();
            sps[1..3].copy_from_slice(&self.profile);
            nal(&sps);
            nal(PPS);
            (0x65, self.key_bytes)
        } else {
            (0x41, self.delta_bytes)
        };
        let mut slice = vec![0xc3; len.max(16)];
        slice[0] = header;
        if self.has_b_slices && !is_key_frame {
            slice[1] = 0xa3; // first_mb_in_slice 0, slice_type 1
        }
        for (i, digit) in number_digits(self.number).into_iter().enumerate() {
            slice[NUMBER_AT + i] = digit;
        }
        nal(&slice);
        data.into()
    }
}

/// Seven bits a byte with the top bit set: no zero bytes.
fn number_digits(number: u64) -> [u8; 6] {
    std::array::from_fn(|i| 0x80 | (number >> (7 * i)) as u8 & 0x7f)
}

/// The reverse, from the bytes behind the NAL header byte.
pub fn number_of(slice: &[u8]) -> Option<u64> {
    let digits = slice.get(NUMBER_AT..NUMBER_AT + 6)?;
    let add = |sum, (i, digit): (usize, &u8)| sum | u64::from(digit & 0x7f) << (7 * i);
    Some(digits.iter().enumerate().fold(0, add))
}
