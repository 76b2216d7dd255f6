//! Cameras that code: what is held back after a loss, and how a key frame is come by.

use super::*;

/// A picture of the camera.
pub(super) fn coded(is_key_frame: bool) -> Vec<u8> {
    let (sps, pps) = ([0, 0, 0, 1, 0x67, 1], [0, 0, 0, 1, 0x68, 2]);
    match is_key_frame {
        true => [&sps[..], &pps, &[0, 0, 0, 1, 0x65, 3]].concat(),
        false => vec![0, 0, 0, 1, 0x41, 4],
    }
}

fn bench(ignored: u32, limit: Duration) -> Bench {
    let limits = Limits {
        key_frame: limit,
        ..Limits::default()
    };
    let script = [Step::Picture(1), Step::Picture(2), Step::Picture(5)];
    let bench = Bench::within(limits, &[&script]);
    bench.world.is_coding.store(true, SeqCst);
    bench.world.wishes_ignored.store(ignored, SeqCst);
    bench.handle.demand(Demand::Open);
    bench
}

#[tokio::test]
async fn a_camera_that_does_not_hear_the_first_wish_for_a_key_frame_is_asked_again() {
    let mut bench = bench(2, Duration::from_secs(20));
    assert!(bench.unit().await.is_key_frame);
    assert!(!bench.unit().await.after_loss);
    let after = bench.unit().await;
    assert!(after.is_key_frame && after.after_loss, "deltas are no use");
    assert_eq!(bench.world.key_frames_asked.load(SeqCst), 3);
    assert_eq!(bench.world.opened.load(SeqCst), 1);
}

#[tokio::test]
async fn one_that_never_gives_a_key_frame_is_opened_anew() {
    let mut bench = bench(u32::MAX, Duration::from_millis(700));
    bench.unit().await;
    let (reason, detail) = bench.down().await;
    assert_eq!(reason, DownReason::Stalled);
    assert_eq!(detail, "pictures came, but no key frame within 700ms");
    assert!(bench.unit().await.is_key_frame, "a stream begins with one");
    assert_eq!(bench.world.key_frames_asked.load(SeqCst), 2);
}
