//! Cameras that fall silent, change, go away and come back.

use super::*;

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
async fn a_source_that_changes_its_format_is_opened_anew_at_once() {
    let mut bench = Bench::open(&[&[Step::Picture(1), Step::Changes]]);
    let (reason, detail) = bench.down().await;
    let changed = Instant::now();
    assert_eq!(reason, DownReason::Ended);
    assert_eq!(detail, "the source at its input changed to 1280x720p60");
    assert!(bench.unit().await.is_key_frame);
    assert!(changed.elapsed() < Duration::from_secs(2));
    assert_eq!(bench.world.opened.load(SeqCst), 2);
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
    let coded = bench.world.coded.lock().unwrap().clone();
    assert_eq!(coded.len(), 1);
    assert_eq!(coded[0].0, unit.ticks);
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
    let took = back.elapsed();
    // Three times the budget: the machine is shared.
    assert!(took < Duration::from_secs(6), "{took:?}");
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
