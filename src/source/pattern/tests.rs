//! The thread's life against an encoder that does as it is told.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::run::{Maker, Run, follow_step, open, step};
use super::*;
use crate::media::h264::{SpsFacts, nal_units};
use crate::media::{AccessUnit, DownReason, ErrorKind};
use crate::source::encode::overload::Step;
use crate::source::encode::{Coded, Picture, Unit};
use crate::source::worker::Worker;

type Act = Box<dyn FnMut(u32) -> Result<(), EncodeError> + Send>;

/// Makes units out of nothing; before each, calls `act` with the number of the call.
struct Fake {
    seen: Arc<Seen>,
    act: Act,
    wants_key_frame: bool,
}

#[derive(Default)]
struct Seen {
    opened: AtomicU32,
    encoded: AtomicU32,
    forced: AtomicU32,
    bitrate: AtomicU32,
    alive: AtomicBool,
}

impl Encoder for Fake {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        let call = self.seen.encoded.fetch_add(1, SeqCst);
        (self.act)(call)?;
        Ok(Coded::Unit(Unit {
            data: Bytes::from_static(&[0, 0, 0, 1, 0x65]),
            is_key_frame: std::mem::take(&mut self.wants_key_frame),
            ticks: picture.ticks,
            taken: picture.taken,
        }))
    }

    fn force_key_frame(&mut self) {
        self.wants_key_frame = true;
        self.seen.forced.fetch_add(1, SeqCst);
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        self.seen.bitrate.store(bps, SeqCst);
        Ok(())
    }

    fn set_frame_rate(&mut self, _fps: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "fake"
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.seen.alive.store(false, SeqCst);
    }
}

/// A running source, seen from the loop.
struct Bench {
    demands: mpsc::UnboundedSender<Demand>,
    events: mpsc::Receiver<(CameraId, SourceEvent)>,
    seen: Arc<Seen>,
}

impl Bench {
    /// `act` is made anew for each run.
    fn new(places: usize, act: impl Fn() -> Act + Send + 'static) -> Self {
        Self::tolerating(10, places, act)
    }

    fn tolerating(max_errors: u32, places: usize, act: impl Fn() -> Act + Send + 'static) -> Self {
        let (demands, receiver) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel(places);
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let opener: Opener = Box::new(move |_| {
            shared.opened.fetch_add(1, SeqCst);
            shared.alive.store(true, SeqCst);
            Ok(Box::new(Fake {
                seen: Arc::clone(&shared),
                act: act(),
                wants_key_frame: true,
            }))
        });
        let pattern = Pattern {
            width: 160,
            height: 90,
            fps: 60,
            bitrate: 100_000,
        };
        let what = (pattern, max_errors);
        start_with(CameraId(7), "door", what, sender, receiver, opener);
        Self {
            demands,
            events,
            seen,
        }
    }

    fn demand(&self, demand: Demand) {
        self.demands.send(demand).expect("the source listens");
    }

    fn next(&mut self) -> SourceEvent {
        let (id, event) = self.events.blocking_recv().expect("the source runs");
        assert_eq!(id, CameraId(7));
        event
    }

    fn next_unit(&mut self) -> AccessUnit {
        loop {
            if let SourceEvent::Unit(unit) = self.next() {
                return unit;
            }
        }
    }

    fn opens(&mut self) {
        assert!(matches!(self.next(), SourceEvent::Opening));
        let SourceEvent::Playing(abilities) = self.next() else {
            panic!("not playing")
        };
        assert!(abilities.can_force_key_frame && abilities.can_change_rate);
        assert!(matches!(self.next(), SourceEvent::Note(_)));
        assert!(matches!(self.next(), SourceEvent::Load(_)));
    }

    fn expect_errors(&mut self, count: u32) {
        for n in 1..=count {
            let SourceEvent::Error { kind, in_a_row, .. } = self.next() else {
                panic!("error {n} was not told")
            };
            assert_eq!((kind, in_a_row), (ErrorKind::Encode, n));
        }
    }
}

fn fine() -> Act {
    Box::new(|_| Ok(()))
}

fn refused() -> EncodeError {
    EncodeError::FrameRate(0)
}

#[test]
fn close_ends_the_encoder_before_it_is_told_and_open_begins_anew() {
    let mut bench = Bench::new(16, fine);
    for run in 1..=2 {
        bench.demand(Demand::Open);
        bench.demand(Demand::Open);
        bench.opens();
        assert!(bench.next_unit().is_key_frame);
        let second = bench.next_unit();
        assert!(!second.is_key_frame && second.ticks > 0);
        assert_eq!(bench.seen.opened.load(SeqCst), run);
        bench.demand(Demand::Close);
        while !matches!(bench.next(), SourceEvent::Closed) {}
        assert!(!bench.seen.alive.load(SeqCst));
    }
}

#[test]
fn many_key_frame_demands_between_two_pictures_cost_one() {
    let (enter, entered) = std_mpsc::channel();
    let (leave, left) = std_mpsc::channel();
    let ends = std::sync::Mutex::new(Some((enter, left)));
    let mut bench = Bench::new(16, move || {
        let (enter, left) = ends.lock().expect("sound").take().expect("one run");
        Box::new(move |_| {
            let _ = enter.send(());
            let _ = left.recv();
            Ok(())
        })
    });
    bench.demand(Demand::Open);
    entered.recv().expect("first picture is being coded");
    for _ in 0..20 {
        bench.demand(Demand::KeyFrame);
    }
    leave.send(()).expect("coding");
    entered.recv().expect("second picture is being coded");
    assert_eq!(bench.seen.forced.load(SeqCst), 1);
    drop(leave);
    bench.next_unit();
    assert!(bench.next_unit().is_key_frame, "the very next picture");
    assert!(!bench.next_unit().is_key_frame);
    assert_eq!(bench.seen.forced.load(SeqCst), 1);
}

#[test]
fn a_panic_costs_one_run_and_is_told_with_the_time_of_the_next() {
    let mut bench = Bench::new(16, || {
        Box::new(|call| {
            assert!(call != 2, "the third picture is cursed");
            Ok(())
        })
    });
    bench.demand(Demand::Open);
    bench.opens();
    bench.next_unit();
    bench.next_unit();
    let SourceEvent::Down {
        reason,
        detail,
        retry_at,
    } = bench.next()
    else {
        panic!("the panic went unnoticed")
    };
    assert_eq!(reason, DownReason::Internal);
    assert!(detail.contains("cursed"), "{detail}");
    assert!(!bench.seen.alive.load(SeqCst), "the encoder went with it");
    bench.opens();
    assert!(Instant::now() >= retry_at.expect("it is tried again"));
    let unit = bench.next_unit();
    assert!(unit.is_key_frame);
}

#[test]
fn close_is_heard_while_waiting_for_the_next_attempt() {
    let mut bench = Bench::new(16, || Box::new(|_| panic!("always")));
    bench.demand(Demand::Open);
    bench.opens();
    assert!(matches!(bench.next(), SourceEvent::Down { .. }));
    bench.demand(Demand::Close);
    assert!(matches!(bench.next(), SourceEvent::Closed));
}

#[test]
fn nine_refused_pictures_are_tolerated_and_ten_restart_the_encoder() {
    let mut bench = Bench::new(64, || {
        Box::new(|call| match call {
            1..=9 | 20.. => Err(refused()),
            _ => Ok(()),
        })
    });
    bench.demand(Demand::Open);
    bench.opens();
    assert!(!bench.next_unit().after_loss);
    bench.expect_errors(9);
    let next = bench.next_unit();
    assert!(
        next.is_key_frame && next.after_loss,
        "decoding starts again"
    );
    for _ in 11..20 {
        assert!(!bench.next_unit().after_loss);
    }
    bench.expect_errors(10);
    let SourceEvent::Down { reason, .. } = bench.next() else {
        panic!("the tenth in a row ends the run")
    };
    assert_eq!(reason, DownReason::Errors);
}

#[test]
fn the_configured_number_of_errors_is_the_one_that_counts() {
    let broken = || -> Act { Box::new(|_| Err(refused())) };
    for max_errors in [1, 3, 20] {
        let mut bench = Bench::tolerating(max_errors, 64, broken);
        bench.demand(Demand::Open);
        bench.opens();
        bench.expect_errors(max_errors);
        assert!(matches!(bench.next(), SourceEvent::Down { .. }));
    }
}

#[test]
fn an_encoder_that_cannot_be_had_is_told_and_tried_again() {
    let (demands, receiver) = mpsc::unbounded_channel();
    let (sender, mut events) = mpsc::channel(8);
    let impossible = Pattern {
        width: 8,
        ..Pattern::default()
    };
    start(CameraId(0), "tiny", (impossible, 10), sender, receiver);
    demands.send(Demand::Open).expect("listens");
    let opening = events.blocking_recv();
    assert!(matches!(opening, Some((_, SourceEvent::Opening))));
    let Some((
        _,
        SourceEvent::Down {
            detail, retry_at, ..
        },
    )) = events.blocking_recv()
    else {
        panic!("not told")
    };
    assert!(detail.contains("accepted are even sides"), "{detail}");
    assert!(retry_at.is_some());
}

#[test]
fn a_loop_that_is_behind_loses_no_coded_picture_and_blocks_nobody() {
    let mut bench = Bench::new(3, fine);
    bench.demand(Demand::Open);
    bench.opens();
    while bench.events.len() < 3 {
        thread::yield_now();
    }
    // Six beats without a place: real time has to pass for the thread to be able to do wrong.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(bench.seen.encoded.load(SeqCst), 3, "no place, no picture");
    let mut units = 3;
    for _ in 0..3 {
        bench.next_unit();
    }
    bench.next_unit();
    bench.demand(Demand::Close);
    let mut event = bench.next();
    while let SourceEvent::Unit(_) = event {
        units += 1;
        event = bench.next();
    }
    assert!(matches!(event, SourceEvent::Closed), "{event:?}");
    assert_eq!(bench.seen.encoded.load(SeqCst), units + 1);
    assert_eq!(bench.seen.forced.load(SeqCst), 0, "no reference was broken");
}

#[test]
fn a_bit_rate_is_followed_and_kept_for_the_next_run() {
    let mut bench = Bench::new(16, fine);
    bench.demand(Demand::Open);
    bench.next_unit();
    bench.demand(Demand::Bitrate(70_000));
    bench.demand(Demand::Bitrate(80_000));
    while bench.seen.bitrate.load(SeqCst) != 80_000 {
        bench.next_unit();
    }
    bench.demand(Demand::Close);
    while !matches!(bench.next(), SourceEvent::Closed) {}
    bench.seen.bitrate.store(0, SeqCst);
    bench.demand(Demand::Open);
    bench.next_unit();
    assert_eq!(bench.seen.bitrate.load(SeqCst), 80_000);
}

#[test]
fn dropping_either_end_ends_the_thread() {
    let mut bench = Bench::new(16, fine);
    bench.demand(Demand::Open);
    bench.next_unit();
    drop(bench.demands);
    while bench.events.blocking_recv().is_some() {}
    assert!(!bench.seen.alive.load(SeqCst));

    let bench = Bench::new(1, fine);
    bench.demand(Demand::Open);
    drop(bench.events);
    while !bench.demands.is_closed() {
        thread::yield_now();
    }
}

#[test]
fn a_smaller_step_opens_another_encoder_and_time_goes_on() {
    let (_demands, receiver) = mpsc::unbounded_channel();
    let (events, mut heard) = mpsc::channel(64);
    let pattern = Pattern {
        width: 640,
        height: 360,
        fps: 10,
        bitrate: 400_000,
    };
    let opener: Opener = Box::new(|settings| encode::open(settings, EncoderChoice::Software));
    let maker = Maker {
        pattern: &pattern,
        opener: &opener,
        max_errors: 10,
    };
    let mut worker = Worker::new(CameraId(7), "door".to_owned(), events, receiver);
    let mut run = open(&worker, &maker).expect("opens");
    let mut next = |worker: &mut Worker, run: &mut Run| {
        assert!(step(worker, run).expect("listens").is_none());
        match heard.try_recv() {
            Ok((_, SourceEvent::Unit(unit))) => unit,
            other => panic!("{other:?}"),
        }
    };
    let large = next(&mut worker, &mut run);
    let smaller = Step {
        fps: 5,
        size: (480, 270),
    };
    follow_step(&worker, &maker, &mut run, smaller).expect("followed");
    let small = next(&mut worker, &mut run);
    assert!(small.is_key_frame && small.ticks > large.ticks);
    let sps = nal_units(&small.data).find_map(SpsFacts::parse);
    assert_eq!(sps.and_then(|sps| sps.size), Some((480, 270)));
    let slower = Step { fps: 2, ..smaller };
    follow_step(&worker, &maker, &mut run, slower).expect("followed");
    assert!(
        !next(&mut worker, &mut run).is_key_frame,
        "a rate needs no new encoder"
    );
}
