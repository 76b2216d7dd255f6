//! Media time: one 90 kHz scale for everything that a process sends, tied to its monotonic clock.
//!
//! In: a camera's own clock and the moments at which its pictures arrived. Out: [`MediaTime`].
//! Not here: reading a clock.
//!
//! A camera's clock is steady but runs at its own speed; arrival follows our clock but jitters.
//! [`Timeline`] keeps the camera's spacing and holds it against arrival by a running minimum of
//! the difference (the least delayed picture of the last [`WINDOW`]), so drift cannot accumulate.
//! A restarted camera starts anew at arrival, so media time advances by the real gap, and since
//! every stream shares this scale a viewer can be moved between streams without a jump.

use std::time::{Duration, Instant};

/// Ticks per second of every video RTP clock.
pub const CLOCK_RATE: i64 = 90_000;

/// 90 kHz ticks since the process's epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// The media time of `at`; an earlier moment than the epoch is the epoch.
    pub fn at(epoch: Instant, at: Instant) -> Self {
        Self(to_ticks(at.saturating_duration_since(epoch)))
    }

    /// The low 32 bits, as an RTP timestamp before the random offset of a session.
    pub fn as_rtp(self) -> u32 {
        self.0 as u32
    }

    /// The moment that this is on the monotonic clock.
    pub fn instant(self, epoch: Instant) -> Instant {
        epoch + from_ticks(self.0)
    }
}

/// A span in ticks, rounded down.
pub fn to_ticks(span: Duration) -> i64 {
    (span.as_micros() * 9 / 100) as i64
}

/// Ticks as a span; negative ones are zero.
pub fn from_ticks(ticks: i64) -> Duration {
    Duration::from_nanos(ticks.max(0) as u64 * 100_000 / 9)
}

/// Half of how long the least delayed picture holds the offset down. Long enough to span the
/// pauses of a slow camera, short enough to follow a clock that is 300 ppm off within 6 ms.
const WINDOW: i64 = 10 * CLOCK_RATE;
/// The offset rises by no more than this share of the time passed (in 1/1000) ...
const SLEW_PER_MILLE: i64 = 2;
/// ... unless it is behind by more than this: then so much faster that what is beyond is caught up
/// within [`CATCH_UP`], or a camera whose stamps are a few per cent off (it says 25 pictures a
/// second and takes 24 at night) would lag further and further behind.
const MAX_LAG: i64 = CLOCK_RATE / 5;
const CATCH_UP: i64 = 2 * CLOCK_RATE;
/// With B-frames, a step back of the camera's clock beyond this is a new time base: they step back
/// less. Without them every step back is one.
const MAX_STEP_BACK: i64 = CLOCK_RATE / 2;
/// A step forward beyond this is a new time base.
const MAX_STEP_FORWARD: i64 = 10 * CLOCK_RATE;

/// Maps one run of one camera's clock onto [`MediaTime`].
#[derive(Debug, Default)]
pub struct Timeline {
    anchor: Option<Anchor>,
    /// A B slice was seen in this run.
    has_b_slices: bool,
}

#[derive(Debug)]
struct Anchor {
    /// The camera's ticks at the first picture. All others count from it: a clock may begin
    /// anywhere, also where sums of it would overflow.
    base: i64,
    /// Added to the ticks since then.
    offset: i64,
    last_ticks: i64,
    last_arrived: i64,
    /// Given to the picture before.
    last_time: i64,
    /// Least arrival minus ticks in this window and in the one before.
    least: i64,
    least_before: i64,
    window_end: i64,
}

impl Timeline {
    /// Forgets the time base: the next picture starts anew at its arrival.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// When a picture with this camera clock, that arrived then, was taken. Never later than
    /// `arrived`, but for pictures that come in one burst: an equal RTP time would make them one
    /// (RFC 6184 section 5.1), so each but B-frames is a tick later than the one before at least.
    pub fn place(&mut self, ticks: i64, arrived: MediaTime, has_b_slice: bool) -> MediaTime {
        self.has_b_slices |= has_b_slice;
        let arrived = arrived.0;
        let Some(anchor) = &mut self.anchor else {
            self.anchor = Some(Anchor::new(ticks, arrived));
            return MediaTime(arrived);
        };
        let since = ticks.wrapping_sub(anchor.base);
        let is_step_back = since < anchor.last_ticks;
        let is_broken = anchor.is_broken_by(since) || is_step_back && !self.has_b_slices;
        let mut time = if is_broken {
            arrived
        } else {
            anchor.observe(since, arrived);
            (since + anchor.offset).min(arrived)
        };
        if is_broken || !is_step_back {
            time = time.max(anchor.last_time + 1);
        }
        if is_broken {
            *anchor = Anchor::new(ticks, arrived);
        }
        anchor.last_time = time;
        MediaTime(time)
    }
}

impl Anchor {
    fn new(ticks: i64, arrived: i64) -> Self {
        Self {
            base: ticks,
            offset: arrived,
            last_ticks: 0,
            last_arrived: arrived,
            last_time: arrived,
            least: arrived,
            least_before: arrived,
            window_end: arrived + WINDOW,
        }
    }

    fn is_broken_by(&self, ticks: i64) -> bool {
        let step = ticks.wrapping_sub(self.last_ticks);
        !(-MAX_STEP_BACK..=MAX_STEP_FORWARD).contains(&step)
    }

    fn observe(&mut self, ticks: i64, arrived: i64) {
        let seen = arrived - ticks;
        if arrived >= self.window_end {
            self.least_before = self.least;
            self.least = seen;
            self.window_end = arrived + WINDOW;
        }
        self.least = self.least.min(seen);
        let target = self.least.min(self.least_before);
        let passed = (arrived - self.last_arrived).max(0);
        let behind = target - self.offset;
        let hurry = passed.min(CATCH_UP) * (behind - MAX_LAG).max(0) / CATCH_UP;
        let rise = behind.min(passed * SLEW_PER_MILLE / 1000 + 1 + hurry);
        // Down at once (nothing is taken after it arrived), up slowly.
        self.offset = if target < self.offset {
            target
        } else {
            self.offset + rise
        };
        self.last_ticks = ticks;
        self.last_arrived = arrived;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = CLOCK_RATE / 30;

    #[test]
    fn jitter_of_arrival_does_not_reach_the_times() {
        let mut line = Timeline::default();
        let mut last = None;
        for i in 0..3000i64 {
            let jitter = if i == 0 { 0 } else { (i * 7919) % 1500 };
            let time = line
                .place(1_000_000 + i * FRAME, MediaTime(i * FRAME + jitter), false)
                .0;
            if let Some(last) = last {
                let step: i64 = time - last;
                assert!((step - FRAME).abs() <= 20, "{i}: {step}");
            }
            last = Some(time);
        }
    }

    #[test]
    fn a_clock_300_ppm_off_never_drifts_away_in_a_day() {
        for ppm in [-300i64, 300] {
            let mut line = Timeline::default();
            let mut worst = 0;
            for i in 0..86_400i64 {
                let arrived = i * CLOCK_RATE;
                let ticks = arrived + arrived / 1_000_000 * ppm;
                let time = line.place(ticks, MediaTime(arrived), false).0;
                assert!(time <= arrived);
                worst = worst.max(arrived - time);
            }
            assert!(worst < CLOCK_RATE / 50, "{ppm} ppm: {worst} ticks behind");
        }
    }

    #[test]
    fn a_clock_some_per_cent_off_stays_within_a_second_and_a_half() {
        for percent in [-5i64, -3, 3, 5] {
            let mut line = Timeline::default();
            let (mut worst, mut last) = (0, None);
            for i in 0..30 * 3600i64 {
                let arrived = i * FRAME;
                let ticks = arrived + arrived * percent / 100;
                let time = line.place(ticks, MediaTime(arrived), false);
                assert!(last < Some(time) && time.0 <= arrived, "picture {i}");
                worst = worst.max(arrived - time.0);
                last = Some(time);
            }
            assert!(
                worst < CLOCK_RATE * 3 / 2,
                "{percent} %: {worst} ticks behind"
            );
        }
    }

    #[test]
    fn a_new_time_base_starts_at_its_arrival() {
        let mut line = Timeline::default();
        line.place(5, MediaTime(1000), false);
        assert_eq!(
            line.place(5 + FRAME, MediaTime(1000 + FRAME), false).0,
            1000 + FRAME
        );
        let mut at = MediaTime(500_000);
        for jump in [-CLOCK_RATE, 11 * CLOCK_RATE, i64::MAX / 2, i64::MIN / 2] {
            at.0 += FRAME;
            assert_eq!(line.place(jump, at, false), at, "{jump}");
        }
        line.restart();
        assert_eq!(line.place(42, MediaTime(900_000), false).0, 900_000);
    }

    #[test]
    fn a_camera_clock_that_leaps_ahead_is_held_at_arrival() {
        let mut line = Timeline::default();
        line.place(0, MediaTime(0), false);
        let at = MediaTime(FRAME);
        assert_eq!(line.place(FRAME + 3 * CLOCK_RATE, at, false), at);
    }

    #[test]
    fn a_camera_clock_may_begin_anywhere() {
        for begin in [i64::MIN, i64::MAX, i64::MAX - 5 * FRAME, -7, 1 << 32] {
            let mut line = Timeline::default();
            for i in 0..10i64 {
                let ticks = begin.wrapping_add(i * FRAME);
                assert_eq!(
                    line.place(ticks, MediaTime(i * FRAME), false).0,
                    i * FRAME,
                    "{begin}, picture {i}"
                );
            }
            let leap = begin.wrapping_add(i64::MIN);
            assert_eq!(line.place(leap, MediaTime(10 * FRAME), true).0, 10 * FRAME);
        }
    }

    /// A camera hands over its cached group at once when it is asked to play.
    #[test]
    fn pictures_of_one_burst_have_times_of_their_own() {
        let mut line = Timeline::default();
        let mut last = None;
        for i in 0..30 {
            let time = line.place(i * FRAME, MediaTime(5000 + i / 10), false);
            assert!(last < Some(time), "picture {i}: {time:?} after {last:?}");
            last = Some(time);
        }
        // Live from here on: times are the camera's spacing again, and not in the future.
        for i in 30..60 {
            let arrived = MediaTime(5000 + (i - 29) * FRAME);
            let time = line.place(i * FRAME, arrived, false);
            assert!(last < Some(time) && time <= arrived, "picture {i}");
            last = Some(time);
        }
    }

    #[test]
    fn a_small_step_back_is_a_new_time_base_unless_there_are_b_frames() {
        for step in [1, FRAME, CLOCK_RATE / 3] {
            let mut line = Timeline::default();
            for i in 0..30 {
                line.place(CLOCK_RATE + i * FRAME, MediaTime(i * FRAME), false);
            }
            let base = CLOCK_RATE + 29 * FRAME - step;
            for i in 0..30 {
                let arrived = MediaTime((30 + i) * FRAME);
                let time = line.place(base + i * FRAME, arrived, false);
                assert_eq!(time, arrived, "{step} ticks back, picture {i}");
            }
        }
        let mut line = Timeline::default();
        let mut times = Vec::new();
        // Decoding order: I P B B P B B, in the order of display 0 3 1 2 6 4 5.
        for (at, shown) in [0, 3, 1, 2, 6, 4, 5].into_iter().enumerate() {
            let arrived = MediaTime((at as i64 + 3) * FRAME);
            times.push((shown, line.place(shown * FRAME, arrived, shown % 3 > 0)));
        }
        times.sort();
        assert!(
            times
                .windows(2)
                .skip(3)
                .all(|t| (t[1].1.0 - t[0].1.0 - FRAME).abs() <= 20),
            "{times:?}"
        );
    }

    #[test]
    fn spans_and_ticks_agree() {
        assert_eq!(to_ticks(Duration::from_secs(2)), 180_000);
        assert_eq!(from_ticks(90), Duration::from_millis(1));
        assert_eq!(from_ticks(-1), Duration::ZERO);
    }
}
