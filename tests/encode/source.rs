//! The test picture's source on its own thread, in real time.

use std::time::Duration;

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use pinhole::config::Pattern;
use pinhole::media::{AccessUnit, CameraId, Demand, SourceEvent};
use pinhole::source::pattern;
use pinhole::source::pattern::marks::Marks;
use tokio::sync::mpsc;

/// The source as the loop sees it.
struct Live {
    demands: mpsc::UnboundedSender<Demand>,
    events: mpsc::Receiver<(CameraId, SourceEvent)>,
}

impl Live {
    fn open(pattern: Pattern, places: usize) -> Self {
        let (demands, receiver) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel(places);
        pattern::start(CameraId(1), "live", (pattern, 10), sender, receiver);
        demands.send(Demand::Open).expect("listens");
        Self { demands, events }
    }

    fn unit(&mut self) -> AccessUnit {
        loop {
            let (_, event) = self.events.blocking_recv().expect("runs");
            if let SourceEvent::Unit(unit) = event {
                return unit;
            }
        }
    }
}

#[test]
fn the_source_delivers_its_frame_rate_with_rising_ticks_and_true_numbers() {
    let size = (320, 180);
    let mut live = Live::open(
        Pattern {
            width: 320,
            height: 180,
            fps: 30,
            bitrate: 500_000,
        },
        64,
    );
    let mut decoder = Decoder::new().expect("openh264");
    let first = live.unit();
    assert!(first.is_key_frame);
    decoder.decode(&first.data).expect("valid");
    let (mut last, mut units) = (first.clone(), 0);
    while last.ticks < first.ticks + 90_000 {
        let unit = live.unit();
        assert!(
            unit.ticks > last.ticks,
            "{} after {}",
            unit.ticks,
            last.ticks
        );
        let (ticks, time) = (unit.ticks - last.ticks, unit.received - last.received);
        let apart = (ticks as f64 / 90_000.0 - time.as_secs_f64()).abs();
        assert!(
            apart < 0.000_1,
            "ticks are the capture time: {apart} s apart"
        );
        assert!(unit.stages.encode > Duration::ZERO);
        units += 1;
        let decoded = decoder
            .decode(&unit.data)
            .expect("valid")
            .expect("a picture");
        let marks = Marks::read(decoded.y(), decoded.strides().0, size).expect("readable");
        assert!(u64::from(marks.number) >= units, "counts every picture");
        last = unit;
    }
    println!("{units} units in one second");
    // Never more than the rate, and few of them only where the machine has other work.
    assert!((3..=31).contains(&units), "{units}");
}

#[test]
fn a_demanded_key_frame_is_the_next_picture_and_close_ends_the_pictures() {
    let mut live = Live::open(Pattern::default(), 1);
    live.unit();
    for _ in 0..3 {
        live.demands.send(Demand::KeyFrame).expect("listens");
        // One unit may wait in the channel, and one may be in the encoder.
        let key = (0..3).map(|_| live.unit()).find(|unit| unit.is_key_frame);
        assert!(key.is_some());
        assert!(!live.unit().is_key_frame, "one demand, one key frame");
    }
    live.demands.send(Demand::Close).expect("listens");
    while !matches!(live.events.blocking_recv(), Some((_, SourceEvent::Closed))) {}
    drop(live.demands);
    assert!(
        live.events.blocking_recv().is_none(),
        "the thread has ended"
    );
}
