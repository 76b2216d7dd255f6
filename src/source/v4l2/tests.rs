//! Keeper and capture loop against a camera that does as it is told.
#![allow(clippy::wildcard_enum_match_arm, clippy::or_fun_call)] // scripts pick what they look for

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;

use self::encoder::FakeEncoder;
use super::device::{Agreed, Camera, Opened, Opener};
use super::keeper::Limits;
use super::mode::Coding;
use super::shared::Shared;
use super::start_with;
use super::sys::{Dequeued, Ready};
use crate::config::{self, DeviceName, EncoderChoice, Source};
use crate::media::pixel::{Colour, PixelFormat};
use crate::media::{AccessUnit, CameraId, Demand, DownReason, ErrorKind, SourceEvent};
use crate::source::encode::{Coded, EncodeError, Encoder, News, Picture, Settings, Unit};
use crate::source::rtsp::verdict::{End, Pace};
use crate::source::{Events, SourceHandle};

/// What the camera does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A good picture with this number and its brightness; each is 40 ms after the one before.
    Picture(u32),
    Damaged,
    /// Half a picture, and no word of it from the driver.
    Short,
    Fails(Errno),
    Panics,
    /// Until `World::release`.
    Hangs,
    /// Nothing until `World::release`, as a camera between two pictures.
    Rests,
    /// What it captures from has changed.
    Changes,
}

/// The camera, its cable and its script.
#[derive(Default)]
struct World {
    /// For each opening in turn; past its end pictures come for ever.
    scripts: Mutex<VecDeque<Vec<Step>>>,
    /// After a script: nothing.
    is_silent: AtomicBool,
    is_away: AtomicBool,
    /// Whoever opens it first has it for himself.
    is_exclusive: AtomicBool,
    /// Its input has no signal.
    lacks_signal: AtomicBool,
    release: AtomicBool,
    /// A script is at `Step::Hangs` or `Step::Rests`.
    waits: AtomicBool,
    open: AtomicI32,
    most_open: AtomicI32,
    opened: AtomicU32,
    refused_pictures: AtomicU32,
    /// The hardware fails with the next picture, and software takes over.
    falls: AtomicBool,
    /// The encoder answers a picture later.
    is_pipelined: AtomicBool,
    key_frames_asked: AtomicU32,
    /// The camera codes.
    is_coding: AtomicBool,
    bitrate: AtomicU32,
    /// Time and brightness of each picture.
    coded: Mutex<Vec<(i64, u8)>>,
}

/// What a picture looks like, so that it is known again once it was coded; within the limits of
/// video levels, where grey is taken as it is.
fn brightness(number: u32) -> u8 {
    16 + (number % 200) as u8
}

struct Fake(Arc<World>);

impl Opener for Fake {
    fn open(&self, _: &config::V4l2, _: &Shared) -> Result<Opened, End> {
        if self.0.is_away.load(SeqCst) {
            return Err(End {
                reason: DownReason::Unreachable,
                detail: "not plugged in".to_owned(),
                pace: Pace::Probe,
            });
        }
        if self.0.is_exclusive.load(SeqCst) && self.0.open.load(SeqCst) > 0 {
            return Err(End {
                reason: DownReason::Unreachable,
                detail: "/dev/fake is in use by another program".to_owned(),
                pace: Pace::Held,
            });
        }
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.most_open.fetch_max(open, SeqCst);
        self.0.opened.fetch_add(1, SeqCst);
        let script = self.0.scripts.lock().unwrap().pop_front();
        Ok(Opened {
            camera: Box::new(FakeCamera {
                world: Arc::clone(&self.0),
                script: script.unwrap_or_default().into(),
                number: 0,
                stamp: Duration::from_secs(1000),
                picture: Vec::new(),
                wants_key_frame: true,
            }),
            agreed: Agreed {
                coding: match self.0.is_coding.load(SeqCst) {
                    true => Coding::H264,
                    false => Coding::Raw(PixelFormat::Grey),
                },
                size: (16, 16),
                strides: vec![16],
                colour: Colour::of_stream(16),
                fps: 25.0,
                is_limited: false,
            },
            notes: Vec::new(),
        })
    }

    fn is_there(&self, _: &DeviceName) -> bool {
        !self.0.is_away.load(SeqCst)
    }
}

struct FakeCamera {
    world: Arc<World>,
    script: VecDeque<Step>,
    number: u32,
    stamp: Duration,
    picture: Vec<u8>,
    wants_key_frame: bool,
}

impl Drop for FakeCamera {
    fn drop(&mut self) {
        self.world.open.fetch_sub(1, SeqCst);
    }
}

impl Camera for FakeCamera {
    fn wait(&mut self, _: Duration) -> nix::Result<Ready> {
        let mut ready = Ready::default();
        match self.script.front() {
            Some(Step::Panics) => panic!("a driver's oddity: secret data"),
            Some(step @ (Step::Hangs | Step::Rests)) => {
                self.world.waits.store(true, SeqCst);
                // A driver that hangs: no condition that a test could wait for as it would.
                while !self.world.release.load(SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
                ready.read = matches!(step, Step::Rests);
                self.script.pop_front();
            }
            Some(Step::Changes) => ready.event = true,
            Some(_) => ready.read = true,
            None => {
                // A real camera takes its time; one that does not would fill the channel.
                thread::sleep(Duration::from_millis(1));
                ready.read = !self.world.is_silent.load(SeqCst);
            }
        }
        Ok(ready)
    }

    fn take(&mut self) -> nix::Result<Dequeued> {
        let step = self.script.pop_front();
        let step = step.unwrap_or(Step::Picture(self.number.wrapping_add(1)));
        self.stamp += Duration::from_millis(40);
        let mut flags = 0x2000; // monotonic
        match step {
            Step::Picture(number) => {
                self.number = number;
                self.picture = match self.world.is_coding.load(SeqCst) {
                    true => passed::coded(std::mem::take(&mut self.wants_key_frame)),
                    false => vec![brightness(number); 256],
                };
            }
            Step::Damaged => flags |= 0x40,
            Step::Short => self.picture = vec![0; 100],
            Step::Fails(errno) => return Err(errno),
            Step::Panics | Step::Hangs | Step::Rests | Step::Changes => {
                unreachable!("seen by wait")
            }
        }
        Ok(Dequeued {
            index: 0,
            flags,
            sequence: self.number,
            timestamp: self.stamp,
            planes: vec![(0, self.picture.len())],
        })
    }

    fn has_more(&self) -> bool {
        matches!(self.script.front(), Some(Step::Picture(_)))
    }

    fn planes(&self) -> Vec<&[u8]> {
        vec![&self.picture]
    }

    fn force_key_frame(&mut self) -> nix::Result<()> {
        self.world.key_frames_asked.fetch_add(1, SeqCst);
        self.wants_key_frame = true;
        Ok(())
    }

    fn can_force_key_frame(&self) -> bool {
        self.world.is_coding.load(SeqCst)
    }

    fn take_change(&mut self) -> Option<String> {
        self.script.pop_front();
        Some("1280x720p60".to_owned())
    }

    fn missing(&self) -> Option<String> {
        let lacks = self.world.lacks_signal.load(SeqCst);
        lacks.then(|| "no signal at the input \"HDMI\"".to_owned())
    }
}

struct Bench {
    world: Arc<World>,
    handle: SourceHandle,
    events: Events,
}

impl Bench {
    fn new(scripts: &[&[Step]]) -> Self {
        // Threads that hang are counted for the whole process: those of a busy machine must not.
        let limits = Limits {
            hang_after: Duration::from_secs(5),
            brake_grace: Duration::from_millis(50),
            ..Limits::default()
        };
        Self::within(limits, scripts)
    }

    fn within(limits: Limits, scripts: &[&[Step]]) -> Self {
        let world = Arc::new(World::default());
        *world.scripts.lock().unwrap() = scripts.iter().map(|script| script.to_vec()).collect();
        let wish = config::V4l2::new(DeviceName::new("fake"));
        let mut camera = config::Camera::new("fake", Source::V4l2(wish.clone()));
        camera.stall = Duration::from_millis(200);
        let (sender, events) = mpsc::channel(16);
        let seen = Arc::clone(&world);
        let encoder = Arc::new(move |_: &Settings, _: EncoderChoice| {
            Ok(Box::new(FakeEncoder {
                world: Arc::clone(&seen),
                wants_key_frame: true,
                kept: None,
            }) as Box<dyn Encoder>)
        });
        let opener = Arc::new(Fake(Arc::clone(&world)));
        let handle = start_with(
            (CameraId(0), &camera, &wish),
            sender,
            opener,
            encoder,
            limits,
        );
        Self {
            world,
            handle,
            events,
        }
    }

    fn open(scripts: &[&[Step]]) -> Self {
        let bench = Self::new(scripts);
        bench.handle.demand(Demand::Open);
        bench
    }

    async fn next(&mut self) -> SourceEvent {
        let next = timeout(Duration::from_secs(20), self.events.recv()).await;
        next.expect("something is said")
            .expect("the source lives")
            .1
    }

    /// The first event that `pick` wants.
    async fn until<T>(&mut self, mut pick: impl FnMut(&SourceEvent) -> Option<T>) -> T {
        loop {
            if let Some(hit) = pick(&self.next().await) {
                return hit;
            }
        }
    }

    async fn unit(&mut self) -> AccessUnit {
        self.until(|event| match event {
            SourceEvent::Unit(unit) => Some(unit.clone()),
            _ => None,
        })
        .await
    }

    async fn down(&mut self) -> (DownReason, String) {
        self.until(|event| match event {
            SourceEvent::Down { reason, detail, .. } => Some((*reason, detail.clone())),
            _ => None,
        })
        .await
    }

    async fn opening(&mut self) {
        self.until(|event| matches!(event, SourceEvent::Opening).then_some(()))
            .await;
    }

    async fn closed(&mut self) {
        self.handle.demand(Demand::Close);
        self.until(|event| matches!(event, SourceEvent::Closed).then_some(()))
            .await;
        self.handle.closed().await;
    }
}

#[tokio::test]
async fn a_camera_opens_plays_in_its_own_time_and_is_really_closed() {
    let mut bench = Bench::open(&[]);
    assert!(matches!(bench.next().await, SourceEvent::Opening));
    let SourceEvent::Playing(abilities) = bench.next().await else {
        panic!("not playing");
    };
    assert!(abilities.can_force_key_frame && abilities.can_change_rate);
    let (first, second) = (bench.unit().await, bench.unit().await);
    assert!(first.is_key_frame && !first.after_loss);
    assert!(second.ticks > first.ticks && (second.ticks - first.ticks) % 3600 == 0);
    bench.handle.demand(Demand::KeyFrame);
    bench
        .until(|event| matches!(event, SourceEvent::Unit(unit) if unit.is_key_frame).then_some(()))
        .await;
    bench.closed().await;
    assert_eq!(bench.world.open.load(SeqCst), 0);
}

#[tokio::test]
async fn an_order_that_comes_while_a_picture_is_waited_for_makes_that_very_picture_a_key_frame() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Rests, Step::Picture(2)]]);
    assert!(bench.unit().await.is_key_frame, "the first of a run");
    while !bench.world.waits.load(SeqCst) {
        yield_now().await;
    }
    bench.handle.demand(Demand::KeyFrame);
    bench.handle.demand(Demand::Bitrate(300_000));
    // The keeper's turn.
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(bench.world.bitrate.load(SeqCst), 0, "not seen before");
    bench.world.release.store(true, SeqCst);
    assert!(bench.unit().await.is_key_frame);
    assert_eq!(bench.world.bitrate.load(SeqCst), 300_000);
    assert!(!bench.unit().await.is_key_frame);
}

#[tokio::test]
async fn nine_damaged_pictures_in_a_row_are_tolerated_and_ten_reopen_the_camera() {
    let nine = [
        vec![Step::Damaged; 9],
        vec![Step::Picture(20)],
        vec![Step::Damaged; 9],
    ]
    .concat();
    let ten = vec![Step::Damaged; 10];
    let mut bench = Bench::open(&[&nine, &ten]);
    for row in 0..2 {
        for n in 1..=9 {
            let got = bench
                .until(|event| match event {
                    SourceEvent::Error { kind, in_a_row, .. } => Some((*kind, *in_a_row)),
                    SourceEvent::Down { .. } => panic!("tolerated"),
                    _ => None,
                })
                .await;
            assert_eq!(got, (ErrorKind::Device, n), "row {row}");
        }
        bench.unit().await;
    }
    // A new run.
    bench.closed().await;
    bench.handle.demand(Demand::Open);
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Errors);
    assert!(detail.starts_with("10 errors in a row"), "{detail}");
    bench.opening().await;
    bench.unit().await;
}

#[tokio::test]
async fn half_a_picture_is_an_error_and_the_picture_goes_on_without_a_key_frame() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Short, Step::Short]]);
    bench.unit().await;
    for n in 1..=2 {
        bench
            .until(|event| match event {
                SourceEvent::Error { kind, in_a_row, .. } => {
                    assert_eq!((*kind, *in_a_row), (ErrorKind::Picture, n));
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    let after = bench.unit().await;
    assert!(!after.is_key_frame && !after.after_loss);
}

#[tokio::test]
async fn a_picture_that_the_encoder_spoilt_is_followed_by_a_key_frame() {
    let mut bench = Bench::new(&[]);
    bench.world.refused_pictures.store(3, SeqCst);
    bench.handle.demand(Demand::Open);
    bench
        .until(|event| match event {
            SourceEvent::Error {
                kind, in_a_row: 3, ..
            } => (*kind == ErrorKind::Encode).then_some(()),
            _ => None,
        })
        .await;
    let after = bench.unit().await;
    assert!(after.is_key_frame && after.after_loss);
}

#[tokio::test]
async fn hardware_that_fails_is_told_as_a_fall_back_and_the_picture_goes_on() {
    let mut bench = Bench::open(&[]);
    bench.unit().await;
    bench.world.falls.store(true, SeqCst);
    let kind = bench
        .until(|event| match event {
            SourceEvent::Error { kind, .. } => Some(*kind),
            _ => None,
        })
        .await;
    assert_eq!(kind, ErrorKind::Fallback);
    bench.unit().await;
}

#[tokio::test]
async fn pictures_that_the_driver_left_out_are_counted_and_are_no_error_of_a_row() {
    // Three are missing before each of 20 whole ones: more than twice what is tolerated.
    let gaps = (0..20).map(|n| Step::Picture(n * 4 + 1));
    let script: Vec<_> = gaps.chain([Step::Fails(Errno::EIO)]).collect();
    let mut bench = Bench::open(&[&script]);
    let mut lost = 0;
    let reason = bench
        .until(|event| match event {
            SourceEvent::LeftOut(pictures) => {
                lost += pictures.lost;
                None
            }
            SourceEvent::Down { reason, detail, .. } => {
                assert!(detail.contains("EIO"), "{detail}");
                Some(*reason)
            }
            SourceEvent::Error { .. } => panic!("nothing was wrong with those that came"),
            _ => None,
        })
        .await;
    assert_eq!((reason, lost), (DownReason::Errors, 19 * 3));
}

#[tokio::test]
async fn of_pictures_that_wait_the_newest_is_coded() {
    let waiting: Vec<_> = (1..=5).map(Step::Picture).collect();
    let mut bench = Bench::open(&[&waiting]);
    bench.world.is_silent.store(true, SeqCst);
    bench.unit().await;
    // The first of a run counts from zero, whichever it was.
    assert_eq!(*bench.world.coded.lock().unwrap(), [(0, brightness(5))]);
    assert_eq!(bench.down().await.0, DownReason::Stalled);
}

#[tokio::test]
async fn a_panic_costs_one_restart_and_is_told_without_its_data() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Panics]]);
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Internal);
    assert!(detail.contains("panicked: a driver's oddity"), "{detail}");
    assert!(!detail.contains("secret"), "{detail}");
    bench.opening().await;
    bench.unit().await;
    bench.closed().await;
    assert_eq!(bench.world.open.load(SeqCst), 0);
}

#[tokio::test]
async fn a_thousand_random_opens_and_closes_leave_one_camera_or_none() {
    let mut bench = Bench::new(&[]);
    let mut random = 0x2545_F491_u32;
    let mut wanted = false;
    for _ in 0..1000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        wanted = random & 0x8000_0000 == 0;
        bench
            .handle
            .demand(if wanted { Demand::Open } else { Demand::Close });
        // Some at once, some after a while.
        for _ in 0..(random >> 8) % 6 {
            while bench.events.try_recv().is_ok() {}
            yield_now().await;
        }
        if random.is_multiple_of(16) {
            let _ = timeout(Duration::from_millis(3), bench.events.recv()).await;
        }
        let open = bench.world.open.load(SeqCst);
        assert!((0..=1).contains(&open), "{open} open");
    }
    if wanted {
        bench.unit().await;
    }
    bench.handle.demand(Demand::Close);
    // Until it has followed every demand and has nothing more to say.
    let quiet = Duration::from_millis(500);
    while timeout(quiet, bench.events.recv()).await.is_ok() {}
    let until = Instant::now() + Duration::from_secs(20);
    while bench.world.open.load(SeqCst) > 0 {
        assert!(Instant::now() < until, "it stays open");
        tokio::time::sleep(Duration::from_millis(5)).await; // it has nothing more to tell
    }
    assert_eq!(bench.world.most_open.load(SeqCst), 1);
    assert!(bench.world.opened.load(SeqCst) > 20);
}

#[tokio::test]
async fn a_loop_that_is_gone_ends_the_thread() {
    let Bench {
        world,
        handle,
        mut events,
    } = Bench::open(&[]);
    events.recv().await.expect("opening");
    drop(events);
    let until = Instant::now() + Duration::from_secs(5);
    while world.opened.load(SeqCst) > 0 && world.open.load(SeqCst) > 0 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await; // nobody is left to tell
    }
    drop(handle);
}

mod away;
mod encoder;
mod hangs;
mod passed;
