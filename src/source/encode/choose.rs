//! Hardware or software: which one codes, why, and what happens when hardware fails.
//!
//! In: the configured choice, pictures, orders. Out: units from whichever encoder it is, and news
//! about changes.
//! Not here: how either works (m2m, software), how long broken hardware is left alone (failures).
//!
//! A fault of the hardware costs no picture: the one at hand is coded again by software, as a key
//! frame. Pictures that the device still had are lost with it, and nothing refers to them.
//!
//! In a stream, hardware is tried on another thread ([`Making`]) and takes over with the first
//! picture after it has proved that it works: a trial of a broken one takes seconds, and none of
//! them is anybody's picture.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::warn;

use super::away::{Leaving, Making, Progress, let_go};
use super::failures::{FIRST_RETRY, Failures, LAST_RETRY};
use super::m2m::{self, Found, Hardware};
use super::{Coded, EncodeError, Encoder, News, Picture, Settings, Software};
use crate::config::EncoderChoice;

/// Where encoders come from.
pub trait Makers: Send {
    /// Hardware encoders, best first.
    fn find(&mut self) -> Vec<Found>;

    /// Opens one and proves that it works; with it what it lacks, for a person.
    ///
    /// # Errors
    /// It does not work, or not with these settings.
    fn hardware(&mut self, found: &Found, settings: &Settings) -> Result<Opened, EncodeError>;

    /// # Errors
    /// Settings outside their bounds.
    fn software(&mut self, settings: &Settings) -> Result<Box<dyn Encoder>, EncodeError>;
}

/// An encoder, and what it lacks.
pub type Opened = (Box<dyn Encoder>, Vec<String>);

/// The encoders of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Makers for Machine {
    fn find(&mut self) -> Vec<Found> {
        m2m::find()
    }

    fn hardware(&mut self, found: &Found, settings: &Settings) -> Result<Opened, EncodeError> {
        let encoder = Hardware::open(found, settings)?;
        let lacks = encoder.lacks().to_vec();
        Ok((Box::new(encoder), lacks))
    }

    fn software(&mut self, settings: &Settings) -> Result<Box<dyn Encoder>, EncodeError> {
        Ok(Box::new(Software::open(settings)?))
    }
}

/// Whichever encoder works.
pub struct Chosen<M> {
    makers: M,
    failures: Failures,
    settings: Settings,
    inner: Box<dyn Encoder>,
    /// As last ordered, for an encoder that takes over.
    bitrate: Option<u32>,
    fps: Option<u32>,
    state: State,
    /// Hardware that failed, until it is let go: while that hangs, it is not tried again.
    leaving: Option<Leaving>,
    news: VecDeque<News>,
    /// What was told last about what codes.
    said: String,
}

#[derive(Debug)]
enum State {
    Hardware {
        node: PathBuf,
        since: Instant,
    },
    /// As configured.
    Software,
    /// Software for want of hardware.
    Substitute {
        retry_at: Instant,
        want: Want,
    },
    /// The same, while hardware is tried.
    Trial(Making<Result<Working, NoneWorks>>, Want),
}

/// Why there is no hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// It failed, which is noted: `failures` says when to try it again.
    Failed,
    /// None was there, or none took these settings. That is no fault of it, and may be otherwise
    /// later (a driver that loads late, another program that has it): the next trial is after so
    /// long.
    Missing(Duration),
}

impl Want {
    /// What a trial notes.
    fn notes(self) -> Notes {
        match self {
            Self::Failed => Notes::All,
            Self::Missing(_) => Notes::Silence,
        }
    }

    /// After a trial that failed: when the next one is, and on account of what.
    fn after_trial(self, retry_at: Option<Instant>, now: Instant) -> (Instant, Self) {
        match (retry_at, self) {
            (Some(at), _) => (at, Self::Failed),
            (None, Self::Failed) => (now + FIRST_RETRY, Self::Failed),
            (None, Self::Missing(wait)) => {
                let wait = (wait * 2).min(LAST_RETRY);
                (now + wait, Self::Missing(wait))
            }
        }
    }
}

/// Hardware that has proved that it works.
struct Working {
    encoder: Box<dyn Encoder>,
    node: PathBuf,
    said: String,
}

impl std::fmt::Debug for Working {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said)
    }
}

/// No hardware works.
#[derive(Debug)]
struct NoneWorks {
    error: EncodeError,
    /// When one that failed is worth another trial.
    retry_at: Option<Instant>,
}

impl<M: Makers + Clone + 'static> Chosen<M> {
    /// Opens an encoder as `choice` wants it. Hardware that failed before, also for another camera
    /// or with other settings, is left alone until its time (`failures`), whatever the choice.
    ///
    /// # Errors
    /// Settings outside their bounds; with `Hardware`, that there is none that works.
    pub fn open(
        mut makers: M,
        failures: Failures,
        settings: &Settings,
        choice: EncoderChoice,
    ) -> Result<Self, EncodeError> {
        settings.check()?;
        let now = Instant::now();
        let notes = match choice {
            EncoderChoice::Software | EncoderChoice::Hardware => Notes::None,
            EncoderChoice::Auto => Notes::Silence,
        };
        let hardware = match choice {
            EncoderChoice::Software => None,
            EncoderChoice::Auto | EncoderChoice::Hardware => {
                Some(hardware(&mut makers, &failures, notes, settings, now))
            }
        };
        let (inner, said, state) = match hardware {
            Some(Ok(Working {
                encoder,
                node,
                said,
            })) => (encoder, said, State::Hardware { node, since: now }),
            Some(Err(NoneWorks {
                error,
                retry_at: None,
            })) if choice == EncoderChoice::Hardware => return Err(error),
            Some(Err(NoneWorks { error, retry_at })) => {
                let inner = makers.software(settings)?;
                let said = without_hardware(&*inner, &error, retry_at, now);
                let want = retry_at.map_or(Want::Missing(FIRST_RETRY), |_| Want::Failed);
                let retry_at = retry_at.unwrap_or(now + FIRST_RETRY);
                (inner, said, State::Substitute { retry_at, want })
            }
            None => {
                let inner = makers.software(settings)?;
                let said = format!("{}: as configured", inner.name());
                (inner, said, State::Software)
            }
        };
        Ok(Self {
            makers,
            failures,
            settings: *settings,
            inner,
            bitrate: None,
            fps: None,
            state,
            leaving: None,
            news: VecDeque::from([News::Chosen(said.clone())]),
            said,
        })
    }

    /// Replaces hardware that failed.
    fn fall(&mut self, now: Instant, error: &EncodeError) -> Result<(), EncodeError> {
        let fault = error.chain();
        let inner = self.makers.software(&self.settings)?;
        let retry_at = match &self.state {
            State::Hardware { node, since } => {
                let ran = now.saturating_duration_since(*since);
                self.failures.note(node, fault.clone(), ran, now)
            }
            State::Software | State::Substitute { .. } | State::Trial(..) => now + FIRST_RETRY,
        };
        let want = Want::Failed;
        self.state = State::Substitute { retry_at, want };
        let why = format!("the hardware encoder failed ({fault})");
        let said = substitute(&*inner, &why, retry_at, now);
        self.put(inner);
        self.tell(News::Fault(fault));
        self.tell_chosen(said);
        Ok(())
    }

    /// Begins a trial of hardware that failed a while ago, or ends one.
    fn look_for_hardware(&mut self, now: Instant) {
        let (outcome, want) = match &mut self.state {
            State::Hardware { .. } | State::Software => return,
            State::Substitute { retry_at, want } => {
                let (is_due, want) = (now >= *retry_at, *want);
                let hangs = self.leaving.as_ref().is_some_and(|one| !one.is_over());
                if is_due && !hangs {
                    self.begin_trial(now, want);
                }
                return;
            }
            State::Trial(making, want) => match making.poll() {
                Progress::Pending => return,
                Progress::Made(outcome) => (outcome, *want),
                Progress::Lost => {
                    let (error, retry_at) = (EncodeError::NoHardware, None);
                    (Err(NoneWorks { error, retry_at }), *want)
                }
            },
        };
        match outcome {
            Ok(Working {
                encoder,
                node,
                said,
            }) => {
                self.put(encoder);
                self.state = State::Hardware { node, since: now };
                self.tell_chosen(said);
            }
            Err(NoneWorks { error, retry_at }) => {
                let (at, want) = want.after_trial(retry_at, now);
                let told_at = (want == Want::Failed).then_some(at);
                let said = without_hardware(&*self.inner, &error, told_at, now);
                self.state = State::Substitute { retry_at: at, want };
                self.tell_chosen(said);
            }
        }
    }

    fn begin_trial(&mut self, now: Instant, want: Want) {
        let (mut makers, failures) = (self.makers.clone(), self.failures.clone());
        let settings = self.settings;
        let trial = move || hardware(&mut makers, &failures, want.notes(), &settings, now);
        self.state = match Making::begin(trial) {
            Some(making) => State::Trial(making, want),
            None => State::Substitute {
                retry_at: now + FIRST_RETRY,
                want,
            },
        };
    }

    /// A trial that found all as it was is no news.
    fn tell_chosen(&mut self, said: String) {
        if self.said != said {
            self.said.clone_from(&said);
            self.tell(News::Chosen(said));
        }
    }

    /// Puts another encoder in place. Its first picture is a key frame of its own accord.
    fn put(&mut self, mut inner: Box<dyn Encoder>) {
        let bitrate = self.bitrate.map(|bps| inner.set_bitrate(bps));
        let fps = self.fps.map(|fps| inner.set_frame_rate(fps));
        for error in [bitrate, fps].into_iter().flatten().filter_map(Result::err) {
            warn!(error = error.chain(), "order refused by the new encoder");
        }
        inner.force_key_frame();
        let old = std::mem::replace(&mut self.inner, inner);
        self.leaving = let_go(old);
    }

    fn tell(&mut self, news: News) {
        if self.news.len() >= MAX_NEWS {
            self.news.pop_front(); // what is newer holds now
        }
        self.news.push_back(news);
    }
}

impl<M: Makers + Clone + 'static> Encoder for Chosen<M> {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        let now = picture.taken;
        self.look_for_hardware(now);
        match (self.inner.encode(picture), &self.state) {
            (Err(error), State::Hardware { .. }) if error.is_hardware_fault() => {
                self.fall(now, &error)?;
                self.inner.encode(picture)
            }
            (result, _) => result,
        }
    }

    fn force_key_frame(&mut self) {
        self.inner.force_key_frame();
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        self.bitrate = Some(bps);
        self.inner.set_bitrate(bps)
    }

    fn set_frame_rate(&mut self, fps: u32) -> Result<(), EncodeError> {
        self.inner.set_frame_rate(fps)?;
        self.fps = Some(fps);
        Ok(())
    }

    fn drain(&mut self) -> Result<Vec<super::Unit>, EncodeError> {
        self.inner.drain()
    }

    fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }

    fn waited(&self) -> Duration {
        self.inner.waited()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }
}

/// Software codes, for want of better.
fn substitute(inner: &dyn Encoder, why: &str, retry_at: Instant, now: Instant) -> String {
    let wait = retry_at.saturating_duration_since(now);
    let minutes = wait.as_secs().div_ceil(60);
    format!("{}: {why}, tried again after {minutes} min", inner.name())
}

/// The same, where the hardware did not fail or is to be tried again then.
fn without_hardware(
    inner: &dyn Encoder,
    error: &EncodeError,
    retry_at: Option<Instant>,
    now: Instant,
) -> String {
    match retry_at {
        Some(at) => substitute(inner, &error.chain(), at, now),
        None => format!("{}: {}", inner.name(), error.chain()),
    }
}

/// Which errors of an attempt make a node one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notes {
    None,
    /// That it does not answer: the next attempt would wait for it as long.
    Silence,
    All,
}

/// The first hardware encoder that works and has not failed lately; else what the last one said.
fn hardware(
    makers: &mut dyn Makers,
    failures: &Failures,
    notes: Notes,
    settings: &Settings,
    now: Instant,
) -> Result<Working, NoneWorks> {
    let (mut error, mut retry_at) = (EncodeError::NoHardware, None);
    for found in makers.find() {
        let node = found.path.as_path();
        if let Some(failure) = failures.of(node, now) {
            retry_at = earlier(retry_at, failure.retry_at);
            error = EncodeError::HardwareFailed {
                node: node.display().to_string(),
                why: failure.why,
            };
            continue;
        }
        match makers.hardware(&found, settings) {
            Ok((encoder, lacks)) => {
                let said = told(&*encoder, &found, &lacks);
                return Ok(Working {
                    encoder,
                    node: found.path,
                    said,
                });
            }
            Err(why) => {
                let is_silent = matches!(why, EncodeError::HardwareSilent { .. });
                if notes == Notes::All || (notes == Notes::Silence && is_silent) {
                    let until = failures.note(node, why.chain(), Duration::ZERO, now);
                    retry_at = earlier(retry_at, until);
                }
                error = why;
            }
        }
    }
    Err(NoneWorks { error, retry_at })
}

fn told(encoder: &dyn Encoder, found: &Found, lacks: &[String]) -> String {
    let (name, card, node) = (encoder.name(), &found.card, found.path.display());
    match lacks {
        [] => format!("{name}: {card} on {node}"),
        lacks => format!("{name}: {card} on {node}, without {}", lacks.join(", ")),
    }
}

fn earlier(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}

/// A fall tells two things.
const MAX_NEWS: usize = 4;

#[cfg(test)]
mod tests;
