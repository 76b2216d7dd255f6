use super::*;
use crate::media::h264::SpsFacts;
use crate::media::time::MediaTime;

fn frame(payloads: usize, at: Instant) -> Arc<Frame> {
    Arc::new(Frame {
        payloads: vec![Payload::from([0u8; 940]); payloads],
        bytes: payloads * 940,
        is_key_frame: false,
        gop: 1,
        time: MediaTime(0),
        captured: at,
        received: at,
        sps: SpsFacts::default(),
    })
}

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn the_pace_holds_over_a_second_and_lets_a_burst_pass() {
    let start = start();
    let mut pacer = Pacer::new(80_000_000, start);
    let mut sent = 0;
    for ms in 0..1000 {
        let now = start + Duration::from_millis(ms);
        while pacer.is_open(now) {
            pacer.spend(1000);
            sent += 1000;
        }
        if ms == 0 {
            assert_eq!(sent, 77_000);
        }
    }
    assert!((10_000_000..10_100_000).contains(&sent), "{sent}");
}

#[test]
fn it_tells_when_it_opens() {
    let start = start();
    let mut pacer = Pacer::new(8_000_000, start);
    while pacer.is_open(start) {
        pacer.spend(50_000);
    }
    let opens = pacer.opens_at();
    assert!(!pacer.is_open(opens - Duration::from_millis(2)));
    assert!(pacer.is_open(opens));
}

#[test]
fn what_leaves_during_a_pause_does_not_shorten_it() {
    let start = start();
    let mut pacer = Pacer::new(1_000_000_000, start);
    pacer.pause();
    pacer.spend(100); // an answer to an ICE check
    assert!(!pacer.is_open(start + PAUSE - Duration::from_millis(1)));
    assert!(pacer.is_open(start + PAUSE + Duration::from_millis(1)));
}

#[test]
fn skipping_finishes_the_frame_that_has_begun() {
    let at = start();
    let mut queue = SendQueue::default();
    (0..3).for_each(|_| queue.push(&frame(2, at)));
    assert_eq!(queue.bytes(), 6000);
    assert!(!queue.pop().unwrap().is_last);
    queue.skip();
    assert_eq!(queue.bytes(), 1000);
    assert!(queue.pop().unwrap().is_last);
    assert!(queue.pop().is_none() && queue.is_empty());
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn skipping_with_nothing_begun_empties_it() {
    let mut queue = SendQueue::default();
    queue.push(&frame(2, start()));
    queue.skip();
    assert!(queue.is_empty() && queue.bytes() == 0);
}
