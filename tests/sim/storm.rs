//! Too much of everything: requests, viewers, garbage, bits.

use std::net::SocketAddr;
use std::time::Duration;

use pinhole::gateway::Footprint;
use pinhole::whep::{Command, Outcome, Refusal};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::camera::Camera;
use crate::link::Quality;
use crate::memory;
use crate::peer::Habits;
use crate::world::{World, config};
use crate::{ms, secs};

fn crowd(world: &mut World, viewers: usize) {
    world.run_for(ms(4500));
    for _ in 0..viewers {
        world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(70));
    }
    world.run_for(secs(1));
}

fn longest_gap(world: &World, viewer: usize, span: Duration) -> Duration {
    world.peer(viewer).longest_gap(world.now - span, world.now)
}

#[test]
fn a_storm_of_plis_costs_a_forcing_camera_one_key_frame_per_spacing() {
    let mut world = World::forcing(1);
    crowd(&mut world, 20);
    let forced = world.cameras[0].forced;
    for _ in 0..500 {
        for viewer in 0..20 {
            world.request_key_frame(viewer);
        }
        world.run_for(ms(10));
    }
    let forced = world.cameras[0].forced - forced;
    println!("{forced} forced in 5 s");
    assert!((8..=11).contains(&forced), "{forced}");
    let keys = world.peer(0).shown.iter().filter(|s| s.is_key_frame);
    let times: Vec<_> = keys.map(|s| s.at).collect();
    for pair in times.windows(2).skip(1) {
        assert!(pair[1] - pair[0] >= ms(499), "{:?}", pair[1] - pair[0]);
    }
    for viewer in 0..20 {
        assert!(longest_gap(&world, viewer, secs(5)) <= ms(100));
    }
}

#[test]
fn a_storm_of_plis_is_replayed_once_per_group_and_viewer() {
    let mut world = World::passthrough(2);
    crowd(&mut world, 20);
    let joins = world.counters().replays;
    assert_eq!(joins, 20);
    let sent = world.sent;
    world.run_for(secs(8));
    let calm = world.sent - sent;
    let sent = world.sent;
    for _ in 0..80 {
        for viewer in 0..20 {
            world.request_key_frame(viewer);
        }
        world.run_for(ms(100));
    }
    let storm = world.sent - sent;
    let replays = world.counters().replays - joins;
    println!("{replays} replays; {storm} datagrams for {calm} without the storm");
    assert!(replays <= 20 * 3, "two key frames came: {replays}");
    assert!(storm < calm * 2 + calm / 4);
    world.run_for(secs(2));
    for viewer in 0..20 {
        let last = world.peer(viewer).shown.last().unwrap().number;
        assert!(world.newest(0) - last <= 1, "live again");
    }
}

#[test]
fn a_viewer_that_asks_for_everything_again_does_not_multiply_what_is_sent() {
    let mut world = World::passthrough(3);
    crowd(&mut world, 2);
    world.viewers[0].down.quality.loss = 0.6;
    let before: Vec<u64> = world.viewers.iter().map(|v| v.down.sent_bytes).collect();
    for _ in 0..1000 {
        world.request_key_frame(0);
        world.run_for(ms(20));
    }
    let spent = |i: usize| world.viewers[i].down.sent_bytes - before[i];
    let (hostile, good) = (spent(0), spent(1));
    println!("hostile {hostile} bytes, good {good} bytes");
    // Once for the pictures, once for repairs, and a replay per group.
    assert!(hostile < good * 4, "{hostile} {good}");
    assert!(longest_gap(&world, 1, secs(20)) <= ms(70));
}

#[test]
fn nacks_that_come_all_at_once_are_answered_within_a_bound() {
    let mut world = World::passthrough(3);
    (world.cameras[0].fps, world.cameras[0].delta_bytes) = (60.0, 24_000);
    crowd(&mut world, 2);
    // What it asks for piles up on the way: the same hundred packets again and again.
    world.viewers[0].up.held_until = Some(world.now + ms(501));
    for _ in 0..10 {
        world.viewers[0].down.lose_next = 60;
        world.run_for(ms(50));
    }
    world.viewers[0].up.held_until = None;
    let before: Vec<u64> = world.viewers.iter().map(|v| v.down.sent_bytes).collect();
    world.run_for(ms(1));
    let sent = |i: usize| world.viewers[i].down.sent_bytes - before[i];
    let dropped = world.counters().drops.repairs;
    println!("{} bytes at once, {dropped} dropped", sent(0));
    assert!(sent(0) > 100_000, "it did ask: {}", sent(0));
    // 256 packets, and one picture.
    assert!(sent(0) <= 400_000, "{}", sent(0));
    assert!(dropped > 0);
    let since = world.now;
    world.run_for(secs(3));
    let gap = world.peer(0).longest_gap(since, world.now);
    assert!(gap <= ms(600), "it gets the group in their place: {gap:?}");
    assert!(longest_gap(&world, 1, secs(3)) <= ms(70));
}

#[test]
fn repairs_count_for_the_common_egress() {
    let mut config = config(1);
    // What four viewers need, and nothing for repairs.
    config.limits.egress = 12_500_000;
    config.limits.queue = 256 << 10;
    let mut world = World::new(8, config, Camera::new);
    for _ in 0..4 {
        world.join(0, Habits::BROWSER, Quality::PERFECT);
    }
    world.run_for(secs(5));
    for viewer in &mut world.viewers {
        viewer.down.quality.loss = 0.3;
    }
    let sent = |world: &World| world.viewers.iter().map(|v| v.down.sent_bytes).sum::<u64>();
    let before = sent(&world);
    world.run_for(secs(20));
    let bits = (sent(&world) - before) * 8 / 20;
    let repairs: u64 = world.sessions().iter().map(|s| s.repairs).sum();
    println!("{bits} bit/s, {repairs} repairs");
    assert!(repairs > 1000, "{repairs}");
    assert!(bits <= 13_500_000, "{bits}");
}

#[test]
fn a_viewer_that_falls_silent_is_ended_and_its_memory_freed() {
    let mut world = World::passthrough(4);
    crowd(&mut world, 3);
    let before = world.gateway.footprint();
    // Its process hangs: nothing is read, nothing is said.
    world.viewers[1].peer.is_deaf = true;
    world.viewers[1].up.quality.loss = 1.0;
    let since = world.now;
    let ok = world.run_while(secs(60), |w| w.sessions().len() == 3);
    assert!(ok, "it was never ended");
    println!("ended after {:?}", world.now - since);
    assert!(world.now - since <= secs(40));
    let counters = world.counters();
    assert_eq!((counters.sessions_lost, counters.sessions_failed), (1, 0));
    let after = world.gateway.footprint();
    assert_eq!((after.viewers, after.watching), (2, 2));
    assert!(after.addresses < before.addresses && after.ufrags < before.ufrags);
    world.run_for(secs(5));
    for viewer in [0, 2] {
        let gap = longest_gap(&world, viewer, world.now - since);
        assert!(gap <= ms(70), "{gap:?}");
    }
    let key = world.viewers[1].key;
    let outcome = world.command(Command::Close { session: key });
    assert!(matches!(outcome, Outcome::Refused(Refusal::UnknownSession)));
}

fn refused_by(world: &mut World, camera: usize) -> &'static str {
    match world.try_join(camera, Habits::BROWSER, Quality::PERFECT) {
        Err(Refusal::OverLimit { limit, retry_after }) => {
            assert!(retry_after >= secs(1));
            limit
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was admitted"),
    }
}

#[test]
fn joins_past_each_limit_are_refused_until_somebody_leaves() {
    let mut config = config(3);
    config.limits.viewers = 7;
    config.limits.viewers_per_camera = 4;
    config.limits.half_open = 3;
    config.cameras[1].max_viewers = Some(2);
    let mut world = World::new(5, config, Camera::new);
    world.run_for(secs(1));
    // Three at once are half-open, a fourth has to wait.
    let silent = Quality {
        loss: 1.0,
        ..Quality::PERFECT
    };
    for _ in 0..3 {
        world.join(2, Habits::BROWSER, silent);
    }
    assert_eq!(refused_by(&mut world, 2), "limits.half_open");
    assert_eq!(world.counters().refused_half_open, 1);
    world.run_for(secs(14));
    assert_eq!(refused_by(&mut world, 2), "limits.half_open");
    world.run_for(secs(2));
    assert_eq!(world.counters().sessions_half_open_reaped, 3);
    assert_eq!(world.gateway.footprint(), Footprint::default());
    world.viewers.clear();

    for camera in [0, 0, 0, 0, 1, 1] {
        world.join(camera, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(300));
    }
    assert_eq!(refused_by(&mut world, 0), "limits.viewers_per_camera");
    assert_eq!(refused_by(&mut world, 1), "camera.max_viewers");
    assert_eq!(world.counters().refused_viewers_per_camera, 2);
    world.join(2, Habits::BROWSER, Quality::PERFECT);
    assert_eq!(refused_by(&mut world, 2), "limits.viewers");
    assert_eq!(world.counters().refused_viewers, 1);
    world.run_for(secs(1));
    world.leave(0);
    world.run_for(ms(100));
    let late = world.watch(0);
    assert_eq!(late, 7);
    for viewer in 1..8 {
        let last = world.peer(viewer).shown.last().expect("a picture").at;
        assert!(world.now - last <= ms(70), "{viewer} plays on");
    }
}

#[test]
fn a_session_that_panics_costs_nobody_else_anything() {
    let mut world = World::passthrough(11);
    crowd(&mut world, 3);
    let since = world.now;
    world.break_session(1);
    world.run_for(secs(5));
    assert_eq!(world.counters().sessions_panicked, 1);
    let held = world.gateway.footprint();
    assert_eq!((held.viewers, held.watching, held.ufrags), (2, 2, 2));
    for viewer in [0, 2] {
        let gap = world.peer(viewer).longest_gap(since, world.now);
        assert!(gap <= ms(70), "{gap:?}");
    }
    world.watch(0);
}

#[test]
fn a_viewer_that_panics_leaves_an_on_demand_camera_its_linger() {
    let mut config = config(1);
    config.cameras[0].on_demand = true;
    config.cameras[0].linger = secs(5);
    let mut world = World::new(7, config, Camera::new);
    world.watch(0);
    world.run_for(secs(20));
    world.break_session(0);
    world.run_for(secs(4));
    assert!(world.cameras[0].is_playing(), "somebody may come back");
    world.run_for(secs(2));
    assert!(!world.cameras[0].is_playing());
    assert_eq!(world.gateway.footprint(), Footprint::default());
}

#[test]
fn a_session_ends_at_its_age() {
    let mut config = config(1);
    config.limits.session_age = Some(secs(120));
    let mut world = World::new(6, config, Camera::new);
    let viewer = world.watch(0);
    world.run_for(secs(118));
    assert!(!world.peer(viewer).is_closed);
    world.run_for(secs(2));
    assert!(world.peer(viewer).is_closed, "by a DTLS close");
    assert_eq!(world.counters().sessions_expired, 1);
    assert_eq!(world.gateway.footprint(), Footprint::default());
}

#[test]
fn a_viewer_on_too_thin_a_share_sees_whole_groups_and_bounded_age() {
    let mut config = config(1);
    // The stream takes 3.1 Mbit/s.
    config.limits.egress_per_viewer = 2_000_000;
    config.limits.queue = 256 << 10;
    let mut world = World::new(7, config, Camera::new);
    world.run_for(ms(100));
    let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
    let mut most = 0;
    for _ in 0..600 {
        world.run_for(ms(100));
        most = most.max(world.sessions()[0].queued_bytes);
    }
    let bits = world.viewers[viewer].down.sent_bytes * 8 / 60;
    let skips = world.sessions()[0].skips;
    let gap = longest_gap(&world, viewer, secs(50));
    println!("{skips} skips, at most {most} bytes queued, {bits} bit/s, longest gap {gap:?}");
    assert!(skips > 0 && skips == world.counters().skips);
    // The queue, and a replay at most.
    assert!(most <= (256 << 10) + 1_600_000, "{most}");
    assert!(bits <= 2_100_000, "{bits}");
    assert!(gap <= ms(4500), "a group at most: {gap:?}");
    assert_eq!(world.peer(viewer).plis, 0, "it always has something");
    let counters = world.counters();
    assert!(counters.held_by_own_pace > 0 && counters.held_by_egress == 0);
}

#[test]
fn the_common_egress_is_shared_fairly() {
    let mut config = config(1);
    // Eight viewers of 3.1 Mbit/s share half of what they need.
    config.limits.egress = 12_500_000;
    config.limits.queue = 256 << 10;
    let mut world = World::new(8, config, Camera::new);
    for _ in 0..8 {
        world.join(0, Habits::BROWSER, Quality::PERFECT);
    }
    world.run_for(secs(5));
    let (sent, turns) = (world.sent, world.turns);
    let before: Vec<u64> = world.viewers.iter().map(|v| v.down.sent_bytes).collect();
    world.run_for(secs(30));
    let spent = |i: usize| world.viewers[i].down.sent_bytes - before[i];
    let shares: Vec<u64> = (0..8).map(spent).collect();
    let bits = shares.iter().sum::<u64>() * 8 / 30;
    let turns_per_second = (world.turns - turns) / 30;
    println!(
        "{bits} bit/s, shares {shares:?}, {turns_per_second} turns/s, {} sent",
        world.sent - sent
    );
    assert!(bits <= 13_500_000, "{bits}");
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most / least.max(&1) <= 3, "{shares:?}");
    for viewer in 0..8 {
        let gap = longest_gap(&world, viewer, secs(30));
        assert!(gap <= ms(8500), "{viewer}: {gap:?}");
    }
    assert!(turns_per_second < 6000, "no spinning: {turns_per_second}");
    assert!(world.counters().held_by_egress > 0);
}

fn garbage(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..300)];
    rng.fill_bytes(&mut bytes);
    if let Some(first) = bytes.first_mut() {
        // STUN, DTLS, RTP, or whatever.
        *first = [0, 1, 22, 21, 23, 128, 144, *first][rng.random_range(0..8)];
    }
    if bytes.len() > 24 && bytes[0] <= 1 && rng.random_bool(0.5) {
        bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        let len = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
    }
    bytes
}

#[test]
fn garbage_from_a_thousand_addresses_disturbs_nobody() {
    let mut world = World::passthrough(9);
    crowd(&mut world, 2);
    let before = world.gateway.footprint();
    let known = world.counters().datagrams_unknown;
    let mut rng = StdRng::seed_from_u64(9);
    let since = world.now;
    for i in 0..50_000u32 {
        let from = SocketAddr::from(([198, 51, (i % 4) as u8, (i % 250) as u8], 4000));
        world.inject(from, &garbage(&mut rng));
        if i % 10 == 0 {
            world.run_for(Duration::from_micros(200)); // 50,000 a second
        }
    }
    for viewer in 0..2 {
        let gap = world.peer(viewer).longest_gap(since, world.now);
        assert!(gap <= ms(70), "{gap:?}");
    }
    assert_eq!(world.counters().datagrams_unknown - known, 50_000);
    let after = world.gateway.footprint();
    assert_eq!(
        (after.addresses, after.ufrags),
        (before.addresses, before.ufrags)
    );
}

#[test]
fn garbage_from_a_viewers_own_address_does_not_end_it() {
    let mut world = World::passthrough(10);
    crowd(&mut world, 1);
    let from = world.peer(0).address;
    let mut rng = StdRng::seed_from_u64(10);
    let since = world.now;
    let alerts: [&[u8]; 3] = [
        // Plaintext alerts of epoch 0: close_notify, fatal handshake_failure; a bare ClientHello.
        &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0],
        &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2, 40],
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 11, 0, 1, 1],
    ];
    let tapped = world.viewers[0].up.tap.clone();
    for i in 0..5000 {
        let bytes = match i % 4 {
            0 => alerts[i / 4 % 3].to_vec(),
            // What it said itself, again or damaged.
            1 => tapped[i / 4 % tapped.len()].clone(),
            2 => {
                let mut bytes = tapped[i / 4 % tapped.len()].clone();
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
                bytes
            }
            _ => garbage(&mut rng),
        };
        world.inject(from, &bytes);
        world.run_for(ms(1));
    }
    assert_eq!(world.sessions().len(), 1, "it is still there");
    let gap = world.peer(0).longest_gap(since, world.now);
    assert!(gap <= ms(70), "{gap:?}");
}

#[test]
fn requests_repeated_from_elsewhere_do_not_cut_a_viewer_off() {
    let mut world = World::passthrough(1);
    let viewer = world.watch(0);
    let is_request = |bytes: &&Vec<u8>| bytes.starts_with(&[0, 1]);
    let heard = world.viewers[viewer].up.tap.iter().find(is_request);
    let heard = heard.expect("a check").clone();
    // What the viewer reports, and what it misses, comes from its address alone.
    world.viewers[viewer].down.quality = Quality::with_loss(0.02);
    let (unknown, repairs) = (
        world.counters().datagrams_unknown,
        world.sessions()[0].repairs,
    );
    for round in 0..200_u16 {
        for host in 0..20 {
            let from = SocketAddr::from(([203, 0, 113, host], 1000 + round));
            world.inject(from, &heard);
        }
        world.run_for(ms(50));
    }
    assert_eq!(world.counters().datagrams_unknown, unknown);
    let repairs = world.sessions()[0].repairs - repairs;
    println!("{repairs} repairs in 10 s");
    assert!(repairs >= 10, "{repairs}");
    let gap = longest_gap(&world, viewer, secs(10));
    assert!(gap <= ms(300), "{gap:?}");
    assert!(world.gateway.footprint().addresses <= 8);
}

#[test]
fn requests_repeated_from_everywhere_leave_nothing_behind() {
    let mut world = World::passthrough(1);
    let viewer = world.watch(0);
    let is_request = |bytes: &&Vec<u8>| bytes.starts_with(&[0, 1]);
    let heard = world.viewers[viewer].up.tap.iter().find(is_request);
    let heard = heard.expect("a check").clone();
    let repeat = |world: &mut World, hosts: std::ops::Range<u32>| {
        for host in hosts {
            let [_, a, b, c] = host.to_be_bytes();
            world.inject(SocketAddr::from(([11 + a, b, c, 1], 5000)), &heard);
            if host % 10 == 0 {
                world.run_for(ms(1));
            }
        }
    };
    repeat(&mut world, 0..2000);
    let before = memory::live();
    repeat(&mut world, 2000..22_000);
    let more = memory::live() - before;
    println!("{more} bytes more after another 20,000 addresses");
    // Its packets for repair are among them; 20,000 candidates were 32 MB.
    assert!(more < 4_000_000, "{more}");
    assert!(world.counters().drops.candidates >= 20_000);
    world.run_for(secs(10));
    assert!(longest_gap(&world, viewer, secs(10)) <= ms(70));
}

#[test]
fn a_viewer_with_another_certificate_than_it_offered_is_ended_at_once() {
    let mut world = World::passthrough(1);
    let habits = Habits {
        is_impostor: true,
        ..Habits::BROWSER
    };
    world.join(0, habits, Quality::PERFECT);
    world.run_for(secs(1));
    assert_eq!(world.counters().sessions_failed, 1);
    assert_eq!(world.counters().sessions_connected, 0);
    assert_eq!(world.gateway.footprint().viewers, 0);
}

#[test]
fn garbage_during_the_handshake_does_not_end_it() {
    for seed in 0..20 {
        let mut world = World::passthrough(100 + seed);
        world.run_for(secs(1));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        let from = world.peer(viewer).address;
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            world.inject(from, &garbage(&mut rng));
            world.run_for(Duration::from_micros(250));
        }
        world.run_for(secs(3));
        let shown = world.peer(viewer).shown.len();
        assert!(shown > 0, "seed {seed}: {:?}", world.counters());
    }
}
