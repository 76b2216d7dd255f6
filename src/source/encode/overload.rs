//! Steps down when a machine cannot keep up, and up again when it can.
//!
//! In: what each picture cost, those that nobody came for in time, the time. Out: the rate and size
//! to code at from now on, and why.
//! Not here: applying it (whoever owns the encoder), why the machine is slow (load).
//!
//! First pictures per second, then size: a smooth small picture is worth less to a person who
//! watches a door than a sharp one a few times a second.
//!
//! For the owner of an encoder, per picture: [`Overload::push_picture`] with its [`Cost`], also
//! where rate control left the picture out, and [`Overload::miss`] for those that were outdated
//! before anybody looked at them. A returned [`Step`] of the same size is
//! `Encoder::set_frame_rate` and a slower choice of pictures; of another size a new encoder (with
//! the step's size and the same ceiling, and the ordered bit rate), with the same media time going
//! on. Where that cannot be had: [`Overload::stay`].
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

use crate::media::Strain;

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

/// What one picture cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The thread's own time: decoding, conversion, coding. Waiting for a device is none of it.
    pub all: Duration,
    /// The part that a smaller picture would make less: conversion and coding.
    pub of_size: Duration,
    /// It was left out, because a device had not yet done those before it.
    pub is_behind: bool,
}

impl Cost {
    /// Of one that was drawn at its size and coded here.
    pub fn coding(time: Duration) -> Self {
        Self {
            all: time,
            of_size: time,
            is_behind: false,
        }
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
    /// Cheap seconds that it takes to go up, and dear ones to go down.
    patience: u32,
    endurance: u32,
    stepped_up_at: Option<Instant>,
    /// Of the last whole second.
    mean: Duration,
    /// What was wrong with the last seconds that called for a step.
    strain: Strain,
}

/// A second of pictures.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Instant>,
    pictures: u32,
    behind: u32,
    missed: u64,
    cost: Duration,
    of_size: Duration,
}

impl Window {
    /// Per picture.
    fn mean(&self) -> Duration {
        self.cost / self.pictures.max(1)
    }

    /// Part of the cost that smaller pictures would make less.
    fn of_size(&self) -> f64 {
        self.of_size.as_secs_f64() / self.cost.as_secs_f64().max(1e-9)
    }

    /// Part of the pictures that were due in `span` which nobody came for in time. A camera may
    /// give fewer than are due, and more: neither is missed.
    fn missed(&self, step: Step, span: Duration) -> f64 {
        let due = span.as_secs_f64() * f64::from(step.fps);
        let short = (due - f64::from(self.pictures)).max(0.0);
        short.min(self.missed as f64) / due.max(1.0)
    }
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
            endurance: DOWN_AFTER,
            stepped_up_at: None,
            mean: Duration::ZERO,
            strain: Strain::Cost,
        }
    }

    /// What is coded now.
    pub fn step(&self) -> Step {
        self.ladder[self.level]
    }

    /// Why less is coded than was configured, or the machine cannot even keep up with the least.
    pub fn strain(&self) -> Option<Strain> {
        let is_overloaded = self.level > 0 || self.dear >= DOWN_AFTER;
        is_overloaded.then_some(self.strain)
    }

    /// So many pictures were outdated before the owner got to them.
    pub fn miss(&mut self, pictures: u64) {
        self.window.missed = self.window.missed.saturating_add(pictures);
    }

    /// What a picture cost over the last whole second.
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// Takes the cost of one picture in, finished at `now`. A step is to be applied before the
    /// next picture.
    pub fn push_picture(&mut self, now: Instant, cost: Cost) -> Option<Step> {
        let since = *self.window.since.get_or_insert(now);
        self.window.pictures += 1;
        self.window.behind += u32::from(cost.is_behind);
        self.window.cost += cost.all;
        self.window.of_size += cost.of_size;
        let span = now.saturating_duration_since(since);
        if span < SECOND {
            return None;
        }
        let over = std::mem::replace(
            &mut self.window,
            Window {
                since: Some(now),
                ..Window::default()
            },
        );
        self.mean = over.mean();
        let share = self.mean.as_secs_f64() / self.step().interval().as_secs_f64();
        let missed = over.missed(self.step(), span);
        let strain = if over.behind * LEFT_OUT > over.pictures {
            Some(Strain::Device)
        } else if share > TOO_DEAR {
            Some(Strain::Cost)
        } else {
            (missed > MISSED).then_some(Strain::Starved)
        };
        self.dear = strain.map_or(0, |_| self.dear + 1);
        let is_quiet = share < CHEAP && over.behind == 0 && missed < MISSED / 2.0;
        self.cheap = match self.expected_above(share) {
            Some(above) if is_quiet && above < FITS => self.cheap + 1,
            _ => 0,
        };
        match strain {
            Some(strain) if self.dear >= self.endurance => self.down(now, strain, over.of_size()),
            None if self.cheap >= self.patience => self.up(now),
            _ => None,
        }
    }

    /// The step of the last answer could not be taken: `actual` is coded as before. It is tried
    /// again after twice the time.
    pub fn stay(&mut self, actual: Step) {
        let Some(level) = self.ladder.iter().position(|step| *step == actual) else {
            return;
        };
        let seconds = match level < self.level {
            true => &mut self.endurance,
            false => &mut self.patience,
        };
        *seconds = (*seconds * 2).min(UP_AFTER_MOST);
        self.stepped_up_at = None;
        self.enter(level);
    }

    /// The share of the interval that the step above would take.
    fn expected_above(&self, share: f64) -> Option<f64> {
        let above = self.ladder.get(self.level.checked_sub(1)?)?;
        Some(share * above.work() / self.step().work())
    }

    /// `of_size` of the cost would be less with smaller pictures.
    fn down(&mut self, now: Instant, strain: Strain, of_size: f64) -> Option<Step> {
        self.strain = strain;
        let below = self.ladder.get(self.level + 1)?; // `dear` stays: that is the state to show
        // Where decoding is what costs, or nothing does, smaller pictures would only be worse.
        let is_worth_it = match strain {
            Strain::Cost => of_size >= FAIR_PART,
            Strain::Device => true,
            Strain::Starved => false,
        };
        if below.size != self.step().size && !is_worth_it {
            return None;
        }
        // A device does not tell how much more it could do: only a trial does.
        let proof = match strain {
            Strain::Device => UP_AFTER_DEVICE,
            Strain::Cost | Strain::Starved => UP_AFTER,
        };
        // A step up that did not hold: the next one takes twice the proof.
        let was_rash = |at: Instant| now.saturating_duration_since(at) < HOLDS;
        self.patience = match self.stepped_up_at.take().is_some_and(was_rash) {
            true => (self.patience * 2).clamp(proof, UP_AFTER_MOST),
            false => proof,
        };
        self.enter(self.level + 1)
    }

    fn up(&mut self, now: Instant) -> Option<Step> {
        self.stepped_up_at = Some(now);
        self.endurance = DOWN_AFTER;
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
/// A device that leaves out more than one picture of so many is too slow.
const LEFT_OUT: u32 = 10;
/// More than this part of the pictures missed is a machine that others use.
const MISSED: f64 = 0.2;
/// Smaller pictures are worth it where at least this part of the cost gets less: the first step
/// of size saves 44 % of that, more than a tenth of the whole.
const FAIR_PART: f64 = 0.25;
/// Seconds in a row.
const DOWN_AFTER: u32 = 5;
const UP_AFTER: u32 = 30;
const UP_AFTER_DEVICE: u32 = 120;
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
        /// Part of `cost` whatever the size.
        decoding: Duration,
        /// A device that needs as long for a picture, besides.
        device: Duration,
        device_free_at: Instant,
        /// Before each picture others have the processor for so long.
        held: Duration,
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
                decoding: Duration::ZERO,
                device: Duration::ZERO,
                device_free_at: now,
                held: Duration::ZERO,
            }
        }

        /// The steps taken, each with the second it was taken in.
        fn run(&mut self, seconds: u64) -> Vec<(u64, Step)> {
            let end = self.now + Duration::from_secs(seconds);
            let mut taken = Vec::new();
            while self.now < end {
                let now_at = self.overload.step();
                let (w, h) = now_at.size;
                let part = f64::from(w * h) / (1280.0 * 720.0);
                let of_size = (self.cost - self.decoding).mul_f64(part);
                let all = self.decoding + of_size;
                // Pictures that come while one is coded, 30 a second, are left out.
                let pass = now_at.interval().max(all + self.held);
                self.now += pass;
                if !self.held.is_zero() {
                    let came = pass.as_millis() as u64 / 33;
                    self.overload.miss(came.saturating_sub(1));
                }
                // Of those that the device has, three may wait.
                let device = self.device.mul_f64(part);
                let is_behind = self.device_free_at > self.now + 3 * device;
                if !is_behind {
                    self.device_free_at = self.device_free_at.max(self.now) + device;
                }
                let cost = Cost {
                    all,
                    of_size,
                    is_behind,
                };
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
            assert_eq!(bench.overload.strain(), None);
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
        assert_eq!(bench.overload.strain(), Some(Strain::Cost));
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
        assert_eq!(bench.overload.strain(), Some(Strain::Cost));
    }

    #[test]
    fn a_device_that_keeps_up_may_take_its_time_and_one_that_does_not_gets_fewer_pictures() {
        let mut bench = Bench::new(5);
        bench.device = Duration::from_millis(32);
        assert_eq!(bench.run(600), [], "96 % of 33 ms");
        bench.device = Duration::from_millis(45);
        let steps = bench.run(60);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!(steps[0].1, step(20, 1280, 720));
        assert_eq!(bench.overload.strain(), Some(Strain::Device));
        // Whether it can do more again is tried, ever more seldom.
        let tried = bench.run(1800).iter().filter(|s| s.1.fps == 30).count();
        assert!((2..=5).contains(&tried), "{tried}");
        bench.device = Duration::from_millis(20);
        bench.run(700);
        assert_eq!(bench.overload.strain(), None);
        bench.device = Duration::from_millis(180);
        let steps: Vec<Step> = bench.run(60).iter().map(|s| s.1).collect();
        assert_eq!(steps.last(), Some(&step(10, 960, 540)), "{steps:?}");
    }

    #[test]
    fn a_machine_that_others_use_gets_fewer_pictures_and_no_smaller_ones() {
        let mut bench = Bench::new(3);
        bench.held = Duration::from_millis(31);
        assert_eq!(bench.run(600), [], "34 ms instead of 33: none is missed");
        bench.held = Duration::from_millis(70);
        let steps = bench.run(30);
        let rates = [20, 15].map(|fps| step(fps, 1280, 720));
        assert_eq!(steps.iter().map(|s| s.1).collect::<Vec<_>>(), rates);
        // Only a trial tells whether they still do; ever more seldom.
        let tried = bench.run(1800).iter().filter(|s| s.1.fps == 20).count();
        assert!((3..=9).contains(&tried), "{tried}");
        assert!((604..=607).contains(&steps[0].0), "{steps:?}");
        assert_eq!(bench.overload.strain(), Some(Strain::Starved));
        // Slower now by more than another rate is worth: that is all there is to be had.
        bench.held = Duration::from_millis(500);
        bench.run(600);
        assert_eq!(bench.overload.step(), step(10, 1280, 720));
        assert_eq!(bench.overload.strain(), Some(Strain::Starved));
        bench.held = Duration::ZERO;
        bench.run(600);
        assert_eq!(bench.overload.step(), step(30, 1280, 720));
        assert_eq!(bench.overload.strain(), None);
    }

    #[test]
    fn a_camera_that_gives_fewer_or_more_than_it_said_is_no_slow_machine() {
        let full = step(30, 640, 360);
        for (fps, late) in [(15, 0), (45, 1)] {
            let mut bench = Bench::new(1);
            bench.overload = Overload::new(full);
            for n in 1..60 * fps {
                let now = bench.start + Duration::from_secs(1) * n / fps;
                bench.overload.miss(late);
                let step = bench.overload.push_picture(now, Cost::coding(bench.cost));
                assert_eq!(step, None, "{fps} per second");
            }
            assert_eq!(bench.overload.strain(), None);
        }
    }

    #[test]
    fn where_decoding_is_what_costs_pictures_get_fewer_and_no_smaller() {
        let mut bench = Bench::new(150);
        bench.decoding = Duration::from_millis(130);
        let steps: Vec<Step> = bench.run(120).iter().map(|s| s.1).collect();
        let rates = [20, 15, 10].map(|fps| step(fps, 1280, 720));
        assert_eq!(steps, rates);
        assert_eq!(bench.overload.strain(), Some(Strain::Cost));
        bench.decoding = Duration::from_millis(100);
        let steps: Vec<Step> = bench.run(120).iter().map(|s| s.1).collect();
        assert_eq!(steps[0], step(10, 960, 540), "a third of it is coding");
    }

    #[test]
    fn a_step_that_could_not_be_taken_is_not_the_state_and_is_tried_again_later() {
        let mut bench = Bench::new(36);
        let full = bench.overload.step();
        let first = bench.run(7);
        assert_eq!(first.len(), 1);
        bench.overload.stay(full);
        assert_eq!(
            (bench.overload.step(), bench.overload.strain()),
            (full, None)
        );
        let second = bench.run(30);
        assert_eq!(second[0].1, first[0].1);
        let after = second[0].0 - first[0].0;
        assert!((10..=13).contains(&after), "{after}");
        // The same on the way up.
        bench.cost = Duration::from_millis(5);
        let up = bench.run(40);
        assert_eq!(up[0].1, full);
        bench.overload.stay(first[0].1);
        let again = bench.run(80);
        let after = again[0].0 - up[0].0;
        assert!((60..=70).contains(&after), "{after}");
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
        assert_eq!(bench.overload.strain(), None);
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
