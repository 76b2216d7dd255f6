//! One run of a camera on its own thread: open, take, decode, encode, hand on, until it is
//! stopped or fails.
//!
//! In: an open camera, orders ([`Shared`](super::shared::Shared)). Out: units and errors; why it
//! ended.
//! Not here: restarts and threads that hang (keeper), the device (device).
//!
//! Of raw pictures the newest wins: those that wait behind a slow encoder are given back unread.
//! A place in the channel is reserved before a picture is coded, so nothing coded is ever lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::{debug, info, warn};

use super::clock::{Limit, Pair, Sequence, Stamps};
use super::coder::Coder;
use super::device::{Agreed, Camera, Opened, Opener};
use super::mode::Coding;
use super::passing::Passing;
use super::refusal;
use super::shared::{Outlet, Stopped};
use super::signal;
use super::sys::{Dequeued, Ready};
use crate::config::{self, EncoderChoice};
use crate::media::{Abilities, AccessUnit, DownReason, ErrorKind, SourceEvent};
use crate::source::encode::{EncodeError, Encoder, News, Settings};
use crate::source::left_out::Tally;
use crate::source::rtsp::verdict::{End, Pace};
use crate::source::tolerance::{Tolerance, Verdict};

/// How a run gets its encoder.
pub type EncoderOpener =
    dyn Fn(&Settings, EncoderChoice) -> Result<Box<dyn Encoder>, EncodeError> + Send + Sync;

/// What one run needs to know.
pub(super) struct Job<'a> {
    pub(super) name: &'a str,
    pub(super) wish: &'a config::V4l2,
    pub(super) stall: Duration,
    pub(super) max_errors: u32,
    /// How long a camera that codes may go on without a key frame where one is needed.
    pub(super) key_frame_limit: Duration,
    pub(super) opener: &'a dyn Opener,
    pub(super) encoder: &'a Arc<EncoderOpener>,
    pub(super) outlet: &'a Outlet,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` when it was told to stop.
    pub(super) end: Option<End>,
    /// From the first unit to the last.
    pub(super) played: Duration,
}

impl Job<'_> {
    /// Runs. `told` hears how it ended *before* the device is let go: that may hang.
    pub(super) fn run(&self, told: impl FnOnce(Ended)) {
        let opened = match self.opener.open(self.wish, &self.outlet.shared) {
            Ok(opened) => opened,
            Err(end) => {
                self.outlet.shared.set_brake(None);
                return told(Ended {
                    end: Some(end),
                    played: Duration::ZERO,
                });
            }
        };
        let Opened {
            camera,
            agreed,
            notes,
        } = opened;
        let mut run = match Run::new(self, camera, agreed) {
            Ok(run) => run,
            Err((end, camera)) => {
                let played = Duration::ZERO;
                let end = Some(end);
                told(Ended { end, played });
                return self.close(camera);
            }
        };
        let end = run.live(notes).ok();
        debug!(camera = self.name, surplus = run.surplus, left_out = ?run.left_out.all, "run over");
        let played = run.played();
        told(Ended { end, played });
        let Run { camera, work, .. } = run;
        self.close(camera);
        drop(work); // a camera is not kept for an encoder that hangs
    }

    fn close(&self, camera: Box<dyn Camera>) {
        self.outlet.shared.beat("closing");
        drop(camera);
        self.outlet.shared.set_brake(None);
    }
}

struct Run<'a> {
    job: &'a Job<'a>,
    camera: Box<dyn Camera>,
    agreed: Agreed,
    work: Work,
    stamps: Stamps,
    sequence: Sequence,
    limit: Limit,
    tolerance: Tolerance,
    /// The next unit comes after something that nobody received.
    after_loss: bool,
    first_unit: Option<Instant>,
    last_unit: Option<Instant>,
    last_buffer: Instant,
    /// Pictures beyond the rate that is wanted.
    surplus: u64,
    left_out: Tally,
    /// When the input was last looked at.
    looked_at: Instant,
}

/// What is done with a buffer.
enum Work {
    Encode(Box<Coder>),
    Pass(Passing),
}

/// One picture failed; the run goes on unless it was one too many.
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    detail: String,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

impl<'a> Run<'a> {
    /// The camera comes back where the rest cannot be had.
    fn new(
        job: &'a Job<'a>,
        camera: Box<dyn Camera>,
        agreed: Agreed,
    ) -> Result<Self, (End, Box<dyn Camera>)> {
        let bitrate = job.outlet.shared.bitrate();
        let work = match work_of(job, &agreed, bitrate) {
            Ok(work) => work,
            Err(end) => return Err((end, camera)),
        };
        let now = Instant::now();
        Ok(Self {
            job,
            camera,
            work,
            stamps: Stamps::new(Pair::now()),
            sequence: Sequence::default(),
            // Coded pictures refer to each other: none may be left out.
            limit: Limit::new(match agreed.coding {
                Coding::Raw(_) => Some(agreed.most_fps()),
                Coding::H264 => None,
            }),
            agreed,
            tolerance: Tolerance::new(job.max_errors),
            after_loss: false,
            first_unit: None,
            last_unit: None,
            last_buffer: now,
            surplus: 0,
            left_out: Tally::new(now),
            looked_at: now,
        })
    }

    fn played(&self) -> Duration {
        match (self.first_unit, self.last_unit) {
            (Some(first), Some(last)) => last - first,
            _ => Duration::ZERO,
        }
    }

    /// Until it fails or is stopped; whatever was lost is counted.
    fn live(&mut self, notes: Vec<String>) -> Result<End, Stopped> {
        let end = self.play(notes)?;
        if let Some(last) = self.left_out.take(Instant::now()) {
            self.job.outlet.tell(SourceEvent::LeftOut(last))?;
        }
        Ok(end)
    }

    fn play(&mut self, notes: Vec<String>) -> Result<End, Stopped> {
        let can_force = match &self.work {
            Work::Encode(_) => true,
            Work::Pass(_) => self.camera.can_force_key_frame(),
        };
        self.job.outlet.tell(SourceEvent::Playing(Abilities {
            can_force_key_frame: can_force,
            can_change_rate: matches!(self.work, Work::Encode(_)),
        }))?;
        for note in notes {
            self.job.outlet.tell(SourceEvent::Note(note))?;
        }
        let how = match &self.work {
            Work::Encode(coder) => format!("encoded by {}", coder.name()),
            Work::Pass(_) => "coded by the camera".to_owned(),
        };
        self.job.outlet.tell(SourceEvent::Note(how))?;
        loop {
            self.job.outlet.shared.beat("waiting for a picture");
            if self.job.outlet.shared.is_stopped() || self.job.outlet.events.is_closed() {
                return Err(Stopped);
            }
            if let Some(end) = self.step()? {
                // What was captured before the end is worth as much as what came before it.
                if let Work::Encode(coder) = &mut self.work {
                    let last = coder.drain();
                    self.hand_on_late(last)?;
                }
                return Ok(end);
            }
            self.report_load()?;
            if let Some(some) = self.left_out.take_due(Instant::now()) {
                self.job.outlet.tell(SourceEvent::LeftOut(some))?;
            }
        }
    }

    /// Hands on what the encoder has to tell and how hard it works, and follows a step of the
    /// overload ladder.
    fn report_load(&mut self) -> Result<(), Stopped> {
        let Work::Encode(coder) = &mut self.work else {
            return Ok(());
        };
        if let Some(fps) = coder.take_new_rate() {
            let is_slower = f64::from(fps) + 0.5 < self.agreed.fps;
            self.limit = Limit::new(match is_slower {
                true => Some(f64::from(fps)),
                false => Some(self.agreed.most_fps()),
            });
        }
        while let Some(news) = coder.poll_news() {
            match news {
                News::Chosen(said) => {
                    info!(camera = %self.job.name, encoder = said, "encoder chosen");
                }
                News::Fault(detail) => self.job.outlet.tell(SourceEvent::Error {
                    kind: ErrorKind::Fallback,
                    in_a_row: 1,
                    detail,
                })?,
            }
        }
        match coder.poll_load() {
            Some(load) => self.job.outlet.tell(SourceEvent::Load(Box::new(load))),
            None => Ok(()),
        }
    }

    /// Waits a little, takes at most one picture.
    fn step(&mut self) -> Result<Option<End>, Stopped> {
        self.follow_orders();
        if let Work::Encode(coder) = &mut self.work {
            match coder.step() {
                Ok(last) => self.hand_on_late(last)?,
                Err(fault) => {
                    self.break_chain(fault.kind);
                    return self.count(fault);
                }
            }
        }
        let ready = match self.camera.wait(SLICE) {
            Ok(ready) => ready,
            Err(errno) => return Ok(Some(refusal::stopped(errno))),
        };
        // Whatever was wished meanwhile holds for the picture that ended the wait.
        self.follow_orders();
        if let Some(end) = self.judge_input(&ready) {
            return Ok(Some(end));
        }
        if !ready.read && !ready.failed {
            return Ok(self.stalled());
        }
        // A failed device says why when it is asked for a buffer.
        let buffer = match self.newest() {
            Ok(buffer) => buffer,
            Err(Errno::EINVAL) => {
                let fault = Fault::new(ErrorKind::Device, "the driver took a buffer not back");
                return self.count(fault);
            }
            Err(errno) => return Ok(Some(refusal::stopped(errno))),
        };
        if let Some(end) = self.without_key_frame() {
            return Ok(Some(end));
        }
        self.last_buffer = Instant::now();
        let (ticks, taken) = self.stamps.place(
            buffer.is_monotonic().then_some(buffer.timestamp),
            self.last_buffer,
        );
        if buffer.is_damaged() {
            self.break_chain(ErrorKind::Device);
            let fault = Fault::new(ErrorKind::Device, "the driver marks a picture as damaged");
            return self.count(fault);
        }
        if !self.limit.keeps(ticks) {
            self.surplus += 1;
            return Ok(None);
        }
        match self.work_on(&buffer, ticks, taken)? {
            Ok(()) => Ok(None),
            Err(fault) => {
                self.break_chain(fault.kind);
                self.count(fault)
            }
        }
    }

    /// The end of a run whose pictures are others now, or no true ones.
    fn judge_input(&mut self, ready: &Ready) -> Option<End> {
        if ready.event
            && let Some(change) = self.camera.take_change()
        {
            return Some(End {
                reason: DownReason::Ended,
                detail: format!("the source at its input changed to {change}"),
                pace: Pace::Soon,
            });
        }
        match self.looked_at.elapsed() >= signal::LOOK_EVERY {
            true => self.look_at_input(),
            false => None,
        }
    }

    /// The end of a run without pictures, once that has lasted.
    fn stalled(&mut self) -> Option<End> {
        let silent = self.last_buffer.elapsed();
        if silent < self.job.stall {
            return None;
        }
        Some(self.look_at_input().unwrap_or_else(|| End {
            reason: DownReason::Stalled,
            detail: format!("no picture for {:.1} s", silent.as_secs_f32()),
            pace: Pace::Soon,
        }))
    }

    /// The end of a run whose pictures nobody can decode: a new one usually begins with the key
    /// frame that this one does not give.
    fn without_key_frame(&self) -> Option<End> {
        let Work::Pass(passing) = &self.work else {
            return None;
        };
        let limit = self.job.key_frame_limit;
        (passing.waited(Instant::now()) >= limit).then(|| End {
            reason: DownReason::Stalled,
            detail: format!("pictures came, but no key frame within {limit:?}"),
            pace: Pace::Soon,
        })
    }

    /// Why the pictures are no true ones, though they may go on coming.
    fn look_at_input(&mut self) -> Option<End> {
        self.looked_at = Instant::now();
        self.camera.missing().map(|detail| End {
            reason: DownReason::NoSignal,
            detail,
            pace: Pace::Soon,
        })
    }

    /// The newest buffer that is there; of coded pictures the next.
    fn newest(&mut self) -> nix::Result<Dequeued> {
        let before = self.left_out.all;
        let newest = self.take_newest();
        let left_out = self.left_out.all.since(before);
        match &mut self.work {
            Work::Encode(coder) => coder.leave_out(left_out),
            Work::Pass(_) if left_out.lost > 0 => self.break_chain(ErrorKind::Loss),
            Work::Pass(_) => {}
        }
        newest
    }

    /// Takes it, and counts those before it of which nothing comes: the driver had no buffer for
    /// them, or a newer one outdates them.
    fn take_newest(&mut self) -> nix::Result<Dequeued> {
        let is_raw = matches!(self.work, Work::Encode(_));
        let mut buffer = self.take()?;
        // A driver has as many buffers as we gave it; the bound is for one that lies.
        for _ in 0..MAX_DRAIN {
            if !is_raw || buffer.is_damaged() || !self.camera.has_more() {
                break;
            }
            self.left_out.all.late += 1;
            buffer = self.take()?;
        }
        Ok(buffer)
    }

    fn take(&mut self) -> nix::Result<Dequeued> {
        let buffer = self.camera.take()?;
        let lost = self.sequence.lost_before(buffer.sequence);
        self.left_out.all.lost += u64::from(lost);
        Ok(buffer)
    }

    /// Codes or passes on one buffer.
    fn work_on(
        &mut self,
        buffer: &Dequeued,
        ticks: i64,
        taken: Instant,
    ) -> Result<Result<(), Fault>, Stopped> {
        let outlet = self.job.outlet;
        let Some(place) = outlet.reserve()? else {
            self.left_out.all.full += 1;
            self.break_chain(ErrorKind::Loss);
            return Ok(Ok(()));
        };
        outlet.shared.beat("coding a picture");
        let planes: Vec<&[u8]> = self
            .camera
            .planes()
            .into_iter()
            .zip(&buffer.planes)
            .map(|(bytes, (begin, end))| bytes.get(*begin..*end).unwrap_or_default())
            .collect();
        let coded = match &mut self.work {
            Work::Encode(coder) => {
                let coded = coder.code(&self.agreed, &planes, (ticks, taken));
                self.left_out.all.add(coder.take_left_out());
                coded
            }
            Work::Pass(passing) => {
                let data = planes.first().copied().unwrap_or_default();
                passing.take(data, (ticks, taken), Instant::now())
            }
        };
        let mut unit = match coded {
            Ok(Some(unit)) => unit,
            Ok(None) => return Ok(Ok(())),
            Err(fault) => return Ok(Err(fault)),
        };
        unit.after_loss = std::mem::take(&mut self.after_loss);
        place.hand_on(unit);
        self.on_handed_on();
        Ok(Ok(()))
    }

    /// Units of pictures that the encoder had kept: no place was taken for them.
    fn hand_on_late(&mut self, units: Vec<AccessUnit>) -> Result<(), Stopped> {
        for mut unit in units {
            unit.after_loss = std::mem::take(&mut self.after_loss);
            self.job.outlet.tell(SourceEvent::Unit(unit))?;
            self.on_handed_on();
        }
        Ok(())
    }

    fn on_handed_on(&mut self) {
        self.tolerance.on_handed_on();
        let now = Instant::now();
        self.first_unit.get_or_insert(now);
        self.last_unit = Some(now);
    }

    /// A picture is missing. Where others refer to it a key frame is needed.
    fn break_chain(&mut self, kind: ErrorKind) {
        match &mut self.work {
            // One that never reached the encoder is missed by none.
            Work::Encode(coder) => {
                if kind == ErrorKind::Encode {
                    coder.force_key_frame();
                    self.after_loss = true;
                }
            }
            Work::Pass(passing) => {
                passing.on_loss(Instant::now());
                self.after_loss = true;
            }
        }
    }

    fn follow_orders(&mut self) {
        let shared = &self.job.outlet.shared;
        let wants_key_frame = shared.take_key_frame();
        let bitrate = shared.bitrate();
        match &mut self.work {
            Work::Encode(coder) => {
                if wants_key_frame {
                    coder.force_key_frame();
                }
                if let Some(Err(error)) = bitrate.map(|bps| coder.follow_bitrate(bps)) {
                    warn!(camera = self.job.name, %error, "bit rate");
                }
            }
            Work::Pass(_) => {
                if wants_key_frame
                    && self.camera.can_force_key_frame()
                    && let Err(errno) = self.camera.force_key_frame()
                {
                    debug!(camera = self.job.name, %errno, "asking for a key frame");
                }
            }
        }
    }

    /// Counts and tells an error; the last one tolerated ends the run.
    fn count(&mut self, fault: Fault) -> Result<Option<End>, Stopped> {
        let verdict = self.tolerance.on_error();
        let (Verdict::Tolerated(in_a_row) | Verdict::TooMany(in_a_row)) = verdict;
        let Fault { kind, detail } = fault;
        self.job.outlet.tell(SourceEvent::Error {
            kind,
            in_a_row,
            detail: detail.clone(),
        })?;
        Ok(matches!(verdict, Verdict::TooMany(_)).then(|| End {
            reason: DownReason::Errors,
            detail: format!("{in_a_row} errors in a row, the last: {detail}"),
            pace: Pace::Soon,
        }))
    }
}

/// Decoder and encoder, or what passes coded pictures on.
fn work_of(job: &Job<'_>, agreed: &Agreed, bitrate: Option<u32>) -> Result<Work, End> {
    let Coding::Raw(format) = agreed.coding else {
        return Ok(Work::Pass(Passing::new(Instant::now())));
    };
    job.outlet.shared.beat("opening the encoder");
    let coder = Coder::open(format, agreed, job.wish, job.encoder, bitrate);
    let coder = coder.map_err(|detail| match job.wish.encoder {
        // Somebody must change a setting, or plug something in.
        EncoderChoice::Hardware => End {
            reason: DownReason::Unsupported,
            detail,
            pace: Pace::Slow,
        },
        EncoderChoice::Auto | EncoderChoice::Software => End {
            reason: DownReason::Internal,
            detail,
            pace: Pace::Soon,
        },
    })?;
    Ok(Work::Encode(Box::new(coder)))
}

/// Between two looks at the orders.
const SLICE: Duration = Duration::from_millis(50);
/// Buffers that are skipped for a newer one at a time.
const MAX_DRAIN: usize = 32;
