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
//! where rate control left the picture out, and [`Overload::leave_out`] for those that never
//! came so far. A returned [`Step`] of the same size is
//! `Encoder::set_frame_rate` and a slower choice of pictures; of another size a new encoder (with
//! the step's size and the same ceiling, and the ordered bit rate), with the same media time going
//! on. Where that cannot be had: [`Overload::stay`].
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

use crate::media::{LeftOut, Strain};

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
    /// It was left out by rate control.
    pub is_skipped: bool,
}

impl Cost {
    /// Of one that was drawn at its size and coded here.
    pub fn coding(time: Duration) -> Self {
        Self {
            all: time,
            of_size: time,
            is_behind: false,
            is_skipped: false,
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
    skipped: f32,
    /// What was wrong with the last seconds that called for a step.
    strain: Strain,
}

/// A second of pictures.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Instant>,
    pictures: u32,
    behind: u32,
    skipped: u32,
    lost: u64,
    late: u64,
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
    /// give fewer than are due, and more: neither is missed. Nor are those that never came out of
    /// the device, unless those that did were late as well: a driver runs out of buffers then.
    fn missed(&self, step: Step, span: Duration) -> f64 {
        let due = span.as_secs_f64() * f64::from(step.fps);
        let short = (due - f64::from(self.pictures)).max(0.0);
        let are_late = self.late.saturating_mul(LATE) >= u64::from(self.pictures);
        let missed = self
            .late
            .saturating_add(if are_late { self.lost } else { 0 });
        short.min(missed as f64) / due.max(1.0)
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
            skipped: 0.0,
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

    /// Part of the pictures of the last whole second that rate control left out.
    pub fn skipped(&self) -> f32 {
        self.skipped
    }

    /// Pictures were left out before the next one.
    pub fn leave_out(&mut self, LeftOut { lost, late, .. }: LeftOut) {
        self.window.lost = self.window.lost.saturating_add(lost);
        self.window.late = self.window.late.saturating_add(late);
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
        self.window.skipped += u32::from(cost.is_skipped);
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
        self.skipped = over.skipped as f32 / over.pictures as f32;
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
/// Of those that came, one late for so many that were coded is a sign of it.
const LATE: u64 = 5;
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
mod tests;
