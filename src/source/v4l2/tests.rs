//! Keeper and capture loop against a camera that does as it is told.
#![allow(clippy::wildcard_enum_match_arm, clippy::or_fun_call)] // scripts pick what they look for

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::abandoned;
use super::device::{Agreed, Camera, Opened, Opener};
use super::keeper::Limits;
use super::mode::Coding;
use super::shared::Shared;
use super::start_with;
use super::sys::{Dequeued, Ready};
use crate::config::{self, DeviceName, EncoderChoice, Source};
use crate::media::pixel::{Colour, PixelFormat};
use crate::media::{AccessUnit, CameraId, Demand, DownReason, ErrorKind, SourceEvent};
use crate::source::encode::{Coded, EncodeError, Encoder, Picture, Settings, Unit};
use crate::source::rtsp::verdict::{End, Pace};
use crate::source::{Events, SourceHandle};

/// What the camera does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A good picture with this number; each is 40 ms after the one before.
    Picture(u32),
    Damaged,
    /// Half a picture, and no word of it from the driver.
    Short,
    Fails(Errno),
    Panics,
    /// Until `World::release`.
    Hangs,
}

/// The camera, its cable and its script.
#[derive(Default)]
struct World {
    /// For each opening in turn; past its end pictures come for ever.
    scripts: Mutex<VecDeque<Vec<Step>>>,
    /// After a script: nothing.
    is_silent: AtomicBool,
    is_away: AtomicBool,
    lacks_signal: AtomicBool,
    release: AtomicBool,
    open: AtomicI32,
    most_open: AtomicI32,
    opened: AtomicU32,
    refused_pictures: AtomicU32,
    /// The encoder answers a picture later.
    is_pipelined: AtomicBool,
    key_frames_asked: AtomicU32,
    coded: Mutex<Vec<i64>>,
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
            }),
            agreed: Agreed {
                coding: Coding::Raw(PixelFormat::Grey),
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
            Some(Step::Hangs) => {
                while !self.world.release.load(SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
                self.script.pop_front();
            }
            Some(_) => ready.read = true,
            None => {
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
        self.picture = vec![128; 256];
        let mut flags = 0x2000; // monotonic
        match step {
            Step::Picture(number) => self.number = number,
            Step::Damaged => flags |= 0x40,
            Step::Short => self.picture.truncate(100),
            Step::Fails(errno) => return Err(errno),
            Step::Panics | Step::Hangs => unreachable!("seen by wait"),
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
        Ok(())
    }

    fn can_force_key_frame(&self) -> bool {
        false
    }

    fn missing(&self) -> Option<String> {
        let lacks = self.world.lacks_signal.load(SeqCst);
        lacks.then(|| "no signal at the input \"HDMI\"".to_owned())
    }
}

struct FakeEncoder {
    world: Arc<World>,
    wants_key_frame: bool,
    kept: Option<Unit>,
}

impl Encoder for FakeEncoder {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        let left = &self.world.refused_pictures;
        if left
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return Err(EncodeError::Bitrate(0));
        }
        self.world.coded.lock().unwrap().push(picture.ticks);
        let unit = Unit {
            data: vec![0, 0, 1, 0x65].into(),
            is_key_frame: std::mem::take(&mut self.wants_key_frame),
            ticks: picture.ticks,
            taken: picture.taken,
        };
        if self.world.is_pipelined.load(SeqCst) {
            let earlier = self.kept.replace(unit);
            return Ok(earlier.map_or(Coded::Pending, Coded::Unit));
        }
        Ok(Coded::Unit(unit))
    }

    fn drain(&mut self) -> Result<Vec<Unit>, EncodeError> {
        Ok(self.kept.take().into_iter().collect())
    }

    fn force_key_frame(&mut self) {
        self.wants_key_frame = true;
        self.world.key_frames_asked.fetch_add(1, SeqCst);
    }

    fn set_bitrate(&mut self, _: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn set_frame_rate(&mut self, _: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "fake"
    }
}

struct Bench {
    world: Arc<World>,
    handle: SourceHandle,
    events: Events,
}

impl Bench {
    fn new(scripts: &[&[Step]]) -> Self {
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
        let limits = Limits {
            hang_after: Duration::from_millis(500),
            brake_grace: Duration::from_millis(50),
        };
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
async fn a_camera_that_goes_silent_is_down_and_opened_again() {
    let mut bench = Bench::open(&[&[Step::Picture(1)]]);
    bench.world.is_silent.store(true, SeqCst);
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Stalled);
    assert!(detail.starts_with("no picture for"), "{detail}");
    bench.world.is_silent.store(false, SeqCst);
    bench.opening().await;
    bench.unit().await;
    assert_eq!(bench.world.most_open.load(SeqCst), 1);
}

#[tokio::test]
async fn noise_of_a_grabber_without_a_signal_is_no_picture() {
    let mut bench = Bench::open(&[]);
    bench.unit().await;
    bench.world.lacks_signal.store(true, SeqCst);
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::NoSignal);
    assert_eq!(detail, "no signal at the input \"HDMI\"");
}

#[tokio::test]
async fn what_the_encoder_had_when_the_camera_was_pulled_is_handed_on_before_that_is_told() {
    let script = [Step::Picture(1), Step::Fails(Errno::ENODEV)];
    let mut bench = Bench::new(&[&script]);
    bench.world.is_pipelined.store(true, SeqCst);
    bench.handle.demand(Demand::Open);
    let unit = bench
        .until(|event| match event {
            SourceEvent::Unit(unit) => Some(unit.clone()),
            SourceEvent::Down { .. } => panic!("the only picture is lost"),
            _ => None,
        })
        .await;
    assert_eq!(*bench.world.coded.lock().unwrap(), [unit.ticks]);
    assert_eq!(bench.down().await.0, DownReason::Unreachable);
}

#[tokio::test]
async fn a_camera_plugged_in_again_plays_within_two_seconds() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Fails(Errno::ENODEV)]]);
    bench.world.is_away.store(true, SeqCst);
    // Opened before it was pulled or not: it is told either way.
    let (reason, _) = bench.down().await;
    assert_eq!(reason, DownReason::Unreachable);
    // Long enough for the waits between attempts to grow.
    for _ in 0..3 {
        assert_eq!(bench.down().await.0, DownReason::Unreachable);
    }
    bench.world.is_away.store(false, SeqCst);
    let back = Instant::now();
    bench.unit().await;
    assert!(
        back.elapsed() < Duration::from_secs(2),
        "{:?}",
        back.elapsed()
    );
}

#[tokio::test]
async fn a_buffer_that_cannot_be_given_back_is_tolerated_and_a_dead_queue_is_not() {
    let script = [
        Step::Picture(1),
        Step::Fails(Errno::EINVAL),
        Step::Picture(2),
        Step::Fails(Errno::EIO),
    ];
    let mut bench = Bench::open(&[&script]);
    bench
        .until(|event| match event {
            SourceEvent::Error { kind, .. } => (*kind == ErrorKind::Device).then_some(()),
            _ => None,
        })
        .await;
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Errors);
    assert!(detail.contains("EIO"), "{detail}");
    bench.unit().await;
}

#[tokio::test]
async fn of_pictures_that_wait_the_newest_is_coded() {
    let waiting: Vec<_> = (1..=5).map(Step::Picture).collect();
    let mut bench = Bench::open(&[&waiting]);
    bench.world.is_silent.store(true, SeqCst);
    bench.unit().await;
    // The first of a run counts from zero, whichever it was: it is the only one.
    assert_eq!(*bench.world.coded.lock().unwrap(), [0]);
    assert_eq!(bench.down().await.0, DownReason::Stalled);
}

#[tokio::test]
async fn a_panic_costs_one_restart_and_is_told_without_its_data() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Panics]]);
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Internal);
    assert!(detail.contains("panicked"), "{detail}");
    bench.opening().await;
    bench.unit().await;
    bench.closed().await;
    assert_eq!(bench.world.open.load(SeqCst), 0);
}

#[tokio::test]
async fn a_thread_that_hangs_is_replaced_and_heard_no_more() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Hangs, Step::Picture(2)]]);
    bench.unit().await;
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Stalled);
    assert!(detail.starts_with("the driver hangs"), "{detail}");
    bench.opening().await;
    bench.unit().await;
    assert_eq!(abandoned::count(), 1);
    let before = bench.world.coded.lock().unwrap().len();
    assert!(before > 0);
    bench.world.release.store(true, SeqCst);
    let until = Instant::now() + Duration::from_secs(5);
    while abandoned::count() > 0 {
        assert!(Instant::now() < until, "it ended and was not taken back");
        bench.unit().await; // the new one plays on
    }
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
            tokio::task::yield_now().await;
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
    assert_eq!(bench.world.open.load(SeqCst), 0);
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
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(handle);
}
