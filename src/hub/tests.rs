use bytes::Bytes;

use super::*;
use crate::media::{Codec, Stages};

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x8c];
const PPS: &[u8] = &[0x68, 0xce];

struct Camera {
    hub: Hub,
    start: Instant,
    frames: u32,
}

impl Camera {
    fn new(can_force_key_frame: bool, gop_cache: usize) -> Self {
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let mut hub = Hub::new(Settings {
            payload: 1120,
            gop_cache,
            epoch: start,
        });
        hub.restart(Abilities {
            can_force_key_frame,
            can_change_rate: false,
        });
        Self {
            hub,
            start,
            frames: 0,
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(40) * self.frames
    }

    fn unit(&self, nals: &[&[u8]]) -> AccessUnit {
        let data: Vec<u8> = nals
            .iter()
            .flat_map(|nal| START_CODE.iter().chain(*nal).copied())
            .collect();
        AccessUnit {
            codec: Codec::H264,
            is_key_frame: nals.iter().any(|nal| nal_type_of(nal) == nal_type::IDR),
            data: Bytes::from(data),
            ticks: i64::from(self.frames) * 3600,
            received: self.now(),
            after_loss: false,
            stages: Stages::default(),
        }
    }

    fn push(&mut self, nals: &[&[u8]]) -> Option<Arc<Frame>> {
        let unit = self.unit(nals);
        let frame = self.hub.push_unit(self.now(), &unit);
        self.frames += 1;
        frame
    }

    fn key(&mut self, len: usize) -> Option<Arc<Frame>> {
        self.push(&[SPS, PPS, &[&[0x65][..], &vec![1; len]].concat()])
    }

    fn delta(&mut self, len: usize) -> Option<Arc<Frame>> {
        self.push(&[&[&[0x41, 0xc0][..], &vec![1; len]].concat()])
    }
}

fn len_of(replay: &Replay) -> usize {
    match replay {
        Replay::Nothing => 0,
        Replay::Still(_) => 1,
        Replay::Gop(frames) => frames.len(),
    }
}

#[test]
fn nothing_passes_before_the_first_key_frame() {
    let mut camera = Camera::new(false, 1 << 20);
    assert!(camera.delta(100).is_none());
    assert!(camera.key(100).is_some());
    assert!(camera.delta(100).is_some());
}

#[test]
fn after_a_loss_the_stream_waits_for_a_key_frame_and_asks_for_one() {
    let mut camera = Camera::new(true, 1 << 20);
    camera.key(100);
    camera.frames += 50;
    let mut lost = camera.unit(&[&[0x41, 0xc0]]);
    lost.after_loss = true;
    let now = camera.now();
    assert!(camera.hub.push_unit(now, &lost).is_none());
    assert!(camera.hub.poll_key_frame(now));
    assert!(camera.delta(100).is_none());
    assert!(camera.key(100).is_some());
    let now = camera.now();
    assert!(!camera.hub.poll_key_frame(now + Duration::from_secs(60)));
}

#[test]
fn a_key_frame_without_parameter_sets_gets_the_newest() {
    let mut camera = Camera::new(false, 1 << 20);
    assert!(
        camera.push(&[&[0x65, 1]]).is_none(),
        "nobody could decode it"
    );
    camera.key(10);
    let frame = camera.push(&[&[0x65, 1]]).unwrap();
    assert_eq!(&frame.payloads[0][3..8], SPS);
    assert_eq!(&*frame.payloads[1], [0x65, 1]);
    assert_eq!(frame.sps.profile_level_id.to_string(), "42c01f");
}

#[test]
fn fifty_wishes_cost_one_request_per_spacing() {
    let mut camera = Camera::new(true, 1 << 20);
    camera.key(100);
    let start = camera.now() + KEY_FRAME_SPACING;
    let mut requests = 0;
    for i in 0..50 {
        let now = start + Duration::from_millis(i);
        camera.hub.answer(now, Need::Recovery, 90_000_000);
        requests += u32::from(camera.hub.poll_key_frame(now));
    }
    assert_eq!(requests, 1);
}

#[test]
fn an_unanswered_request_is_repeated_with_back_off() {
    let mut camera = Camera::new(true, 1 << 20);
    let start = camera.now();
    camera.hub.answer(start, Need::Join, 90_000_000);
    let asked: Vec<u64> = (0..20_000)
        .filter(|ms| {
            camera
                .hub
                .poll_key_frame(start + Duration::from_millis(*ms))
        })
        .collect();
    assert_eq!(asked, [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500]);
}

#[test]
fn a_join_right_after_a_key_frame_is_served_from_the_cache() {
    let mut camera = Camera::new(true, 1 << 20);
    camera.key(100);
    camera.delta(100);
    let now = camera.now();
    assert_eq!(len_of(&camera.hub.answer(now, Need::Join, 90_000_000)), 2);
    assert!(!camera.hub.poll_key_frame(now));
    let later = now + KEY_FRAME_SPACING;
    assert_eq!(len_of(&camera.hub.answer(later, Need::Join, 90_000_000)), 0);
    assert!(camera.hub.poll_key_frame(later));
}

#[test]
fn a_camera_that_cannot_be_asked_is_replayed() {
    let mut camera = Camera::new(false, 1 << 20);
    for _ in 0..2 {
        camera.key(1000);
        (0..24).for_each(|_| drop(camera.delta(500)));
    }
    let now = camera.now();
    let replay = camera.hub.answer(now, Need::Recovery, 90_000_000);
    let Replay::Gop(frames) = replay else {
        panic!("{replay:?}")
    };
    assert!(frames[0].is_key_frame);
    assert_eq!(frames.len(), 25);
    assert!(!camera.hub.poll_key_frame(now));
}

#[test]
fn a_slow_link_gets_the_key_frame_alone() {
    let mut camera = Camera::new(false, 1 << 20);
    for _ in 0..2 {
        camera.key(10_000);
        (0..20).for_each(|_| drop(camera.delta(10_000)));
    }
    let now = camera.now();
    let slow = camera.hub.answer(now, Need::Join, 1_000_000);
    assert!(matches!(slow, Replay::Still(_)), "{slow:?}");
}

#[test]
fn a_group_beyond_the_bounds_of_the_cache_leaves_a_still() {
    let mut camera = Camera::new(false, 5000);
    camera.key(1000);
    (0..10).for_each(|_| drop(camera.delta(1000)));
    let now = camera.now();
    let replay = camera.hub.answer(now, Need::Join, 90_000_000);
    assert!(matches!(replay, Replay::Still(_)), "{replay:?}");
    assert_eq!(camera.hub.gops_cut(), 1, "counted once");
    camera.key(6000);
    let replay = camera.hub.answer(now, Need::Join, 90_000_000);
    assert_eq!(len_of(&replay), 0, "the key frame itself is too large");
    assert_eq!(camera.hub.gops_cut(), 2);
    let mut without = Camera::new(false, 0);
    without.key(1000);
    without.delta(1000);
    assert_eq!(without.hub.gops_cut(), 0, "there is no cache to be cut");
}

#[test]
fn a_restart_forgets_the_old_pictures_and_time_goes_on() {
    let mut camera = Camera::new(false, 1 << 20);
    let before = camera.key(100).unwrap();
    camera.hub.restart(Abilities::default());
    let now = camera.now();
    assert_eq!(len_of(&camera.hub.answer(now, Need::Join, 1 << 30)), 0);
    assert!(camera.delta(100).is_none());
    camera.frames += 100;
    let after = camera.key(100).unwrap();
    assert_eq!(after.time.0 - before.time.0, 102 * 3600);
    assert!(after.gop > before.gop);
}

#[test]
fn facts_tell_rates_interval_and_b_frames() {
    let mut camera = Camera::new(false, 1 << 20);
    for _ in 0..4 {
        camera.key(1000);
        (0..24).for_each(|_| drop(camera.delta(1000)));
    }
    let now = camera.now();
    let facts = camera.hub.facts();
    assert!((facts.fps(now) - 25.0).abs() < 0.3, "{}", facts.fps(now));
    assert!(
        (190_000..215_000).contains(&facts.bitrate(now)),
        "{}",
        facts.bitrate(now)
    );
    assert_eq!(facts.key_frame_interval(), Some(Duration::from_secs(1)));
    assert!(!facts.has_b_frames());
    camera.push(&[&[0x01, 0xa0]]);
    assert!(camera.hub.facts().has_b_frames());
    assert_eq!(camera.hub.facts().fps(now + Duration::from_secs(9)), 0.0);
}

#[test]
fn a_picture_every_ten_seconds_is_a_rate_too() {
    let mut camera = Camera::new(false, 1 << 20);
    camera.key(1000);
    camera.frames += 249;
    camera.delta(1000);
    let now = camera.now();
    assert!((camera.hub.facts().fps(now) - 0.1).abs() < 0.01);
    let silent = now + Duration::from_secs(21);
    assert_eq!(camera.hub.facts().fps(silent), 0.0);
}
