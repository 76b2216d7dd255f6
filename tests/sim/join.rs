//! Joins: at every point of a group of pictures, over bad starts, and while the camera is away.

use std::time::Duration;

use crate::link::Quality;
use crate::peer::{Habits, Peer};
use crate::world::{World, config};
use crate::{ms, secs};

/// Every picture's RTP time is the camera's own spacing, to a tick or two.
fn assert_original_times(peer: &Peer) {
    for pair in peer.shown.windows(2) {
        let pictures = pair[1].number - pair[0].number;
        let ticks = pair[1].rtp_time.wrapping_sub(pair[0].rtp_time);
        let off = i64::from(ticks) - pictures as i64 * 3000;
        assert!(off.abs() <= 20, "picture {}: {ticks} ticks", pair[1].number);
    }
}

#[test]
fn a_join_anywhere_in_a_four_second_group_shows_a_picture_at_once() {
    let mut took = Vec::new();
    for step in 0..40 {
        let mut world = World::passthrough(step);
        world.run_for(ms(5000 + step * 100));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(1500));
        let peer = world.peer(viewer);
        let first = peer.shown.first().expect("a picture");
        assert!(first.is_key_frame);
        assert_eq!(first.number % 120, 0);
        took.push(first.at - world.viewers[viewer].posted);
        let last = peer.shown.last().unwrap();
        assert!(world.newest(0) - last.number <= 1, "live");
        assert_eq!(peer.plis, 0);
        assert_original_times(peer);
        // The burst is in the past; on the live edge RTP time goes with the wall clock.
        let live = &peer.shown[peer.shown.len() - 20];
        let elapsed = (last.at - live.at).as_secs_f64() * 90_000.0;
        let ticks = f64::from(last.rtp_time.wrapping_sub(live.rtp_time));
        assert!((elapsed - ticks).abs() < 90.0, "{elapsed} {ticks}");
    }
    took.sort();
    // ICE and DTLS take some round trips of 10 ms each.
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("first picture {median:?} median, {worst:?} worst");
    assert!(median <= ms(100), "{median:?}");
    assert!(worst <= ms(150), "{worst:?}");
}

#[test]
fn a_replay_does_not_count_as_late_pictures() {
    let mut world = World::passthrough(1);
    world.run_for(ms(8000 + 3500));
    world.join(0, Habits::BROWSER, Quality::PERFECT);
    world.run_for(secs(1));
    let sent = world.status(0).stages.sent;
    assert!((20..=30).contains(&sent.count()), "{}", sent.count());
    assert!(sent.longest() <= ms(20), "{:?}", sent.longest());
    world.run_for(secs(1));
    assert_eq!(world.status(0).stages.sent.count(), sent.count() + 30);
}

#[test]
fn the_burst_of_a_join_is_paced_and_live_soon() {
    let mut world = World::passthrough(1);
    world.run_for(ms(8000 + 3500));
    let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
    let mut sent = Vec::new();
    for _ in 0..1000 {
        let before = world.viewers[viewer].down.sent;
        world.run_for(ms(1));
        sent.push(world.viewers[viewer].down.sent - before);
        let newest = world.newest(0);
        if world
            .peer(viewer)
            .shown
            .last()
            .is_some_and(|s| s.number + 1 >= newest)
        {
            break;
        }
    }
    let live = world.now - world.viewers[viewer].posted;
    let burst = sent.iter().position(|packets| *packets > 20).unwrap();
    let most = sent[burst];
    // Without the burst; 50 Mbit/s are 5 packets of 1,260 bytes in a millisecond.
    let paced = sent[burst + 1..]
        .windows(10)
        .map(|ten| ten.iter().sum::<u64>());
    let (steadily, sum) = (paced.max().unwrap(), sent[burst + 1..].iter().sum::<u64>());
    println!("live after {live:?}: {most} packets at once, then {steadily} in 10 ms at most");
    assert!(live <= ms(400), "{live:?}");
    assert!(most <= 80, "a burst of one GSO buffer: {most}");
    assert!(steadily <= 70, "and then a pace: {steadily}");
    assert!(sum >= 10 * steadily, "there was something to pace");
}

/// str0m's own timers (reports each second) fall into some of these bursts: they must not let more
/// of it leave than the pace allows.
#[test]
fn a_recovery_is_paced_whatever_timer_falls_into_it() {
    for step in 0..40 {
        let mut world = World::passthrough(step);
        world.cameras[0].delta_bytes = 20_000;
        world.run_for(ms(100 + step * 25));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_until(world.start + ms(3400));
        let before = world.counters();
        world.request_key_frame(viewer);
        let mut sent = Vec::new();
        for _ in 0..600 {
            let before = world.viewers[viewer].down.sent;
            world.run_for(ms(1));
            sent.push(world.viewers[viewer].down.sent - before);
        }
        let counters = world.counters();
        assert_eq!(counters.replays, before.replays + 1, "step {step}");
        assert!(sent.iter().sum::<u64>() > 1000, "a long burst");
        let most = sent.windows(10).map(|ten| ten.iter().sum::<u64>());
        // One buffer of GSO, and 5 packets a millisecond.
        let most = most.max().unwrap();
        assert!(most <= 64 + 70, "step {step}: {most} packets in 10 ms");
        assert_eq!(counters.drops.outputs, 0, "step {step}");
        let gap = world
            .peer(viewer)
            .longest_gap(world.now - ms(600), world.now);
        assert!(gap <= ms(150), "step {step}: {gap:?}");
    }
}

/// Joins in the middle of a group and loses `lost` media packets after the first `spared` ones.
fn join_with_a_bad_start(habits: Habits, spared: u64, lost: u64) -> (World, usize) {
    let mut world = World::passthrough(lost);
    // str0m as a receiver asks again for the last 100 packets only: the burst is kept small.
    world.cameras[0].key_bytes = 20_000;
    world.cameras[0].delta_bytes = 900;
    world.run_for(ms(5000));
    let viewer = world.join(0, habits, Quality::PERFECT);
    world.viewers[viewer].down.spare_next = spared;
    world.viewers[viewer].down.lose_next = lost;
    world.run_for(ms(1500));
    assert_eq!(world.viewers[viewer].down.lose_next, 0, "they were lost");
    let peer = world.peer(viewer);
    let first = peer.shown.first().expect("a picture");
    let took = first.at - world.viewers[viewer].posted;
    println!(
        "spared {spared} lost {lost}: first picture {took:?}, {} PLI",
        peer.plis
    );
    assert!(took <= ms(500), "{took:?}");
    let last = peer.shown.last().unwrap();
    assert!(world.newest(0) - last.number <= 1, "live");
    (world, viewer)
}

#[test]
fn a_first_key_frame_that_is_lost_in_part_is_repaired() {
    for spared in [1, 5, 10] {
        let (world, viewer) = join_with_a_bad_start(Habits::BROWSER, spared, 8);
        assert_eq!(world.counters().replays, 1, "resent, not replayed");
        assert!(world.sessions()[0].repairs >= 8);
        assert_eq!(world.peer(viewer).plis, 0);
    }
}

#[test]
fn a_viewer_that_cannot_be_repaired_gets_the_group_again() {
    let (world, _) = join_with_a_bad_start(Habits::WITHOUT_RTX, 1, 10);
    assert_eq!(world.counters().unrepairable_losses, 1);
    assert_eq!(world.counters().replays, 2);
}

#[test]
fn a_first_key_frame_that_never_comes_is_asked_for_again() {
    // Nothing tells a viewer that it missed the very first packets: only the PLI does.
    for habits in [Habits::BROWSER, Habits::WITHOUT_RTX] {
        let (world, _) = join_with_a_bad_start(habits, 0, 20);
        assert_eq!(world.counters().replays, 2);
        assert!(world.counters().key_frame_requests >= 1);
    }
}

#[test]
fn a_slow_viewer_gets_a_still_and_then_the_next_key_frame() {
    let mut config = config(1);
    config.limits.egress_per_viewer = 4_000_000;
    let mut world = World::new(3, config, crate::camera::Camera::new);
    world.run_for(ms(8000 + 3300));
    let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
    world.run_for(ms(500));
    let peer = world.peer(viewer);
    assert_eq!(peer.shown.len(), 1, "the still alone");
    let took = peer.shown[0].at - world.viewers[viewer].posted;
    assert!(took <= ms(250), "{took:?}");
    world.run_for(ms(1000));
    let peer = world.peer(viewer);
    assert_eq!(peer.shown[0].number, 240);
    assert_eq!(peer.shown[1].number, 360, "then the next key frame");
    assert!(world.newest(0) - peer.shown.last().unwrap().number <= 3);
    assert_eq!((world.counters().stills, peer.plis), (1, 0));
}

#[test]
fn a_group_past_its_bound_is_a_still_too() {
    let mut config = config(1);
    config.cameras[0].gop_cache = 100_000;
    let mut world = World::new(4, config, crate::camera::Camera::new);
    world.run_for(ms(6000));
    let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
    world.run_for(ms(3000));
    let numbers: Vec<_> = world.peer(viewer).shown.iter().map(|s| s.number).collect();
    assert_eq!(numbers[..3], [120, 240, 241]);
    assert_eq!(world.counters().stills, 1);
}

#[test]
fn a_forcing_camera_gives_a_join_its_next_picture() {
    let mut worst = Duration::ZERO;
    for step in 0..20 {
        let mut world = World::forcing(step);
        world.run_for(ms(3000 + step * 13));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(400));
        let peer = world.peer(viewer);
        let first = peer.shown.first().expect("a picture");
        worst = worst.max(first.at - peer.connected_at.unwrap());
        assert!(first.is_key_frame);
        assert!(world.newest(0) - peer.shown.last().unwrap().number <= 1);
        assert_eq!(world.cameras[0].forced, 1);
    }
    println!("{worst:?} after the connection");
    assert!(
        worst <= ms(34 + 10),
        "a frame interval and a way: {worst:?}"
    );
}

#[test]
fn two_joins_within_the_spacing_cost_one_key_frame() {
    for gop_cache in [8 << 20, 0, 80_000] {
        let mut config = config(1);
        config.cameras[0].gop_cache = gop_cache;
        let mut world = World::new(5, config, crate::camera::Camera::forcing);
        world.run_for(ms(3000));
        let first = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(200));
        let second = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(1000));
        assert!(!world.peer(first).shown.is_empty());
        let shown = &world.peer(second).shown;
        let took = shown.first().expect("a picture").at - world.viewers[second].posted;
        println!(
            "gop_cache {gop_cache}: {took:?}, {} forced",
            world.cameras[0].forced
        );
        let is_whole = gop_cache == 8 << 20;
        assert_eq!(world.cameras[0].forced, if is_whole { 1 } else { 2 });
        assert!(took <= if is_whole { ms(100) } else { ms(600) }, "{took:?}");
        assert!(world.newest(0) - shown.last().unwrap().number <= 1, "live");
    }
}

#[test]
fn a_join_while_the_camera_is_down_waits_and_plays() {
    for can_force in [false, true] {
        let mut world = match can_force {
            true => World::forcing(6),
            false => World::passthrough(6),
        };
        world.run_for(ms(2000));
        world.kill_camera(0, secs(60));
        world.run_for(ms(500));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(secs(50));
        let peer = world.peer(viewer);
        assert!(peer.is_connected && !peer.is_closed);
        assert_eq!(peer.received_packets, 0);
        assert_eq!(world.sessions()[0].state, "waiting");
        let status = world.status(0);
        assert_eq!((status.state, status.viewers), ("down", 1));
        world.revive_camera(0);
        let back = world.now;
        world.run_for(ms(500));
        let peer = world.peer(viewer);
        let took = peer.shown.first().expect("a picture").at - back;
        println!("picture {took:?} after the camera's return");
        assert!(took <= ms(50), "{took:?}");
        assert_eq!(world.sessions()[0].state, "playing");
    }
}
