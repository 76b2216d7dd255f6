//! Kernel stamps become media time, and tell what was lost between two pictures.
//!
//! In: stamps of CLOCK_MONOTONIC, sequence numbers, arrival. Out: 90 kHz ticks that rise, the
//! moment of capture, counts.
//! Not here: drift between a camera's clock and ours: the kernel stamps with our own.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The kernel's monotonic clock held against `Instant`, once. Both count on alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    instant: Instant,
    monotonic: Duration,
}

impl Pair {
    /// Reads both clocks.
    pub(super) fn now() -> Self {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, |time| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
            Duration::new(seconds, u32::try_from(time.tv_nsec()).unwrap_or(0))
        });
        Self {
            instant: Instant::now(),
            monotonic,
        }
    }

    fn instant_of(&self, stamp: Duration) -> Option<Instant> {
        match stamp.checked_sub(self.monotonic) {
            Some(later) => self.instant.checked_add(later),
            None => self.instant.checked_sub(self.monotonic - stamp),
        }
    }
}

/// Media time of one run.
#[derive(Debug)]
pub(super) struct Stamps {
    pair: Pair,
    anchor: Option<Anchor>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    stamp: Duration,
    ticks: i64,
    last_stamp: Duration,
    last_ticks: i64,
    arrived: Instant,
}

impl Stamps {
    pub(super) fn new(pair: Pair) -> Self {
        Self { pair, anchor: None }
    }

    /// The media time of a picture, and when it was taken (never after it arrived). A stamp that
    /// is missing, goes back or jumps by more than [`MAX_GAP`] is replaced by the time of arrival.
    pub(super) fn place(&mut self, stamp: Option<Duration>, arrived: Instant) -> (i64, Instant) {
        let taken = stamp
            .and_then(|stamp| self.pair.instant_of(stamp))
            .filter(|taken| *taken <= arrived && arrived - *taken <= MAX_AGE)
            .unwrap_or(arrived);
        let stamp = stamp.unwrap_or_else(|| {
            self.pair.monotonic + arrived.saturating_duration_since(self.pair.instant)
        });
        let Some(anchor) = &mut self.anchor else {
            self.anchor = Some(Anchor {
                stamp,
                ticks: 0,
                last_stamp: stamp,
                last_ticks: 0,
                arrived,
            });
            return (0, taken);
        };
        let is_usual = stamp
            .checked_sub(anchor.last_stamp)
            .is_some_and(|gap| gap <= MAX_GAP);
        if !is_usual {
            let gap = arrived.saturating_duration_since(anchor.arrived);
            anchor.stamp = stamp;
            anchor.ticks = anchor.last_ticks + ticks_of(gap);
        }
        let ticks = anchor.ticks + ticks_of(stamp - anchor.stamp);
        anchor.last_ticks = ticks.max(anchor.last_ticks + 1);
        anchor.last_stamp = stamp;
        anchor.arrived = arrived;
        (anchor.last_ticks, taken)
    }
}

fn ticks_of(time: Duration) -> i64 {
    i64::try_from(time.as_micros() * 9 / 100).unwrap_or(i64::MAX / 2)
}

/// Numbers of pictures, and the gaps between them.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    last: Option<u32>,
}

impl Sequence {
    /// How many pictures are missing before this one. A number that repeats or goes back begins a
    /// new row.
    pub(super) fn lost_before(&mut self, number: u32) -> u32 {
        let step = self.last.map_or(1, |last| number.wrapping_sub(last));
        self.last = Some(number);
        match step {
            1..=0x7FFF_FFFF => step - 1,
            _ => 0,
        }
    }
}

/// Leaves pictures out so that no more than so many a second are left.
#[derive(Debug)]
pub(super) struct Limit {
    /// Ticks between two pictures; 0 lets all pass.
    step: i64,
    due: Option<i64>,
}

impl Limit {
    /// `None` lets all pass.
    pub(super) fn new(fps: Option<f64>) -> Self {
        let step = fps.map_or(0, |fps| (90_000.0 / fps.max(0.1)) as i64);
        Self { step, due: None }
    }

    /// Whether the picture at `ticks` is to be kept. A camera's uneven beat is allowed for.
    pub(super) fn keeps(&mut self, ticks: i64) -> bool {
        let due = *self.due.get_or_insert(ticks);
        if ticks + self.step / 4 < due {
            return false;
        }
        // On the beat as long as that can be; else a new one.
        let next = due + self.step;
        self.due = Some(if next > ticks {
            next
        } else {
            ticks + self.step
        });
        true
    }
}

/// A stamp further from the one before is another clock's.
const MAX_GAP: Duration = Duration::from_secs(10);
/// A picture older than this at its arrival has a wrong stamp.
const MAX_AGE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn stamps() -> (Stamps, Instant, Duration) {
        let pair = Pair::now();
        (Stamps::new(pair), pair.instant, pair.monotonic)
    }

    #[test]
    fn a_stamp_is_the_moment_of_capture_and_ticks_follow_it() {
        let (mut stamps, zero, mono) = stamps();
        let first = stamps.place(Some(mono + ms(10)), zero + ms(14));
        assert_eq!(first, (0, zero + ms(10)));
        // 5 ms later to arrive, yet exactly one interval after the first.
        let second = stamps.place(Some(mono + ms(50)), zero + ms(63));
        assert_eq!(second, (3600, zero + ms(50)));
    }

    #[test]
    fn a_million_pictures_do_not_drift() {
        let (mut stamps, zero, mono) = stamps();
        let mut last = 0;
        for n in 0..1_000_000u64 {
            let at = Duration::from_micros(n * 1_000_000 / 30);
            (last, _) = stamps.place(Some(mono + at), zero + at);
        }
        assert_eq!(last, 999_999 * 3000);
    }

    #[test]
    fn stamps_that_jump_wrap_stand_still_or_lie_in_the_future_never_stop_the_time() {
        let (mut stamps, zero, mono) = stamps();
        let far = Duration::from_secs(9_223_372_035);
        assert_eq!(stamps.place(Some(far), zero), (0, zero));
        assert_eq!(stamps.place(Some(far + ms(40)), zero + ms(40)).0, 3600);
        // The wrap.
        let (ticks, taken) = stamps.place(Some(ms(0)), zero + ms(80));
        assert_eq!(ticks, 7200);
        assert!(taken <= zero + ms(80));
        assert_eq!(stamps.place(Some(ms(0)), zero + ms(81)).0, 7201);
        assert_eq!(stamps.place(None, zero + ms(120)).0, 7201 + 3510);
        let (_, taken) = stamps.place(Some(mono + ms(500)), zero + ms(200));
        assert_eq!(taken, zero + ms(200), "never after its arrival");
    }

    #[test]
    fn gaps_are_counted_across_the_wrap_and_a_restart_is_none() {
        let mut sequence = Sequence::default();
        let numbers = [u32::MAX - 2, u32::MAX - 1, 1, 2, 5, 5, 0, 1];
        let lost = numbers.map(|number| sequence.lost_before(number));
        assert_eq!(lost, [0, 0, 2, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn the_limit_halves_a_camera_that_is_twice_as_fast_and_spares_one_that_wavers() {
        let kept = |fps: f64, limit: f64| {
            let mut limit = Limit::new(Some(limit));
            let ticks = |n: i64| (n as f64 * 90_000.0 / fps) as i64 + (n % 3) * 200;
            (0..600).filter(|n| limit.keeps(ticks(*n))).count()
        };
        assert_eq!(kept(60.0, 30.0), 300);
        assert_eq!(kept(30.0, 30.0), 600);
        assert_eq!(kept(29.97, 30.0), 600);
        assert_eq!(kept(30.0, 10.0), 200);
        let none = (0..9).filter(|n| Limit::new(None).keeps(*n)).count();
        assert_eq!(none, 9);
    }
}
