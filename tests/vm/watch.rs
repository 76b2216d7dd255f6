//! A camera's source under watch: what it said, when, and the pictures in it.
//!
//! In: lines of TOML for one camera. Out: events with their times, decoded pictures.
//! Not here: faults (machine), judgement (the cases).

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use pinhole::config::{Camera, Config};
use pinhole::media::{AccessUnit, CameraId, Demand, DownReason, LeftOut, SourceEvent};
use pinhole::source::{self, Events, SourceHandle};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::picture::Picture;

/// No wait is longer: generous, the machine is emulated and shares its processors.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A camera with the source and keys of `lines`.
pub fn camera(lines: &str) -> Camera {
    let text = format!("[[camera]]\nname = \"test\"\n{lines}\n");
    let no_files = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    match Config::parse(&text, "test.toml", &no_files) {
        Ok(config) => config.cameras[0].clone(),
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// The source runs on a runtime of its own, which turns only while somebody waits here, as the
/// loop's does.
pub struct Watch {
    runtime: Runtime,
    handle: SourceHandle,
    events: Events,
    decoder: Decoder,
    /// Everything said, in words; units as `K` and `.`
    log: String,
    pub units: u64,
    pub errors: u32,
    pub downs: u32,
    pub left_out: LeftOut,
}

impl Watch {
    /// Starts the camera of these lines and opens it.
    pub fn open(lines: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (sender, events) = mpsc::channel(256);
        let camera = camera(lines);
        let handle = runtime.block_on(async { source::start(CameraId(7), &camera, sender) });
        handle.demand(Demand::Open);
        Self {
            runtime,
            handle,
            events,
            decoder: Decoder::new().unwrap(),
            log: String::new(),
            units: 0,
            errors: 0,
            downs: 0,
            left_out: LeftOut::default(),
        }
    }

    pub fn demand(&self, demand: Demand) {
        self.handle.demand(demand);
    }

    /// What happens within `limit`, if something does.
    pub fn next_within(&mut self, limit: Duration) -> Option<SourceEvent> {
        let events = &mut self.events;
        let next = self
            .runtime
            .block_on(async { timeout(limit, events.recv()).await });
        let (_, event) = next.ok()?.expect("the source lives");
        match &event {
            SourceEvent::Unit(unit) => {
                self.units += 1;
                self.log.push(if unit.is_key_frame { 'K' } else { '.' });
            }
            SourceEvent::Error { .. } => self.errors += 1,
            SourceEvent::Down { .. } => self.downs += 1,
            SourceEvent::LeftOut(some) => self.left_out.add(*some),
            _ => {}
        }
        if !matches!(event, SourceEvent::Unit(_)) {
            let _ = write!(self.log, " {event:?} ");
        }
        Some(event)
    }

    /// The first event that `wanted` makes something of.
    pub fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(SourceEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(event) = self.next_within(left) else {
                panic!("no {what} within {LIMIT:?}; it said: {}", self.tail());
            };
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    /// All that was said, for judging.
    pub fn said(&self) -> &str {
        &self.log
    }

    /// The end of it, for a person.
    pub fn tail(&self) -> &str {
        let from = self.log.len().saturating_sub(1500);
        let from = (from..self.log.len()).find(|at| self.log.is_char_boundary(*at));
        from.map_or("nothing", |from| &self.log[from..])
    }

    pub fn unit(&mut self) -> AccessUnit {
        self.until("picture", |event| match event {
            SourceEvent::Unit(unit) => Some(unit),
            _ => None,
        })
    }

    pub fn key_frame(&mut self) -> AccessUnit {
        self.until("key frame", |event| match event {
            SourceEvent::Unit(unit) if unit.is_key_frame => Some(unit),
            _ => None,
        })
    }

    pub fn down(&mut self) -> (DownReason, String) {
        self.until("Down", |event| match event {
            SourceEvent::Down { reason, detail, .. } => Some((reason, detail)),
            _ => None,
        })
    }

    /// The sum of what is said within `span`: (units, errors, downs).
    pub fn during(&mut self, span: Duration) -> (u64, u32, u32) {
        let (units, errors, downs) = (self.units, self.errors, self.downs);
        let until = Instant::now() + span;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.next_within(left).is_none() {
                break;
            }
        }
        (self.units - units, self.errors - errors, self.downs - downs)
    }

    /// Takes all that was said up to now. (It ends in a pause: no camera here sends a hundred
    /// pictures a second.)
    pub fn drain(&mut self) {
        while self.next_within(Duration::from_millis(10)).is_some() {}
    }

    /// Decodes one unit.
    pub fn decode(&mut self, unit: &AccessUnit) -> Option<Picture> {
        let decoded = self
            .decoder
            .decode(&unit.data)
            .expect("what was coded decodes")?;
        let (width, height) = decoded.dimensions();
        let (y, c, _) = decoded.strides();
        let planes = [decoded.y(), decoded.u(), decoded.v()];
        Some(Picture::from_planes(width, height, planes, [y, c, c]))
    }

    /// The decoded picture of the `n`th unit from the next key frame on (rate control needs a
    /// few pictures to spend its bits on a still scene).
    pub fn picture_after(&mut self, n: usize) -> Picture {
        self.demand(Demand::KeyFrame);
        let mut unit = self.key_frame();
        let mut shown = None;
        for _ in 0..=n {
            shown = self.decode(&unit).or(shown);
            unit = self.unit();
        }
        shown.expect("a picture was decoded")
    }

    /// Runs `inject`, waits for the camera to go down, runs `heal`, and tells how long it took
    /// from the fault to Down and from the healing to the next key frame.
    pub fn ride_out(&mut self, inject: impl FnOnce(), heal: impl FnOnce()) -> Ride {
        let fault = Instant::now();
        inject();
        let (reason, detail) = self.down();
        let told = fault.elapsed();
        heal();
        let healed = Instant::now();
        self.key_frame();
        Ride {
            reason,
            detail,
            told,
            back: healed.elapsed(),
        }
    }

    /// Closes the camera, and tells how long that took.
    pub fn close(mut self) -> Duration {
        let start = Instant::now();
        self.demand(Demand::Close);
        self.until("Closed", |event| {
            matches!(event, SourceEvent::Closed).then_some(())
        });
        start.elapsed()
    }
}

/// How a camera went down and came back.
#[derive(Debug)]
pub struct Ride {
    pub reason: DownReason,
    pub detail: String,
    pub told: Duration,
    pub back: Duration,
}

impl Ride {
    pub fn words(&self) -> String {
        format!(
            "{} told after {:.2} s, picture back {:.2} s later",
            self.reason.as_str(),
            self.told.as_secs_f32(),
            self.back.as_secs_f32()
        )
    }

    /// The picture must be back so soon; three times the budget, the machine is emulated.
    pub fn within(self, budget: Duration) -> Self {
        assert!(
            self.back <= budget * 3,
            "{} ({}), budget {budget:?}",
            self.words(),
            self.detail
        );
        self
    }
}
