//! Cameras that code: what is told of a loss, and what follows from it.

use super::*;

/// A picture of the camera.
pub(super) fn coded(is_key_frame: bool) -> Vec<u8> {
    let (sps, pps) = ([0, 0, 0, 1, 0x67, 1], [0, 0, 0, 1, 0x68, 2]);
    match is_key_frame {
        true => [&sps[..], &pps, &[0, 0, 0, 1, 0x65, 3]].concat(),
        false => vec![0, 0, 0, 1, 0x41, 4],
    }
}

fn bench(limit: Duration) -> Bench {
    let limits = Limits {
        key_frame: limit,
        ..Limits::default()
    };
    let script = [Step::Picture(1), Step::Picture(2), Step::Picture(5)];
    let bench = Bench::within(limits, &[&script]);
    bench.world.is_coding.store(true, SeqCst);
    bench.handle.demand(Demand::Open);
    bench
}

#[tokio::test]
async fn a_loss_is_told_once_and_every_wish_for_a_key_frame_reaches_the_camera() {
    let mut bench = bench(Duration::from_secs(20));
    assert!(bench.unit().await.is_key_frame);
    assert!(!bench.unit().await.after_loss);
    let after = bench.unit().await;
    assert!(
        after.after_loss && !after.is_key_frame,
        "for the hub to see"
    );
    assert!(!bench.unit().await.after_loss);
    for asked in 1..=3 {
        bench.handle.demand(Demand::KeyFrame);
        while !bench.unit().await.is_key_frame {}
        assert_eq!(bench.world.key_frames_asked.load(SeqCst), asked);
    }
    assert_eq!(bench.world.opened.load(SeqCst), 1);
}

#[tokio::test]
async fn one_that_gives_no_key_frame_after_a_loss_is_opened_anew() {
    let mut bench = bench(Duration::from_millis(700));
    assert!(bench.unit().await.is_key_frame);
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Stalled);
    assert_eq!(detail, "pictures came, but no key frame within 700ms");
    assert!(bench.unit().await.is_key_frame, "a stream begins with one");
}
