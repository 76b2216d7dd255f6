//! One run of the test picture: open, draw, code, hand on, until it is closed or fails.
//!
//! In: orders, the time. Out: units and errors.
//! Not here: restarts (the module above).

use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, info, warn};

use super::Opener;
use super::pace::Pace;
use super::picture::{Moment, Painter};
use crate::config::Pattern;
use crate::media::{Abilities, AccessUnit, DownReason, ErrorKind, LeftOut, SourceEvent, Stages};
use crate::source::encode::load::Reporter;
use crate::source::encode::overload::{Cost, Overload, Step};
use crate::source::encode::{Coded, EncodeError, Encoder, News, Settings, Unit};
use crate::source::left_out::Tally;
use crate::source::tolerance::{Tolerance, Verdict};
use crate::source::worker::{End, Gone, Listened, Worker};

pub(super) fn run(worker: &mut Worker, maker: &Maker<'_>) -> Result<End, Gone> {
    worker.tell(SourceEvent::Opening)?;
    let mut run = match open(worker, maker) {
        Ok(run) => run,
        Err(error) => return Ok(failed(DownReason::Internal, &error)),
    };
    worker.tell(SourceEvent::Playing(Abilities {
        can_force_key_frame: true,
        can_change_rate: true,
    }))?;
    worker.tell(SourceEvent::Note(format!(
        "H.264 constrained baseline by {}",
        run.encoder.name()
    )))?;
    report_load(worker, &mut run)?;
    loop {
        if worker.listen(Some(run.pace.due()))? == Listened::Closed {
            debug!(camera = worker.name, left_out = ?run.left_out.all, "closed");
            return Ok(End::Closed);
        }
        if let Some(error) = step(worker, &mut run)? {
            run.after_loss = true;
            run.encoder.force_key_frame();
            let verdict = run.tolerance.on_error();
            let (Verdict::Tolerated(in_a_row) | Verdict::TooMany(in_a_row)) = verdict;
            worker.tell(SourceEvent::Error {
                kind: ErrorKind::Encode,
                in_a_row,
                detail: error.chain(),
            })?;
            if verdict == Verdict::TooMany(in_a_row) {
                return Ok(failed(DownReason::Errors, &error));
            }
        }
        if let Some(step) = run.step.take()
            && let Err(error) = follow_step(worker, maker, &mut run, step)
        {
            return Ok(failed(DownReason::Internal, &error));
        }
        // Pictures wait for a place, so do figures.
        if worker.place()?.is_some() {
            report_load(worker, &mut run)?;
        }
        if let Some(some) = run.left_out.take_due(Instant::now()) {
            worker.tell(SourceEvent::LeftOut(some))?;
        }
    }
}

pub(super) fn open(worker: &Worker, maker: &Maker<'_>) -> Result<Run, EncodeError> {
    let pattern = maker.pattern;
    let full = Step {
        fps: pattern.fps,
        size: (pattern.width, pattern.height),
    };
    let (encoder, painter) = maker.make(worker, full)?;
    let start = Instant::now();
    Ok(Run {
        encoder,
        painter,
        start,
        pace: Pace::new(start, pattern.fps),
        bitrate: worker.orders.bitrate,
        number: 0,
        last_ticks: -1,
        after_loss: false,
        tolerance: Tolerance::new(maker.max_errors),
        left_out: Tally::new(start),
        overload: Overload::new(full),
        reporter: Reporter::default(),
        step: None,
    })
}

/// Goes on at another rate or size. Media time goes on with it.
pub(super) fn follow_step(
    worker: &Worker,
    maker: &Maker<'_>,
    run: &mut Run,
    step: Step,
) -> Result<(), EncodeError> {
    let (width, height) = step.size;
    if run.painter.size() != (width as usize, height as usize) {
        (run.encoder, run.painter) = maker.make(worker, step)?;
    } else if let Err(error) = run.encoder.set_frame_rate(step.fps) {
        warn!(camera = worker.name, %error, "frame rate");
    }
    let interval = Duration::from_secs(1) / step.fps.max(1);
    run.pace = Pace::new(Instant::now() + interval, step.fps);
    Ok(())
}

/// Hands on what the encoder has to tell, and how hard it works.
fn report_load(worker: &Worker, run: &mut Run) -> Result<(), Gone> {
    while let Some(news) = run.encoder.poll_news() {
        match news {
            News::Chosen(said) => {
                info!(camera = %worker.name, encoder = said, "encoder chosen");
                run.reporter.set_encoder(said);
            }
            News::Fault(detail) => worker.tell(SourceEvent::Error {
                kind: ErrorKind::Fallback,
                in_a_row: 1,
                detail,
            })?,
        }
    }
    match run.reporter.poll(Instant::now(), &run.overload) {
        Some(load) => worker.tell(SourceEvent::Load(Box::new(load))),
        None => Ok(()),
    }
}

/// One beat: at most one picture. An error of the encoder is handed back.
pub(super) fn step(worker: &mut Worker, run: &mut Run) -> Result<Option<EncodeError>, Gone> {
    let taken = Instant::now();
    let late = run.pace.take(taken);
    run.left_out.all.late += late;
    run.overload.leave_out(LeftOut {
        late,
        ..LeftOut::default()
    });
    if std::mem::take(&mut worker.orders.key_frame) {
        run.encoder.force_key_frame();
    }
    let Some(place) = worker.place()? else {
        run.left_out.all.full += 1;
        return Ok(None);
    };
    run.follow(worker.orders.bitrate, &worker.name);
    match run.code(taken) {
        Ok(Some(unit)) => place.send((worker.id, SourceEvent::Unit(unit))),
        Ok(None) => drop(place),
        Err(error) => return Ok(Some(error)),
    }
    Ok(None)
}

/// What the encoder and painter of a run are made by.
pub(super) struct Maker<'a> {
    pub(super) pattern: &'a Pattern,
    pub(super) opener: &'a Opener,
    /// So many refused pictures in a row start the encoder anew.
    pub(super) max_errors: u32,
}

impl Maker<'_> {
    /// An encoder and a painter for pictures of one size.
    fn make(
        &self,
        worker: &Worker,
        step: Step,
    ) -> Result<(Box<dyn Encoder>, Painter), EncodeError> {
        let (width, height) = step.size;
        let mut encoder = (self.opener)(&Settings {
            width,
            height,
            fps: step.fps,
            ceiling: self.pattern.bitrate,
        })?;
        if let Some(bps) = worker.orders.bitrate {
            encoder.set_bitrate(bps)?;
        }
        let info = format!("{width}X{height} {} FPS", step.fps);
        let painter = Painter::new(width as usize, height as usize, &worker.name, &info);
        Ok((encoder, painter))
    }
}

/// What lives from opening to closing.
pub(super) struct Run {
    encoder: Box<dyn Encoder>,
    painter: Painter,
    start: Instant,
    pace: Pace,
    /// As last ordered.
    bitrate: Option<u32>,
    number: u64,
    last_ticks: i64,
    after_loss: bool,
    tolerance: Tolerance,
    left_out: Tally,
    overload: Overload,
    reporter: Reporter,
    /// To be taken before the next picture.
    step: Option<Step>,
}

impl Run {
    /// Follows an order for another bit rate. Pictures go on at the old one if it is refused.
    fn follow(&mut self, bitrate: Option<u32>, name: &str) {
        if self.bitrate == bitrate {
            return;
        }
        self.bitrate = bitrate;
        if let Some(Err(error)) = bitrate.map(|bps| self.encoder.set_bitrate(bps)) {
            warn!(camera = name, %error, "bit rate");
        }
    }

    /// Draws and codes the picture of `taken`.
    fn code(&mut self, taken: Instant) -> Result<Option<AccessUnit>, EncodeError> {
        let elapsed = taken - self.start;
        self.painter.draw(&Moment {
            number: self.number,
            elapsed,
            wall: wall_clock(),
        });
        self.number += 1;
        let drawn = Instant::now();
        let ticks = (elapsed.as_micros() * 9 / 100) as i64; // 90 kHz
        self.last_ticks = ticks.max(self.last_ticks + 1);
        let picture = self.painter.picture(self.last_ticks, taken)?;
        let coded = self.encoder.encode(&picture)?;
        let finished = Instant::now();
        let cost = Cost {
            is_skipped: matches!(coded, Coded::Skipped),
            ..Cost::coding(finished - taken)
        };
        self.left_out.all.skipped += u64::from(cost.is_skipped);
        self.step = self.overload.push_picture(finished, cost);
        let stages = Stages {
            capture: drawn - taken,
            decode: Duration::ZERO,
            encode: drawn.elapsed(),
        };
        Ok(match coded {
            Coded::Unit(unit) => Some(self.hand_on(unit, stages)),
            Coded::Skipped | Coded::Pending => None,
        })
    }

    fn hand_on(&mut self, unit: Unit, stages: Stages) -> AccessUnit {
        self.tolerance.on_handed_on();
        AccessUnit {
            after_loss: std::mem::take(&mut self.after_loss),
            ..unit.into_access_unit(stages)
        }
    }
}

fn failed(reason: DownReason, error: &EncodeError) -> End {
    End::Failed {
        reason,
        detail: error.chain(),
    }
}

/// For the eyes (and the tests' marks) only.
fn wall_clock() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}
