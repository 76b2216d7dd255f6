//! What cameras do over the years: die, return, drift, jump, wrap.

use std::time::Duration;

use pinhole::media::{ErrorKind, LeftOut, SourceEvent};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::camera::Camera;
use crate::link::Quality;
use crate::peer::{Habits, Peer, Shown};
use crate::world::{World, config};
use crate::{ms, secs};

/// RTP time against the wall clock of what was shown, the worst difference.
fn worst_slip(shown: &[Shown]) -> Duration {
    let first = shown[0];
    let slip = |s: &Shown| {
        let elapsed = (s.at - first.at).as_secs_f64() * 90_000.0;
        // The whole turns of the 32 bits come from the wall clock.
        let ticks = f64::from(s.rtp_time.wrapping_sub(first.rtp_time));
        let turn = f64::from(u32::MAX) + 1.0;
        let off = (elapsed - ticks).rem_euclid(turn);
        off.min(turn - off)
    };
    let worst = shown.iter().map(slip).fold(0.0, f64::max);
    Duration::from_secs_f64(worst / 90_000.0)
}

fn is_contiguous(peer: &Peer, from: u64) -> bool {
    let mut numbers = peer.shown.iter().map(|s| s.number).filter(|n| *n >= from);
    let first = numbers.next();
    first.is_some() && numbers.zip(first.unwrap() + 1..).all(|(a, b)| a == b)
}

#[test]
fn a_camera_that_returns_with_another_clock_plays_on_in_the_same_session() {
    for can_force in [false, true] {
        let mut world = match can_force {
            true => World::forcing(1),
            false => World::passthrough(1),
        };
        world.run_for(ms(1500));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(1500));
        let bases = [0, 5, -7_000_000_000, 1 << 40, 3_000_000_000];
        for (i, base) in bases.into_iter().enumerate() {
            world.kill_camera(0, secs(5));
            assert_eq!(world.status(0).state, "down");
            world.run_for(ms(1000 + i as u64 * 1700));
            world.cameras[0].clock_base = base;
            let number = world.cameras[0].number;
            world.revive_camera(0);
            let back = world.now;
            world.run_for(ms(2500));
            let peer = world.peer(viewer);
            let first = peer.shown.iter().find(|s| s.number >= number).unwrap();
            assert!(first.is_key_frame && first.number == number);
            assert!(first.at - back <= ms(20), "{:?}", first.at - back);
            assert!(is_contiguous(peer, number), "every picture since");
            // A gap in the sequence would have been a NACK, then a PLI.
            assert_eq!(peer.plis, 0);
        }
        assert_eq!(world.sessions()[0].repairs, 0);
        let live = world.peer(viewer).shown.split_at(50).1;
        let slip = worst_slip(live);
        println!("RTP time slips {slip:?} from the wall clock");
        assert!(slip <= ms(20), "{slip:?}");
        assert_eq!(world.status(0).restarts, 5);
        assert_eq!(world.counters().sessions_opened, 1);
    }
}

#[test]
fn a_unit_after_a_loss_holds_the_stream_for_a_key_frame() {
    for can_force in [false, true] {
        let mut world = match can_force {
            true => World::forcing(2),
            false => World::passthrough(2),
        };
        let viewer = world.watch(0);
        world.run_for(ms(500));
        world.cameras[0].lose();
        let at = world.now;
        let number = world.cameras[0].number;
        world.run_for(secs(5));
        let peer = world.peer(viewer);
        let next = peer.shown.iter().find(|s| s.number >= number).unwrap();
        assert!(next.is_key_frame, "nothing that refers to what was lost");
        let took = next.at - at;
        println!("force {can_force}: {took:?} to the next key frame");
        assert!(
            took <= if can_force { ms(80) } else { ms(4000) },
            "{took:?}"
        );
        assert_eq!(peer.plis, 0);
    }
}

#[test]
fn a_hub_that_panics_costs_pictures_and_nobody_else_anything() {
    let mut world = World::new(3, config(2), Camera::new);
    let (hit, other) = (world.watch(0), world.watch(1));
    let since = world.now;
    world.break_camera(0);
    world.run_for(secs(5));
    assert!(world.peer(other).longest_gap(since, world.now) <= ms(70));
    let peer = world.peer(hit);
    let gap = peer.longest_gap(since, world.now);
    assert!(gap <= ms(4100), "a group at most: {gap:?}");
    assert!(world.newest(0) - peer.shown.last().unwrap().number <= 1);
    assert_eq!(world.status(0).errors.picture, 1);
    assert_eq!(world.sessions().len(), 2);
}

#[test]
fn what_a_source_counts_is_told_by_kind() {
    let mut world = World::forcing(1);
    world.run_for(secs(1));
    let left_out = |lost, late| {
        SourceEvent::LeftOut(LeftOut {
            lost,
            late,
            ..LeftOut::default()
        })
    };
    world.tell(0, left_out(30, 0));
    world.tell(0, left_out(2, 5));
    let fallback = SourceEvent::Error {
        kind: ErrorKind::Fallback,
        in_a_row: 1,
        detail: "no answer".to_owned(),
    };
    world.tell(0, fallback);
    world.run_for(secs(1));
    let status = world.status(0);
    assert_eq!(
        (
            status.errors.lost,
            status.errors.late,
            status.errors.fallback
        ),
        (32, 5, 1)
    );
    assert_eq!((status.state, status.restarts), ("playing", 0));
}

#[test]
fn a_forcing_camera_that_ignores_requests_is_asked_again_with_back_off() {
    let mut world = World::forcing(3);
    world.run_for(secs(1));
    world.watch(0);
    world.run_for(secs(1));
    world.cameras[0].is_silent = true;
    let forced = world.cameras[0].forced;
    for _ in 0..200 {
        world.request_key_frame(0);
        world.run_for(ms(100));
    }
    let forced = world.cameras[0].forced - forced;
    println!("{forced} requests in 20 s");
    assert!((4..=9).contains(&forced), "{forced}");
}

#[test]
fn drift_of_300_ppm_does_not_add_up_in_an_hour() {
    for ppm in [-300.0, 300.0] {
        let mut world = World::passthrough(4);
        let camera = &mut world.cameras[0];
        (camera.fps, camera.gop) = (2.0, 8);
        (camera.key_bytes, camera.delta_bytes) = (2000, 300);
        camera.drift_ppm = ppm;
        world.run_for(secs(3));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(secs(10));
        let from = world.newest(0);
        world.run_for(secs(3600));
        let peer = world.peer(viewer);
        assert!(is_contiguous(peer, from));
        let live = peer.shown.iter().position(|s| s.number == from).unwrap();
        let slip = worst_slip(&peer.shown[live..]);
        println!("{ppm} ppm: {slip:?} off after an hour");
        assert!(slip <= ms(20), "{slip:?}");
    }
}

#[test]
fn a_camera_whose_clock_jumps_is_anchored_anew() {
    // Ticks that its clock leaps; it goes on streaming all the while.
    for leap in [-3600, -2, 15, 86_400, 3_000_000]
        .map(|s| s * 90_000)
        .into_iter()
        .chain([-30_000])
    {
        let mut world = World::passthrough(5);
        let viewer = world.watch(0);
        world.run_for(secs(3));
        let from = world.peer(viewer).shown.last().unwrap().number;
        world.cameras[0].clock_base += leap;
        world.run_for(secs(10));
        let peer = world.peer(viewer);
        assert!(is_contiguous(peer, from));
        let live = peer.shown.iter().position(|s| s.number == from).unwrap();
        let slip = worst_slip(&peer.shown[live..]);
        assert!(slip <= ms(20), "leap {leap}: {slip:?}");
    }
}

#[test]
fn rollovers_of_sequence_and_time_pass_unseen() {
    // 14 hours: 90 kHz wrap 32 bits after 13.3 hours, three packets a second 16 bits after 6.
    let mut world = World::passthrough(6);
    let camera = &mut world.cameras[0];
    (camera.fps, camera.gop) = (1.0, 10);
    (camera.key_bytes, camera.delta_bytes) = (3000, 2500);
    // The camera's own 32 bits wrap as well.
    camera.clock_base = (1 << 32) - 90_000 * 3600;
    world.run_for(secs(2));
    let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
    world.run_for(secs(1));
    let from = world.newest(0);
    world.run_for(secs(14 * 3600));
    let peer = world.peer(viewer);
    assert!(is_contiguous(peer, from), "no picture is missing");
    assert!(peer.received_packets > 2 * 65_536);
    let wraps = |pair: &&[Shown]| pair[1].rtp_time < pair[0].rtp_time;
    assert!(peer.shown.windows(2).any(|pair| wraps(&pair)), "it wrapped");
    assert_eq!(peer.plis, 0);
    let live = peer.shown.iter().position(|s| s.number == from).unwrap();
    let slip = worst_slip(&peer.shown[live..]);
    assert!(slip <= ms(20), "{slip:?}");
}

#[test]
fn an_on_demand_camera_opens_with_the_first_and_closes_after_the_last() {
    let mut config = config(1);
    config.cameras[0].on_demand = true;
    config.cameras[0].linger = secs(5);
    let mut world = World::new(7, config, Camera::new);
    world.run_for(secs(60));
    assert_eq!(world.cameras[0].opened, 0, "nobody watches");
    assert_eq!(world.status(0).state, "idle");
    let posted = world.now;
    let viewer = world.watch(0);
    let first = world.peer(viewer).shown[0].at;
    println!("cold start {:?}", first - posted);
    assert_eq!(world.cameras[0].opened, 1);
    world.leave(viewer);
    world.run_for(ms(4900));
    assert!(world.cameras[0].is_playing(), "it lingers");
    let viewer = world.watch(0);
    assert_eq!(world.cameras[0].opened, 1, "it was open still");
    world.leave(viewer);
    world.run_for(ms(5100));
    assert!(!world.cameras[0].is_playing());
    assert_eq!((world.cameras[0].opened, world.cameras[0].closed), (1, 1));
    assert_eq!(world.status(0).state, "idle");
}

#[test]
fn a_thousand_random_joins_and_leaves_leave_no_camera_open() {
    let mut config = config(2);
    for camera in &mut config.cameras {
        camera.on_demand = true;
        camera.linger = secs(2);
    }
    let mut world = World::new(8, config, |start| {
        let mut camera = Camera::new(start);
        (camera.fps, camera.key_bytes, camera.delta_bytes) = (5.0, 2000, 300);
        camera
    });
    let mut rng = StdRng::seed_from_u64(8);
    for _ in 0..1000 {
        let quality = match rng.random_bool(0.1) {
            true => Quality::with_loss(1.0),
            false => Quality::PERFECT,
        };
        if world.viewers.len() < 12 {
            // Some are refused as half-open: that is an answer too.
            let camera = rng.random_range(0..2);
            let _ = world.try_join(camera, Habits::BROWSER, quality);
        }
        world.run_for(ms(rng.random_range(0..800)));
        if rng.random_bool(0.7) && !world.viewers.is_empty() {
            let viewer = rng.random_range(0..world.viewers.len());
            match rng.random_range(0..3) {
                0 if world.peer(viewer).is_connected => world.leave(viewer),
                _ => drop(world.delete(viewer)),
            }
        }
        world.forget_closed();
        world.run_for(ms(rng.random_range(0..800)));
        for i in 0..2 {
            let camera = &world.cameras[i];
            let open = camera.opened - camera.closed;
            assert!(open <= 1, "opened twice");
            let is_watched = world.status(i).viewers > 0;
            assert!(open == 1 || !is_watched, "watched and closed");
        }
    }
    println!(
        "{} joined, opened {}",
        world.joined, world.cameras[0].opened
    );
    for viewer in 0..world.viewers.len() {
        world.delete(viewer);
    }
    world.run_for(secs(40));
    for camera in &world.cameras {
        assert_eq!(camera.opened, camera.closed);
    }
    assert_eq!(world.gateway.footprint(), Default::default());
}

#[test]
fn b_frames_are_recognised_and_said() {
    let mut world = World::passthrough(9);
    world.run_for(secs(1));
    assert!(!world.status(0).has_b_frames);
    world.cameras[0].has_b_slices = true;
    world.run_for(secs(1));
    assert!(world.status(0).has_b_frames);
    world.kill_camera(0, secs(1));
    world.cameras[0].has_b_slices = false;
    world.revive_camera(0);
    world.run_for(secs(5));
    assert!(!world.status(0).has_b_frames, "of this run only");
}

#[test]
fn what_the_api_says_of_a_camera_is_so() {
    let mut world = World::passthrough(10);
    world.run_for(secs(10));
    let status = world.status(0);
    assert_eq!(status.state, "playing");
    assert_eq!((status.width, status.height), (Some(1280), Some(720)));
    assert_eq!(status.profile_level.as_deref(), Some("42c01f"));
    assert!((status.fps - 30.0).abs() < 0.5, "{}", status.fps);
    let bits = (12_000 * 119 + 60_000) * 8 / 4;
    assert!(
        status.bitrate.abs_diff(bits) < bits / 10,
        "{}",
        status.bitrate
    );
    assert_eq!(status.key_frame_interval_ms, Some(4000));
    assert!(!status.can_force_key_frame);
    world.kill_camera(0, secs(8));
    world.run_for(secs(3));
    let status = world.status(0);
    assert_eq!((status.state, status.reason), ("down", Some("unreachable")));
    assert_eq!(status.since_ms, 3000);
    assert_eq!(status.retry_in_ms, Some(5000));
    assert!(status.last_picture_ms.is_some_and(|age| age >= 3000));
    assert_eq!(world.gateway.health().cameras_down, 1);
    // Another attempt that fails for the same reason is no news.
    world.tell(0, SourceEvent::Opening);
    world.kill_camera(0, secs(8));
    world.run_for(secs(1));
    assert_eq!(world.status(0).since_ms, 4000);
}

#[test]
fn a_type_chosen_for_a_profile_is_kept_when_the_camera_changes_its_own() {
    for (profile, pt) in [([0x42, 0xc0], 107), ([0x42, 0], 103), ([0x4d, 0], 109)] {
        let mut world = World::passthrough(11);
        world.kill_camera(0, secs(1));
        world.cameras[0].profile = profile;
        world.revive_camera(0);
        let viewer = world.watch(0);
        assert_eq!(world.peer(viewer).payload_types, [pt], "{profile:02x?}");
        world.kill_camera(0, secs(1));
        world.cameras[0].profile = [0x4d, 0x40];
        world.revive_camera(0);
        world.run_for(secs(2));
        let peer = world.peer(viewer);
        assert_eq!(peer.payload_types, [pt]);
        assert!(peer.shown.last().unwrap().number + 2 > world.newest(0));
    }
}

/// A camera or recorder that hands over its cached group when it is asked to play.
#[test]
fn a_burst_at_the_start_of_a_run_gives_each_picture_its_own_time() {
    let mut world = World::passthrough(9);
    let viewer = world.watch(0);
    world.kill_camera(0, secs(5));
    world.run_for(secs(2));
    world.peer_mut(viewer).shown.clear();
    for event in world.cameras[0].open(world.now) {
        world.tell(0, event);
    }
    for _ in 0..30 {
        let event = world.cameras[0].take(world.now);
        world.tell(0, event);
    }
    world.run_for(secs(2));
    let shown = &world.peer(viewer).shown;
    assert!(shown.len() >= 60, "{} shown", shown.len());
    for pair in shown.windows(2) {
        let ticks = pair[1].rtp_time.wrapping_sub(pair[0].rtp_time);
        assert!((1..=6000).contains(&ticks), "{pair:?}");
    }
}
