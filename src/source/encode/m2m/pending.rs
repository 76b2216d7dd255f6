//! Which coded buffer belongs to which picture, and what a browser needs in front of it.
//!
//! In: pictures as they go in, coded bytes with the time stamp that the driver copied. Out:
//! units.
//! Not here: the device (the module above).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::Unit;
use crate::media::h264::{START_CODE, nal_type, nal_type_of, nal_units};

/// Pictures that the device has, oldest first, and parameter sets that it sent alone.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: VecDeque<Waiting>,
    /// SPS and PPS, each behind its start code.
    headers: Vec<u8>,
    /// Of the first picture: stamps count from it.
    first: Option<i64>,
    last_stamp: Duration,
    /// Pictures that the device took and never gave back.
    pub(super) lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    stamp: Duration,
    ticks: i64,
    taken: Instant,
}

impl Pending {
    /// The stamp of the next picture: its time since the first one, in whole microseconds, and
    /// never one that was there before.
    pub(super) fn stamp(&mut self, ticks: i64) -> Duration {
        let since = ticks.saturating_sub(*self.first.get_or_insert(ticks));
        let micros = u64::try_from(since.saturating_mul(100) / 9).unwrap_or(0);
        let after_last = self.last_stamp + Duration::from_micros(1);
        let stamp = Duration::from_micros(micros).max(after_last);
        self.last_stamp = stamp;
        stamp
    }

    /// The clock of the pictures begins anew; stamps go on.
    pub(super) fn restart(&mut self) {
        self.first = None;
        self.waiting.clear();
    }

    /// A picture was given to the device.
    pub(super) fn push_picture(&mut self, stamp: Duration, ticks: i64, taken: Instant) {
        self.waiting.push_back(Waiting {
            stamp,
            ticks,
            taken,
        });
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
            self.lost += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A coded buffer came out. `None` when it holds no picture: parameter sets alone, or nothing
    /// at all, which is how rate control leaves a picture out.
    pub(super) fn on_coded(&mut self, stamp: Duration, coded: &[u8]) -> Option<Unit> {
        let facts = Facts::of(coded);
        if !facts.headers.is_empty() {
            self.headers = facts.headers;
        }
        if !facts.has_picture {
            if coded.is_empty() {
                self.take(stamp);
            }
            return None;
        }
        let waiting = self.take(stamp)?;
        let mut data = Vec::new();
        if facts.is_key_frame && !facts.begins_with_sps {
            data.reserve(self.headers.len() + coded.len());
            data.extend_from_slice(&self.headers);
        }
        data.extend_from_slice(coded);
        Some(Unit {
            data: data.into(),
            is_key_frame: facts.is_key_frame,
            ticks: waiting.ticks,
            taken: waiting.taken,
        })
    }

    /// The picture of `stamp`; those before it will not come any more. A driver that does not
    /// copy stamps answers in order.
    fn take(&mut self, stamp: Duration) -> Option<Waiting> {
        let place = self.waiting.iter().position(|w| w.stamp == stamp);
        for _ in 0..place.unwrap_or(0) {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.pop_front()
    }
}

/// What a coded buffer is made of.
struct Facts {
    headers: Vec<u8>,
    begins_with_sps: bool,
    has_picture: bool,
    is_key_frame: bool,
}

impl Facts {
    /// Drivers flag key frames, but some flag I pictures too, at which nobody can begin: the
    /// stream's own word counts. Looks no further than the first slice.
    fn of(coded: &[u8]) -> Self {
        let mut facts = Self {
            headers: Vec::new(),
            begins_with_sps: false,
            has_picture: false,
            is_key_frame: false,
        };
        for nal in nal_units(coded) {
            match nal_type_of(nal) {
                kind @ (nal_type::SPS | nal_type::PPS) => {
                    facts.begins_with_sps |= kind == nal_type::SPS;
                    facts.headers.extend_from_slice(&START_CODE);
                    facts.headers.extend_from_slice(nal);
                }
                kind @ nal_type::SLICE..=nal_type::IDR => {
                    facts.has_picture = true;
                    facts.is_key_frame = kind == nal_type::IDR;
                    break;
                }
                _ => {}
            }
        }
        facts
    }
}

/// More than any driver has buffers: pictures without an answer are forgotten beyond it.
const MAX_WAITING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 0x42, 0xC0, 0x1F];
    const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xCE];
    const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x88];
    const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 0x9A];

    /// Puts pictures of these ticks in and gives their stamps.
    fn fed(pending: &mut Pending, ticks: &[i64]) -> Vec<Duration> {
        let mut stamps = Vec::new();
        for &ticks in ticks {
            let stamp = pending.stamp(ticks);
            pending.push_picture(stamp, ticks, Instant::now());
            stamps.push(stamp);
        }
        stamps
    }

    #[test]
    fn units_carry_the_time_of_their_picture_even_when_the_device_leaves_some_out() {
        let mut pending = Pending::default();
        let stamps = fed(&mut pending, &[900, 3900, 6900, 9900]);
        assert_eq!(stamps[1], Duration::from_micros(33_333));
        let first = pending.on_coded(stamps[0], &[SPS, PPS, IDR].concat());
        assert_eq!(first.unwrap().ticks, 900);
        let third = pending.on_coded(stamps[2], DELTA).unwrap();
        assert_eq!((third.ticks, third.is_key_frame), (6900, false));
        assert_eq!((pending.lost, pending.len()), (1, 1));
        assert!(pending.on_coded(stamps[3], &[]).is_none(), "left out");
        assert_eq!((pending.lost, pending.len()), (1, 0));
        assert!(
            pending.on_coded(stamps[3], DELTA).is_none(),
            "of no picture"
        );
    }

    #[test]
    fn a_driver_that_copies_no_stamps_answers_in_order() {
        let mut pending = Pending::default();
        fed(&mut pending, &[0, 3000]);
        for expected in [0, 3000] {
            let unit = pending.on_coded(Duration::from_secs(99), DELTA).unwrap();
            assert_eq!(unit.ticks, expected);
        }
    }

    #[test]
    fn parameter_sets_that_come_alone_are_put_before_every_key_frame_without_them() {
        let mut pending = Pending::default();
        let stamps = fed(&mut pending, &[0, 3000, 6000]);
        assert!(pending.on_coded(stamps[0], &[SPS, PPS].concat()).is_none());
        for stamp in [stamps[0], stamps[1]] {
            let unit = pending.on_coded(stamp, IDR).unwrap();
            assert_eq!(unit.data, [SPS, PPS, IDR].concat());
            assert!(unit.is_key_frame);
        }
        let whole = [SPS, PPS, IDR].concat();
        assert_eq!(pending.on_coded(stamps[2], &whole).unwrap().data, whole);
    }

    #[test]
    fn stamps_rise_whatever_the_clock_does_and_what_waits_is_bounded() {
        let mut pending = Pending::default();
        let ticks: Vec<i64> = (0..200).map(|n| 1000 - n).collect();
        let stamps = fed(&mut pending, &ticks);
        assert!(stamps.is_sorted_by(|a, b| a < b));
        assert_eq!(pending.len(), MAX_WAITING);
        assert_eq!(pending.lost, 200 - MAX_WAITING as u64);
    }
}
