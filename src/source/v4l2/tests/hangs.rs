//! Threads that hang in the driver, and what they leave behind.

use super::super::abandoned;
use super::*;

/// Threads that hang are counted for the whole process: one such case at a time.
static HANGS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_thread_that_hangs_is_replaced_and_heard_no_more() {
    let _alone = HANGS.lock().await;
    let limits = Limits {
        hang_after: Duration::from_millis(500),
        brake_grace: Duration::from_millis(50),
        ..Limits::default()
    };
    let script = [Step::Picture(1), Step::Hangs, Step::Picture(2)];
    let mut bench = Bench::within(limits, &[&script]);
    bench.handle.demand(Demand::Open);
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
async fn a_thread_that_hangs_is_replaced_after_one_wait_and_at_the_time_that_is_told() {
    let _alone = HANGS.lock().await;
    let limits = Limits {
        hang_after: Duration::from_secs(4),
        brake_grace: Duration::from_millis(500),
        ..Limits::default()
    };
    let mut bench = Bench::within(limits, &[&[Step::Picture(1), Step::Hangs]]);
    bench.handle.demand(Demand::Open);
    bench.unit().await;
    let hangs = Instant::now();
    let retry_at = bench
        .until(|event| match event {
            SourceEvent::Down { retry_at, .. } => *retry_at,
            _ => None,
        })
        .await;
    bench.opening().await;
    let (now, waited) = (Instant::now(), hangs.elapsed());
    // 4 s, up to 0.2 s until it is looked at, 0.5 s; a busy machine adds to that, but no second wait.
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    assert!(now >= retry_at, "early by {:?}", retry_at - now);
    let late = now - retry_at;
    assert!(late < Duration::from_secs(2), "late by {late:?}");
    bench.world.release.store(true, SeqCst);
    bench.unit().await;
    bench.closed().await;
}

#[tokio::test]
async fn a_device_that_an_abandoned_thread_holds_is_told_as_our_own_and_asks_for_a_new_process() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let _alone = HANGS.lock().await;
    let limits = Limits {
        hang_after: Duration::from_millis(500),
        brake_grace: Duration::from_millis(50),
        held_limit: Duration::from_secs(1),
        give_up: || ASKED.store(true, SeqCst),
        ..Limits::default()
    };
    let mut bench = Bench::within(limits, &[&[Step::Picture(1), Step::Hangs]]);
    bench.world.is_exclusive.store(true, SeqCst);
    bench.handle.demand(Demand::Open);
    assert_eq!(bench.down().await.0, DownReason::Stalled);
    let begun = Instant::now();
    while !ASKED.load(SeqCst) {
        let (reason, detail) = bench.down().await;
        assert_eq!(reason, DownReason::Unreachable);
        assert_eq!(
            detail,
            "the device is still held by Pinhole itself: a thread of it hangs in the driver \
             (waiting for a picture)"
        );
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "not at once");
    // It ends after all: the camera is free.
    bench.world.release.store(true, SeqCst);
    bench.unit().await;
    bench.closed().await;
}

#[tokio::test]
async fn a_device_that_somebody_else_holds_is_waited_for_in_peace() {
    let limits = Limits {
        held_limit: Duration::ZERO,
        give_up: || panic!("nothing of ours holds it"),
        ..Limits::default()
    };
    let mut bench = Bench::within(limits, &[]);
    bench.world.is_exclusive.store(true, SeqCst);
    bench.world.open.store(1, SeqCst);
    bench.handle.demand(Demand::Open);
    for _ in 0..2 {
        let (_, detail) = bench.down().await;
        assert!(detail.ends_with("by another program"), "{detail}");
    }
    bench.world.open.store(0, SeqCst);
    bench.unit().await;
}
