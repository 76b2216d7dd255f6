//! Long runs: nothing grows, nothing is forgotten, nobody waits.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::camera::Camera;
use crate::link::Quality;
use crate::memory;
use crate::peer::Habits;
use crate::world::{World, config};
use crate::{ms, secs};

/// One round: two simulated hours of viewers that come and go and a camera that dies now and then.
fn churn(world: &mut World, rng: &mut StdRng, watcher: usize) {
    for turn in 0..24 {
        world.run_for(secs(rng.random_range(60..240)));
        let quality = match rng.random_range(0..4) {
            0 => Quality::with_loss(0.05),
            1 => Quality::with_loss(1.0),
            _ => Quality::PERFECT,
        };
        let guest = world.join(0, Habits::BROWSER, quality);
        world.run_for(secs(rng.random_range(20..120)));
        match rng.random_range(0..3) {
            0 if world.peer(guest).is_connected => world.leave(guest),
            1 => drop(world.delete(guest)),
            _ => world.peer_mut(guest).is_closed = true, // vanishes without a word
        }
        world.forget_closed();
        if turn % 6 == 5 {
            world.kill_camera(0, secs(20));
            world.run_for(secs(20));
            world.cameras[0].clock_base = rng.random_range(0..1 << 32);
            world.revive_camera(0);
        }
        world.run_for(secs(2));
        let last = world.peer(watcher).shown.last().unwrap();
        let age = world.now - last.at;
        assert!(
            age <= ms(3100),
            "turn {turn}: the watcher saw nothing for {age:?}"
        );
        world.peer_mut(watcher).shown.clear();
    }
    world.run_for(secs(60)); // whoever vanished is gone by then
}

/// The processor time that this thread has had (kernel documentation, scheduler/sched-stats).
fn worked() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat");
    let said = said.expect("readable");
    let nanos = said.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

#[test]
fn a_day_of_comings_and_goings_leaves_nothing_behind() {
    let (begun, worked) = (Instant::now(), worked());
    let mut world = World::new(1, config(1), |start| {
        let mut camera = Camera::new(start);
        (camera.fps, camera.gop) = (1.0, 3);
        (camera.key_bytes, camera.delta_bytes) = (3000, 900);
        camera
    });
    let mut rng = StdRng::seed_from_u64(1);
    let watcher = world.watch(0);
    let mut live = Vec::new();
    while world.now - world.start < secs(24 * 3600) {
        churn(&mut world, &mut rng, watcher);
        let held = world.gateway.footprint();
        assert_eq!((held.viewers, held.watching), (1, 1), "{held:?}");
        assert!(held.addresses <= 1 && held.ufrags == 1, "{held:?}");
        assert_eq!(held.queued_bytes, 0);
        live.push(memory::live());
    }
    let counters = world.counters();
    println!(
        "{} hours, allocated bytes after each round {live:?}",
        (world.now - world.start).as_secs() / 3600
    );
    println!("{counters:?}");
    assert!(counters.sessions_opened > 100);
    assert_eq!(
        (counters.sessions_panicked, counters.sessions_failed),
        (0, 0)
    );
    let reaped = counters.sessions_half_open_reaped;
    let ended = counters.sessions_left + counters.sessions_lost + reaped;
    assert_eq!(ended + 1, counters.sessions_opened, "each end counts once");
    let worked = self::worked() - worked;
    println!("{:?} of real time, {worked:?} of work", begun.elapsed());
    // Half a minute; how long that takes depends on who else uses the machine.
    assert!(worked < secs(120), "{worked:?}");
    // The first rounds fill caches; after that a round adds nothing.
    let (early, late) = (live[2], *live.last().unwrap());
    assert!(late - early < 256 << 10, "{early} {late}");
}

#[test]
fn ten_minutes_at_full_rate_with_eight_viewers_lose_no_picture() {
    let mut world = World::passthrough(2);
    world.run_for(secs(1));
    for _ in 0..8 {
        world.join(0, Habits::BROWSER, Quality::PERFECT);
    }
    world.run_for(secs(1));
    let from = world.newest(0);
    let mut live = Vec::new();
    for minute in 0..10 {
        world.run_for(secs(60));
        for viewer in 0..8 {
            let shown = &world.peer(viewer).shown;
            let fresh = shown.iter().filter(|s| s.number > from + minute * 1800);
            assert!(fresh.count() >= 1799, "viewer {viewer}, minute {minute}");
            let gap = world
                .peer(viewer)
                .longest_gap(world.now - secs(60), world.now);
            assert!(gap <= ms(50), "{gap:?}");
            world.peer_mut(viewer).shown.clear();
        }
        assert_eq!(world.gateway.footprint().queued_bytes, 0);
        live.push(memory::live());
    }
    println!("allocated bytes after each minute {live:?}");
    let spread = live[9] - live[2];
    assert!(spread.abs() < 4 << 20, "{live:?}");
    assert_eq!(world.counters().skips, 0);
    assert_eq!(world.counters().replays, 8);
    assert!(world.sessions().iter().all(|s| s.repairs == 0));
}
