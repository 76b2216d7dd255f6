//! Sessions over WHEP: trickle, ICE restart, the end of a session in each way.

use std::net::{Ipv4Addr, SocketAddr};

use pinhole::whep::{Command, ETag, Fragment, IfMatch, Outcome, Refusal, SessionKey};

use crate::link::Quality;
use crate::memory;
use crate::peer::{Habits, credentials_in};
use crate::world::{SERVER, World};
use crate::{ms, secs};

pub fn patch(world: &mut World, viewer: usize, if_match: IfMatch, fragment: Fragment) -> Outcome {
    let session = world.viewers[viewer].key;
    world.command(Command::Patch {
        session,
        if_match,
        fragment,
    })
}

fn current(world: &World, viewer: usize) -> IfMatch {
    IfMatch::Tags(vec![world.viewers[viewer].etag.clone()])
}

pub fn trickle(candidate: &str) -> Fragment {
    Fragment {
        candidates: vec![candidate.to_owned()],
        ..Fragment::default()
    }
}

pub const CANDIDATE: &str = "candidate:1 1 udp 2130706431 10.0.1.77 40000 typ host";

#[test]
fn candidates_are_taken_with_the_right_tag_only() {
    let mut world = World::passthrough(1);
    let viewer = world.watch(0);
    let tag = current(&world, viewer);
    let outcome = patch(&mut world, viewer, tag.clone(), trickle(CANDIDATE));
    assert!(matches!(outcome, Outcome::Trickled), "{outcome:?}");
    let stale = IfMatch::Tags(vec![ETag("0123".to_owned()), ETag(String::new())]);
    let outcome = patch(&mut world, viewer, stale, trickle(CANDIDATE));
    assert!(matches!(outcome, Outcome::Refused(Refusal::StaleETag)));
    // Some clients send `*` and their old credentials with every candidate.
    let (ufrag, pwd) = credentials_in(&world.peer(viewer).offer);
    let fragment = Fragment {
        ufrag: Some(ufrag),
        pwd: Some(pwd),
        ..trickle(CANDIDATE)
    };
    let outcome = patch(&mut world, viewer, IfMatch::Any, fragment.clone());
    assert!(matches!(outcome, Outcome::Trickled), "{outcome:?}");
    let outcome = patch(&mut world, viewer, tag, fragment);
    assert!(matches!(outcome, Outcome::Trickled), "{outcome:?}");
    let since = world.now;
    world.run_for(secs(5));
    assert!(world.peer(viewer).longest_gap(since, world.now) <= ms(70));
}

#[test]
fn candidates_of_no_use_are_dropped() {
    let mut world = World::passthrough(2);
    let viewer = world.watch(0);
    let tag = current(&world, viewer);
    for candidate in [
        "",
        "candidate:",
        "candidate:1 1 udp x 10.0.1.77 40000 typ host",
        "candidate:1 1 udp 1 f0e1d2c3.local 40000 typ host",
        "candidate:1 1 tcp 1 10.0.1.77 9 typ host tcptype active",
        "candidate:1 2 udp 1 10.0.1.77 9 typ host",
        "candidate:1 1 udp 1 0.0.0.0 0 typ host",
        "candidate:1 1 udp 1 255.255.255.255 9 typ relay raddr 0.0.0.0 rport 0",
    ] {
        let outcome = patch(&mut world, viewer, tag.clone(), trickle(candidate));
        assert!(matches!(outcome, Outcome::Trickled), "{candidate}");
    }
    let since = world.now;
    world.run_for(secs(5));
    assert!(world.peer(viewer).longest_gap(since, world.now) <= ms(70));
    assert_eq!(
        world.counters().drops.candidates,
        0,
        "of no use, not too many"
    );
}

#[test]
fn candidates_without_end_cost_no_more_than_a_few() {
    let mut world = World::passthrough(2);
    let viewer = world.watch(0);
    let tag = current(&world, viewer);
    let mut numbers = 0..32_000u32;
    let mut trickle_all = |world: &mut World, rounds| {
        for _ in 0..rounds {
            let some = numbers.by_ref().take(32);
            let candidates = some.map(|n| {
                let [_, a, b, c] = n.to_be_bytes();
                format!("candidate:1 1 udp 2130706431 10.{a}.{b}.{c} 5000 typ host")
            });
            let fragment = Fragment {
                candidates: candidates.collect(),
                ..Fragment::default()
            };
            let outcome = patch(world, viewer, tag.clone(), fragment);
            assert!(matches!(outcome, Outcome::Trickled));
            world.run_for(ms(5));
        }
    };
    trickle_all(&mut world, 100);
    let before = memory::live();
    trickle_all(&mut world, 900);
    let more = memory::live() - before;
    println!("{more} bytes more after another 28,800 candidates");
    assert!(more < 500_000, "{more}");
    let dropped = world.counters().drops.candidates;
    assert!((32_000 - 32..32_000).contains(&dropped), "{dropped}");
    // The same ones again are none too many.
    let fragment = trickle("candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host");
    patch(&mut world, viewer, tag.clone(), fragment);
    world.run_for(ms(5));
    assert_eq!(world.counters().drops.candidates, dropped);
    let since = world.now;
    world.run_for(secs(5));
    assert!(world.peer(viewer).longest_gap(since, world.now) <= ms(70));
    // A restart begins anew.
    restart(&mut world, viewer, IfMatch::Any);
    let tag = current(&world, viewer);
    patch(&mut world, viewer, tag, trickle(CANDIDATE));
    world.run_for(ms(5));
    assert_eq!(world.counters().drops.candidates, dropped);
}

/// Begins a restart on the viewer's side; the fragment that tells of it.
pub fn begin_restart(world: &mut World, viewer: usize) -> Fragment {
    let now = world.now;
    let (ufrag, pwd) = world.peer_mut(viewer).restart_ice(now);
    Fragment {
        ufrag: Some(ufrag),
        pwd: Some(pwd),
        ..Fragment::default()
    }
}

fn restart(world: &mut World, viewer: usize, if_match: IfMatch) -> ETag {
    let now = world.now;
    let address = world.peer(viewer).address;
    let host = format!(
        "candidate:1 1 udp 2130706431 {} {} typ host",
        address.ip(),
        address.port()
    );
    let fragment = Fragment {
        candidates: vec![host],
        ..begin_restart(world, viewer)
    };
    let outcome = patch(world, viewer, if_match, fragment);
    let Outcome::Restarted { etag, fragment } = outcome else {
        panic!("{outcome:?}");
    };
    assert_ne!(etag, world.viewers[viewer].etag);
    assert!(fragment.contains("a=candidate:"), "{fragment}");
    world.peer_mut(viewer).accept_fragment(now, &fragment);
    world.viewers[viewer].etag = etag.clone();
    etag
}

#[test]
fn new_credentials_restart_ice_and_the_picture_goes_on() {
    let mut world = World::passthrough(3);
    let viewer = world.watch(0);
    let mut before = world.gateway.footprint();
    for turn in 0..20 {
        let old = current(&world, viewer);
        let tag = match turn % 2 {
            0 => old.clone(),
            _ => IfMatch::Any,
        };
        let since = world.now;
        restart(&mut world, viewer, tag);
        world.run_for(secs(6));
        let gap = world.peer(viewer).longest_gap(since, world.now);
        assert!(gap <= ms(100), "turn {turn}: {gap:?}");
        let outcome = patch(&mut world, viewer, old, trickle(CANDIDATE));
        assert!(matches!(outcome, Outcome::Refused(Refusal::StaleETag)));
        let after = world.gateway.footprint();
        if turn == 4 {
            before = after;
        }
        assert!(turn <= 4 || after.ufrags <= before.ufrags, "{after:?}");
    }
    assert_eq!(world.sessions().len(), 1);
    world.leave(viewer);
    world.run_for(ms(100));
    assert_eq!(world.gateway.footprint(), Default::default());
}

#[test]
fn a_restart_from_another_address_moves_the_viewer_there() {
    let mut world = World::passthrough(4);
    let viewer = world.watch(0);
    // Another network interface, say: from here on nothing reaches the old address.
    let mut moved = world.peer(viewer).address;
    moved.set_port(61_000);
    world.move_viewer(viewer, moved);
    let since = world.now;
    restart(&mut world, viewer, IfMatch::Any);
    world.run_for(secs(8));
    let last = world.peer(viewer).shown.last().unwrap().at;
    assert!(world.now - last <= ms(70), "{:?} old", world.now - last);
    println!("gap {:?}", world.peer(viewer).longest_gap(since, world.now));
}

#[test]
fn a_restart_tells_the_addresses_that_came_since_and_each_of_them_once() {
    let mut world = World::passthrough(6);
    let viewer = world.watch(0);
    let now = world.now;
    for turn in 1..=300_u32 {
        let (ufrag, pwd) = world.peer_mut(viewer).restart_ice(now);
        let fragment = Fragment {
            ufrag: Some(ufrag),
            pwd: Some(pwd),
            ..trickle(CANDIDATE)
        };
        let command = Command::Patch {
            session: world.viewers[viewer].key,
            if_match: IfMatch::Any,
            fragment,
        };
        // An interface whose address changes all the time.
        let new = SocketAddr::from((Ipv4Addr::from(0x0a09_0000 + turn), 8555));
        let ours = [SocketAddr::from(SERVER), new];
        let outcome = world.gateway.handle_command(now, command, &ours);
        let Outcome::Restarted { fragment, .. } = outcome else {
            panic!("{outcome:?}");
        };
        let told = fragment.matches("a=candidate:").count();
        assert_eq!(told, (turn as usize + 1).min(128));
        let has_new = fragment.contains(&format!(" {} 8555 typ host", new.ip()));
        assert_eq!(has_new, turn < 128, "{fragment}");
    }
}

#[test]
fn half_an_ice_restart_is_refused() {
    let mut world = World::passthrough(5);
    let viewer = world.watch(0);
    let long = "x".repeat(300);
    for (ufrag, pwd) in [
        ("newufrag", None),
        ("newufrag", Some("short")),
        ("a b", Some("0123456789012345678901")),
        ("newufrag", Some("012345678901234567890\r\na=x")),
        (&long, Some("0123456789012345678901")),
        ("", Some("0123456789012345678901")),
    ] {
        let fragment = Fragment {
            ufrag: Some(ufrag.to_owned()),
            pwd: pwd.map(str::to_owned),
            ..Fragment::default()
        };
        let outcome = patch(&mut world, viewer, IfMatch::Any, fragment);
        let refused = matches!(outcome, Outcome::Refused(Refusal::BadFragment(_)));
        assert!(refused, "{ufrag} {pwd:?}: {outcome:?}");
    }
    let since = world.now;
    world.run_for(secs(5));
    assert!(world.peer(viewer).longest_gap(since, world.now) <= ms(70));
    let tag = current(&world, viewer);
    let outcome = patch(&mut world, viewer, tag, trickle(CANDIDATE));
    assert!(matches!(outcome, Outcome::Trickled), "the tag is as it was");
}

#[test]
fn a_delete_ends_the_session_once() {
    let mut world = World::passthrough(6);
    let viewer = world.watch(0);
    let other = world.watch(0);
    let session = world.viewers[viewer].key;
    assert!(matches!(
        world.command(Command::Close { session }),
        Outcome::Closed
    ));
    world.run_for(ms(50));
    assert!(world.peer(viewer).is_closed, "told by DTLS");
    let outcome = world.command(Command::Close { session });
    assert!(matches!(outcome, Outcome::Refused(Refusal::UnknownSession)));
    let tag = current(&world, viewer);
    let outcome = patch(&mut world, viewer, tag, trickle(CANDIDATE));
    assert!(matches!(outcome, Outcome::Refused(Refusal::UnknownSession)));
    let nobody = SessionKey(42);
    let outcome = world.command(Command::Close { session: nobody });
    assert!(matches!(outcome, Outcome::Refused(Refusal::UnknownSession)));
    world.run_for(secs(1));
    assert_eq!(world.gateway.footprint().viewers, 1);
    let last = world.peer(other).shown.last().unwrap().at;
    assert!(world.now - last <= ms(70));
}

#[test]
fn a_session_can_be_deleted_before_it_is_connected() {
    let mut world = World::passthrough(7);
    let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
    assert!(matches!(world.delete(viewer), Outcome::Closed));
    world.run_for(secs(1));
    assert_eq!(world.gateway.footprint(), Default::default());
}

#[test]
fn a_drain_tells_every_viewer_and_closes_every_camera() {
    let mut world = World::passthrough(8);
    for _ in 0..5 {
        world.watch(0);
    }
    world.join(0, Habits::BROWSER, Quality::PERFECT); // half-open
    assert!(!world.gateway.is_drained());
    world.drain();
    let since = world.now;
    world.run_for(ms(50));
    for viewer in 0..5 {
        assert!(world.peer(viewer).is_closed, "{viewer} was told");
    }
    assert!(!world.cameras[0].is_playing());
    assert!(world.gateway.is_drained());
    assert!(world.now - since <= ms(50));
    assert_eq!(world.gateway.footprint(), Default::default());
    let refused = world.try_join(0, Habits::BROWSER, Quality::PERFECT);
    assert_eq!(refused.err(), Some(Refusal::Draining));
}

#[test]
fn a_camera_that_is_not_there_is_said() {
    let mut world = World::passthrough(9);
    let refused = world.post(7, "v=0".to_owned(), [10, 0, 0, 9].into());
    assert_eq!(
        refused.err(),
        Some(Refusal::UnknownCamera("cam7".to_owned()))
    );
    let refused = world.post(0, "nonsense".to_owned(), [10, 0, 0, 9].into());
    assert!(matches!(refused, Err(Refusal::BadOffer(_))));
    assert_eq!(world.counters().refused_offers, 1);
    assert_eq!(world.gateway.footprint(), Default::default());
}
