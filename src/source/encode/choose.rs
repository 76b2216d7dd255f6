//! Hardware or software: which one codes, why, and what happens when hardware fails.
//!
//! In: the configured choice, pictures, orders. Out: units from whichever encoder it is, and news
//! about changes.
//! Not here: how either works (m2m, software).
//!
//! A fault of the hardware costs no picture: the one at hand is coded again by software, as a key
//! frame. Pictures that the device still had are lost with it, and nothing refers to them.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::m2m::{self, Found, Hardware};
use super::{Coded, EncodeError, Encoder, News, Picture, Settings, Software, Unit};
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
pub struct Chosen {
    makers: Box<dyn Makers>,
    settings: Settings,
    inner: Box<dyn Encoder>,
    /// As last ordered, for an encoder that takes over.
    bitrate: Option<u32>,
    fps: Option<u32>,
    state: State,
    /// Before the next attempt with hardware that failed.
    retry_after: Duration,
    news: VecDeque<News>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Hardware {
        since: Instant,
    },
    Software,
    /// Software in place of hardware that failed.
    Substitute {
        retry_at: Instant,
    },
}

impl Chosen {
    /// Opens an encoder as `choice` wants it.
    ///
    /// # Errors
    /// Settings outside their bounds; with `Hardware`, that there is none that works.
    pub fn open(
        mut makers: Box<dyn Makers>,
        settings: &Settings,
        choice: EncoderChoice,
    ) -> Result<Self, EncodeError> {
        settings.check()?;
        let hardware = match choice {
            EncoderChoice::Software => None,
            EncoderChoice::Auto | EncoderChoice::Hardware => Some(hardware(&mut *makers, settings)),
        };
        let (inner, said, state) = match hardware {
            Some(Ok((inner, said))) => {
                let since = Instant::now();
                (inner, said, State::Hardware { since })
            }
            Some(Err(error)) if choice == EncoderChoice::Hardware => return Err(error),
            other => {
                let inner = makers.software(settings)?;
                let why = match other {
                    Some(Err(error)) => error.chain(),
                    Some(Ok(_)) | None => "as configured".to_owned(),
                };
                let said = format!("{}: {why}", inner.name());
                (inner, said, State::Software)
            }
        };
        info!(encoder = said, "encoder chosen");
        Ok(Self {
            makers,
            settings: *settings,
            inner,
            bitrate: None,
            fps: None,
            state,
            retry_after: FIRST_RETRY,
            news: VecDeque::from([News::Chosen(said)]),
        })
    }

    /// Replaces hardware that failed.
    fn fall(
        &mut self,
        now: Instant,
        since: Instant,
        error: &EncodeError,
    ) -> Result<(), EncodeError> {
        let fault = error.chain();
        let inner = self.makers.software(&self.settings)?;
        if now.saturating_duration_since(since) >= GOOD_RUN {
            self.retry_after = FIRST_RETRY;
        }
        let wait = self.retry_after;
        self.retry_after = (wait * 2).min(LAST_RETRY);
        self.state = State::Substitute {
            retry_at: now + wait,
        };
        let minutes = wait.as_secs() / 60;
        let said = format!(
            "{}: the hardware encoder failed ({fault}), tried again after {minutes} min",
            inner.name()
        );
        warn!(
            fault,
            retry_minutes = minutes,
            "hardware encoder failed, software took over"
        );
        self.put(inner);
        self.tell(News::Fault(fault));
        self.tell(News::Chosen(said));
        Ok(())
    }

    /// Tries hardware again that failed a while ago.
    fn retry(&mut self, now: Instant) {
        match hardware(&mut *self.makers, &self.settings) {
            Ok((inner, said)) => {
                info!(encoder = said, "hardware encoder works again");
                self.put(inner);
                self.state = State::Hardware { since: now };
                self.tell(News::Chosen(said));
            }
            Err(error) => {
                let wait = self.retry_after;
                self.retry_after = (wait * 2).min(LAST_RETRY);
                self.state = State::Substitute {
                    retry_at: now + wait,
                };
                info!(error = error.chain(), "hardware encoder still fails");
            }
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
        // To let go of a device that hangs can take as long as it hangs: not on this thread.
        let spawned = thread::Builder::new().name("encoder end".to_owned());
        if let Err(error) = spawned.spawn(move || drop(old)) {
            warn!(%error, "no thread to let go of an encoder"); // it was dropped right here
        }
    }

    fn tell(&mut self, news: News) {
        if self.news.len() >= MAX_NEWS {
            self.news.pop_front(); // what is newer holds now
        }
        self.news.push_back(news);
    }
}

impl Encoder for Chosen {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        let now = picture.taken;
        if matches!(self.state, State::Substitute { retry_at } if now >= retry_at) {
            self.retry(now);
        }
        match (self.inner.encode(picture), self.state) {
            (Err(error), State::Hardware { since }) if error.is_hardware_fault() => {
                self.fall(now, since, &error)?;
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

    fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn drain(&mut self) -> Result<Vec<Unit>, EncodeError> {
        self.inner.drain()
    }

    fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }
}

/// The first hardware encoder that works, and what to say of it; else what the last one said.
fn hardware(
    makers: &mut dyn Makers,
    settings: &Settings,
) -> Result<(Box<dyn Encoder>, String), EncodeError> {
    let mut last = EncodeError::NoHardware;
    for found in makers.find() {
        match makers.hardware(&found, settings) {
            Ok((encoder, lacks)) => {
                let place = format!("{} on {}", found.card, found.path.display());
                let mut said = format!("{}: {place}", encoder.name());
                if !lacks.is_empty() {
                    said = format!("{said}, without {}", lacks.join(", "));
                }
                return Ok((encoder, said));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Before hardware that failed is tried again; doubled from failure to failure.
pub const FIRST_RETRY: Duration = Duration::from_secs(5 * 60);
const LAST_RETRY: Duration = Duration::from_secs(3600);
/// Hardware that ran as long was good: its failure counts as a first one.
const GOOD_RUN: Duration = Duration::from_secs(3600);
/// A fall tells two things.
const MAX_NEWS: usize = 4;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::super::Plane;
    use super::*;

    /// What happens to each attempt to open hardware, and to each of its pictures.
    #[derive(Default)]
    struct Script {
        nodes: usize,
        opens: VecDeque<Result<(), &'static str>>,
        pictures: VecDeque<Result<(), EncodeError>>,
        orders: Vec<String>,
    }

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<Script>>);

    struct FakeEncoder(Fake, &'static str, bool);

    impl Makers for Fake {
        fn find(&mut self) -> Vec<Found> {
            let node = |n| Found {
                path: PathBuf::from(format!("/dev/video{n}")),
                driver: "fake".to_owned(),
                card: "chip".to_owned(),
                pixels: Vec::new(),
            };
            (0..self.0.lock().unwrap().nodes).map(node).collect()
        }

        fn hardware(&mut self, found: &Found, _: &Settings) -> Result<Opened, EncodeError> {
            let planned = self.0.lock().unwrap().opens.pop_front();
            planned
                .unwrap_or(Ok(()))
                .map_err(|why| EncodeError::HardwareUnfit {
                    node: found.path.display().to_string(),
                    why: why.to_owned(),
                })?;
            let encoder = Box::new(FakeEncoder(self.clone(), "hardware", false));
            Ok((encoder, vec!["level".to_owned()]))
        }

        fn software(&mut self, _: &Settings) -> Result<Box<dyn Encoder>, EncodeError> {
            Ok(Box::new(FakeEncoder(self.clone(), "software", true)))
        }
    }

    impl FakeEncoder {
        fn note(&self, what: &str) {
            let order = format!("{} {what}", self.1);
            self.0.0.lock().unwrap().orders.push(order);
        }
    }

    impl Encoder for FakeEncoder {
        fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
            if self.1 == "hardware" {
                let planned = self.0.0.lock().unwrap().pictures.pop_front();
                planned.unwrap_or(Ok(()))?;
            }
            Ok(Coded::Unit(Unit {
                data: Bytes::from_static(self.1.as_bytes()),
                is_key_frame: std::mem::take(&mut self.2),
                ticks: picture.ticks,
                taken: picture.taken,
            }))
        }

        fn force_key_frame(&mut self) {
            self.2 = true;
        }

        fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
            self.note(&format!("{bps} bit/s"));
            Ok(())
        }

        fn set_frame_rate(&mut self, fps: u32) -> Result<(), EncodeError> {
            self.note(&format!("{fps} fps"));
            Ok(())
        }

        fn name(&self) -> &'static str {
            self.1
        }
    }

    const SETTINGS: Settings = Settings {
        width: 16,
        height: 16,
        fps: 30,
        ceiling: 1_000_000,
    };

    fn fake(nodes: usize, opens: &[Result<(), &'static str>]) -> Fake {
        let fake = Fake::default();
        let mut script = fake.0.lock().unwrap();
        script.nodes = nodes;
        script.opens = opens.iter().copied().collect();
        drop(script);
        fake
    }

    fn chosen(fake: &Fake, choice: EncoderChoice) -> Result<(&'static str, String), String> {
        let opened = Chosen::open(Box::new(fake.clone()), &SETTINGS, choice);
        let mut chosen = opened.map_err(|error| error.chain())?;
        let Some(News::Chosen(said)) = chosen.poll_news() else {
            panic!("it says what it chose");
        };
        Ok((chosen.name(), said))
    }

    #[test]
    fn the_choice_and_its_reason() {
        use EncoderChoice::{Auto, Hardware, Software};
        let bad = Err("too small");
        for (nodes, opens, choice, expected) in [
            (
                0,
                &[][..],
                Auto,
                Ok(("software", "software: no hardware encoder found")),
            ),
            (0, &[], Hardware, Err("no hardware encoder found")),
            (
                1,
                &[],
                Software,
                Ok(("software", "software: as configured")),
            ),
            (
                1,
                &[],
                Auto,
                Ok(("hardware", "hardware: chip on /dev/video0, without level")),
            ),
            (
                1,
                &[bad],
                Auto,
                Ok(("software", "software: /dev/video0: too small")),
            ),
            (1, &[bad], Hardware, Err("/dev/video0: too small")),
            (
                2,
                &[bad],
                Hardware,
                Ok(("hardware", "hardware: chip on /dev/video1, without level")),
            ),
        ] {
            let got = chosen(&fake(nodes, opens), choice);
            let got = got.as_ref().map(|(name, said)| (*name, said.as_str()));
            assert_eq!(got.map_err(String::as_str), expected, "{nodes} {choice:?}");
        }
    }

    /// Codes a picture `after` the start: who coded it and whether it is a key frame.
    fn code(
        chosen: &mut Chosen,
        start: Instant,
        after: Duration,
    ) -> Result<(String, bool), EncodeError> {
        let (y, c) = ([0; 256], [0; 64]);
        let planes = [Plane::new(&y, 16), Plane::new(&c, 8), Plane::new(&c, 8)];
        let picture = Picture::new((16, 16), planes, 7, start + after)?;
        match chosen.encode(&picture)? {
            Coded::Unit(unit) => {
                assert_eq!(unit.ticks, 7);
                Ok((
                    String::from_utf8_lossy(&unit.data).into_owned(),
                    unit.is_key_frame,
                ))
            }
            Coded::Skipped | Coded::Pending => panic!("a unit"),
        }
    }

    fn gone() -> EncodeError {
        EncodeError::Hardware {
            node: "/dev/video0".to_owned(),
            doing: "queue a picture",
            source: nix::errno::Errno::ENODEV,
        }
    }

    #[test]
    fn a_picture_that_hardware_drops_is_coded_by_software_as_a_key_frame() {
        let fake = fake(1, &[]);
        let mut chosen =
            Chosen::open(Box::new(fake.clone()), &SETTINGS, EncoderChoice::Auto).unwrap();
        chosen.set_bitrate(300_000).unwrap();
        chosen.set_frame_rate(15).unwrap();
        fake.0
            .lock()
            .unwrap()
            .pictures
            .extend([Ok(()), Err(gone())]);
        let start = Instant::now();
        let mut next = |after| code(&mut chosen, start, after).unwrap();
        assert_eq!(next(Duration::ZERO), ("hardware".to_owned(), false));
        assert_eq!(
            next(Duration::from_millis(33)),
            ("software".to_owned(), true)
        );
        assert_eq!(
            next(Duration::from_millis(66)),
            ("software".to_owned(), false)
        );
        let orders = fake.0.lock().unwrap().orders.clone();
        assert_eq!(orders[2..], ["software 300000 bit/s", "software 15 fps"]);
        chosen.poll_news();
        let fault = "/dev/video0: queue a picture: ENODEV: No such device".to_owned();
        assert_eq!(chosen.poll_news(), Some(News::Fault(fault)));
        let Some(News::Chosen(said)) = chosen.poll_news() else {
            panic!("it says what codes now");
        };
        assert!(said.ends_with("tried again after 5 min"), "{said}");
    }

    #[test]
    fn hardware_that_failed_is_tried_again_after_a_while_and_after_longer_ones() {
        let fake = fake(1, &[Ok(()), Err("still hot"), Ok(())]);
        let mut chosen =
            Chosen::open(Box::new(fake.clone()), &SETTINGS, EncoderChoice::Auto).unwrap();
        fake.0.lock().unwrap().pictures.push_back(Err(gone()));
        let start = Instant::now();
        let mut coder = |minutes: u64| {
            let after = Duration::from_secs(60 * minutes);
            code(&mut chosen, start, after).unwrap()
        };
        assert_eq!(coder(0).0, "software");
        assert_eq!(coder(4).0, "software");
        assert_eq!(coder(5).0, "software", "tried, still hot");
        assert_eq!(coder(14).0, "software");
        assert_eq!(fake.0.lock().unwrap().opens.len(), 1, "not tried meanwhile");
        assert_eq!(coder(15), ("hardware".to_owned(), true));
        assert_eq!(coder(16), ("hardware".to_owned(), false));
    }

    #[test]
    fn a_single_damaged_picture_does_not_cost_the_hardware() {
        let fake = fake(1, &[]);
        let mut chosen =
            Chosen::open(Box::new(fake.clone()), &SETTINGS, EncoderChoice::Auto).unwrap();
        let damaged = |in_a_row| {
            Err(EncodeError::Damaged {
                node: "/dev/video0".to_owned(),
                in_a_row,
            })
        };
        let plan = [damaged(1), damaged(2), Ok(()), damaged(3)];
        fake.0.lock().unwrap().pictures.extend(plan);
        let start = Instant::now();
        let mut next = || code(&mut chosen, start, Duration::ZERO).map(|unit| unit.0);
        assert!(next().is_err());
        assert!(next().is_err());
        assert_eq!(next().unwrap(), "hardware");
        assert_eq!(next().unwrap(), "software");
    }
}
