//! Steps down when a machine cannot keep up, and up again when it can.
//!
//! In: what each picture cost, the time. Out: the rate and size to code at from now on.
//! Not here: applying it (whoever owns the encoder), why the machine is slow (load).
//!
//! First pictures per second, then size: a smooth small picture is worth less to a person who
//! watches a door than a sharp one a few times a second.
//!
//! For the owner of an encoder, per picture: [`Overload::push_picture`] with the time that
//! decoding, conversion and coding took on its thread, also where rate control left the picture
//! out. A returned [`Step`] of the same size is `Encoder::set_frame_rate` and a slower choice of
//! pictures; of another size a new encoder (with the step's size and the same ceiling, and the
//! ordered bit rate), with the same media time going on.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

/// What is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub fps: u32,
    /// Pixels, both sides even.
    pub size: (u32, u32),
}

impl Step {
    /// The time that there is for one picture.
    pub fn interval(self) -> Duration {
        Duration::from_secs(1) / self.fps.max(1)
    }

    /// Relative work per second.
    fn work(self) -> f64 {
        f64::from(self.fps) * f64::from(self.size.0) * f64::from(self.size.1)
    }
}

/// Watches one encoder.
#[derive(Clone, Debug)]
pub struct Overload {
    /// From what was configured down to the least; never empty.
    ladder: Vec<Step>,
    level: usize,
    window: Window,
    /// Seconds in a row that were too dear, or cheap.
    dear: u32,
    cheap: u32,
    /// Cheap seconds that it takes to go up.
    patience: u32,
    stepped_up_at: Option<Instant>,
    /// Of the last whole second.
    mean: Duration,
}

/// A second of pictures.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Instant>,
    pictures: u32,
    cost: Duration,
}

impl Overload {
    /// `full` is what was configured.
    pub fn new(full: Step) -> Self {
        Self {
            ladder: ladder(full),
            level: 0,
            window: Window::default(),
            dear: 0,
            cheap: 0,
            patience: UP_AFTER,
            stepped_up_at: None,
            mean: Duration::ZERO,
        }
    }

    /// What is coded now.
    pub fn step(&self) -> Step {
        self.ladder[self.level]
    }

    /// Less is coded than was configured, or the machine cannot even keep up with the least.
    pub fn is_overloaded(&self) -> bool {
        self.level > 0 || self.dear >= DOWN_AFTER
    }

    /// What a picture cost over the last whole second.
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// Takes the cost of one picture in, finished at `now`. A step is to be applied before the
    /// next picture.
    pub fn push_picture(&mut self, now: Instant, cost: Duration) -> Option<Step> {
        let since = *self.window.since.get_or_insert(now);
        self.window.pictures += 1;
        self.window.cost += cost;
        if now.saturating_duration_since(since) < SECOND {
            return None;
        }
        self.mean = self.window.cost / self.window.pictures;
        self.window = Window {
            since: Some(now),
            ..Window::default()
        };
        let share = self.mean.as_secs_f64() / self.step().interval().as_secs_f64();
        self.dear = if share > TOO_DEAR { self.dear + 1 } else { 0 };
        self.cheap = match self.expected_above(share) {
            Some(above) if share < CHEAP && above < FITS => self.cheap + 1,
            _ => 0,
        };
        if self.dear >= DOWN_AFTER {
            self.down(now)
        } else if self.cheap >= self.patience {
            self.up(now)
        } else {
            None
        }
    }

    /// The share of the interval that the step above would take.
    fn expected_above(&self, share: f64) -> Option<f64> {
        let above = self.ladder.get(self.level.checked_sub(1)?)?;
        Some(share * above.work() / self.step().work())
    }

    fn down(&mut self, now: Instant) -> Option<Step> {
        if self.level + 1 >= self.ladder.len() {
            return None; // `dear` stays: that is the state to show
        }
        // A step up that did not hold: the next one takes twice the proof.
        let was_rash = |at: Instant| now.saturating_duration_since(at) < HOLDS;
        self.patience = match self.stepped_up_at.take().is_some_and(was_rash) {
            true => (self.patience * 2).min(UP_AFTER_MOST),
            false => UP_AFTER,
        };
        self.enter(self.level + 1)
    }

    fn up(&mut self, now: Instant) -> Option<Step> {
        self.stepped_up_at = Some(now);
        self.enter(self.level - 1)
    }

    fn enter(&mut self, level: usize) -> Option<Step> {
        (self.level, self.dear, self.cheap) = (level, 0, 0);
        // What was under way belongs to the old step.
        self.window = Window::default();
        Some(self.step())
    }
}

/// Slower, then smaller, each step worth taking.
fn ladder(full: Step) -> Vec<Step> {
    let mut steps = vec![full];
    let mut last = full;
    for fps in RATES {
        // A step that saves less than a fifth is none.
        if fps * 5 <= last.fps * 4 {
            last.fps = fps;
            steps.push(last);
        }
    }
    for (part, whole) in SIZES {
        let even = |side: u32| side * part / whole / 2 * 2;
        last.size = (even(full.size.0), even(full.size.1));
        if last.size.0.min(last.size.1) >= LEAST_SIDE {
            steps.push(last);
        }
    }
    steps
}

const RATES: [u32; 4] = [30, 20, 15, 10];
/// Of each side.
const SIZES: [(u32, u32); 3] = [(3, 4), (1, 2), (1, 4)];
/// Below it a person is not recognised any more.
const LEAST_SIDE: u32 = 120;
const SECOND: Duration = Duration::from_secs(1);
/// Share of the frame interval; the rest is for capture, the loop and other cameras.
const TOO_DEAR: f64 = 0.8;
const CHEAP: f64 = 0.5;
/// What the step above is expected to cost must stay below this: costs vary with the scene.
const FITS: f64 = 0.75;
/// Seconds in a row.
const DOWN_AFTER: u32 = 5;
const UP_AFTER: u32 = 30;
const UP_AFTER_MOST: u32 = 600;
/// A step up that lasts as long was right.
const HOLDS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn step(fps: u32, width: u32, height: u32) -> Step {
        Step {
            fps,
            size: (width, height),
        }
    }

    #[test]
    fn rates_go_first_then_sizes_and_no_step_is_idle() {
        let hd = [
            step(30, 1280, 720),
            step(20, 1280, 720),
            step(15, 1280, 720),
            step(10, 1280, 720),
            step(10, 960, 540),
            step(10, 640, 360),
            step(10, 320, 180),
        ];
        assert_eq!(ladder(hd[0]), hd);
        let rates = |fps, width, height| {
            let steps = ladder(step(fps, width, height));
            steps.iter().map(|s| s.fps).collect::<Vec<_>>()
        };
        assert_eq!(rates(60, 160, 160), [60, 30, 20, 15, 10, 10]);
        assert_eq!(rates(25, 160, 120), [25, 20, 15, 10]);
        assert_eq!(rates(12, 100, 100), [12]);
        assert_eq!(rates(5, 64, 64), [5]);
        assert_eq!(ladder(step(10, 642, 482))[1].size, (480, 360));
    }

    /// A machine that needs `cost` for a picture of 1280x720, watched for simulated seconds.
    struct Bench {
        overload: Overload,
        now: Instant,
        start: Instant,
        cost: Duration,
    }

    impl Bench {
        fn new(cost_ms: u64) -> Self {
            #[allow(clippy::disallowed_methods)] // any moment will do
            let now = Instant::now();
            Self {
                overload: Overload::new(step(30, 1280, 720)),
                now,
                start: now,
                cost: Duration::from_millis(cost_ms),
            }
        }

        /// The steps taken, each with the second it was taken in.
        fn run(&mut self, seconds: u64) -> Vec<(u64, Step)> {
            let end = self.now + Duration::from_secs(seconds);
            let mut taken = Vec::new();
            while self.now < end {
                let now_at = self.overload.step();
                let (w, h) = now_at.size;
                let cost = self.cost.mul_f64(f64::from(w * h) / (1280.0 * 720.0));
                // Pictures that would come while one is coded are left out.
                self.now += now_at.interval().max(cost);
                if let Some(step) = self.overload.push_picture(self.now, cost) {
                    taken.push(((self.now - self.start).as_secs(), step));
                }
            }
            taken
        }
    }

    #[test]
    fn a_machine_that_keeps_up_is_left_alone() {
        for cost in [1, 10, 26] {
            let mut bench = Bench::new(cost);
            assert_eq!(bench.run(600), []);
            assert!(!bench.overload.is_overloaded());
            assert_eq!(bench.overload.mean(), Duration::from_millis(cost));
        }
    }

    #[test]
    fn a_slow_machine_gets_fewer_pictures_after_five_seconds() {
        let mut bench = Bench::new(36); // 108 % of 33 ms, 72 % of 50 ms
        let steps = bench.run(300);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!(steps[0].1, step(20, 1280, 720));
        assert!((5..=6).contains(&steps[0].0), "{steps:?}");
        assert!(bench.overload.is_overloaded());
    }

    #[test]
    fn one_that_cannot_do_ten_gets_smaller_pictures_and_the_least_stays_the_least() {
        let mut bench = Bench::new(150);
        let steps: Vec<Step> = bench.run(120).iter().map(|s| s.1).collect();
        let expected = [
            step(20, 1280, 720),
            step(15, 1280, 720),
            step(10, 1280, 720),
            step(10, 960, 540),
            step(10, 640, 360),
        ];
        // 84 % of the interval at 960x540, 38 % at 640x360, where 84 % above is too much.
        assert_eq!(steps, expected);
        let mut bench = Bench::new(5000);
        assert_eq!(bench.run(600).last().unwrap().1, step(10, 320, 180));
        assert!(bench.overload.is_overloaded());
    }

    #[test]
    fn bursts_shorter_than_five_seconds_change_nothing() {
        let mut bench = Bench::new(10);
        for _ in 0..20 {
            bench.cost = Duration::from_millis(32);
            assert_eq!(bench.run(4), []);
            bench.cost = Duration::from_millis(10);
            assert_eq!(bench.run(2), []);
        }
    }

    #[test]
    fn when_the_load_is_gone_it_climbs_back_a_step_each_half_minute() {
        let mut bench = Bench::new(90);
        bench.run(60);
        assert_eq!(bench.overload.step(), step(10, 960, 540));
        bench.cost = Duration::from_millis(5);
        let steps = bench.run(200);
        let taken: Vec<Step> = steps.iter().map(|s| s.1).collect();
        let expected = [
            step(10, 1280, 720),
            step(15, 1280, 720),
            step(20, 1280, 720),
            step(30, 1280, 720),
        ];
        assert_eq!(taken, expected);
        let gaps = steps.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(
            gaps.into_iter().all(|gap| (30..=33).contains(&gap)),
            "{steps:?}"
        );
        assert!(!bench.overload.is_overloaded());
    }

    #[test]
    fn a_machine_that_swings_between_two_steps_swings_ever_more_slowly() {
        let mut bench = Bench::new(36);
        bench.run(10);
        let mut ups = Vec::new();
        for _ in 0..4 {
            // Cheap for as long as it takes to climb, dear as soon as it has.
            bench.cost = Duration::from_millis(20);
            let before = bench.now;
            while bench.overload.step().fps < 30 {
                bench.run(1);
            }
            ups.push((bench.now - before).as_secs());
            bench.cost = Duration::from_millis(36);
            assert_eq!(bench.run(10).len(), 1);
        }
        assert!((30..=34).contains(&ups[0]), "{ups:?}");
        assert!(
            ups.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2),
            "{ups:?}"
        );
    }
}
