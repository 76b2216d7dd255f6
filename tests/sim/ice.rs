//! Paths between viewers and us: candidates of no use, ICE restarts that lead nowhere.

use pinhole::whep::{Fragment, IfMatch, Outcome};

use crate::link::Quality;
use crate::peer::{Habits, credentials_in};
use crate::whep::{CANDIDATE, begin_restart, patch, trickle};
use crate::world::World;
use crate::{ms, secs};

/// Of a family in which we have no address.
const IPV6: &str = "candidate:1 1 udp 2130706431 fd00::77 40000 typ host";

fn without_candidates(offer: String) -> String {
    let lines = offer.lines().filter(|l| !l.starts_with("a=candidate:"));
    lines.map(|line| format!("{line}\r\n")).collect()
}

fn with_ipv6_alone(offer: String) -> String {
    format!("{}a={IPV6}\r\n", without_candidates(offer))
}

fn assert_plays(world: &mut World, viewer: usize) {
    world.run_for(secs(2));
    let peer = world.peer(viewer);
    let last = peer.shown.last().expect("a picture");
    assert!(world.newest(0) - last.number <= 1, "live");
}

#[test]
fn an_offer_with_candidates_of_no_use_alone_is_reached_by_the_viewers_check() {
    let mut world = World::passthrough(1);
    let viewer = world.try_join_with(0, Habits::BROWSER, Quality::PERFECT, with_ipv6_alone);
    assert_plays(&mut world, viewer.unwrap());
}

#[test]
fn a_candidate_of_no_use_that_is_trickled_first_ends_nothing() {
    let mut world = World::passthrough(2);
    let viewer = world.try_join_with(0, Habits::BROWSER, Quality::PERFECT, without_candidates);
    let viewer = viewer.unwrap();
    let outcome = patch(&mut world, viewer, IfMatch::Any, trickle(IPV6));
    assert!(matches!(outcome, Outcome::Trickled), "{outcome:?}");
    assert_plays(&mut world, viewer);
}

#[test]
fn who_never_finds_a_path_is_reaped_as_half_open() {
    let mut world = World::passthrough(3);
    let viewer = world.try_join_with(0, Habits::BROWSER, Quality::PERFECT, with_ipv6_alone);
    world.peer_mut(viewer.unwrap()).is_closed = true;
    world.run_for(secs(60));
    assert_eq!(world.counters().sessions_half_open_reaped, 1);
    assert_eq!(world.gateway.footprint(), Default::default());
}

#[test]
fn a_restart_that_begins_with_a_candidate_of_no_use_ends_nothing() {
    let mut world = World::passthrough(4);
    let viewer = world.watch(0);
    let now = world.now;
    let fragment = Fragment {
        candidates: vec![IPV6.to_owned()],
        ..begin_restart(&mut world, viewer)
    };
    let Outcome::Restarted { fragment, .. } = patch(&mut world, viewer, IfMatch::Any, fragment)
    else {
        panic!("no restart");
    };
    world.run_for(ms(20));
    world.peer_mut(viewer).accept_fragment(now, &fragment);
    let since = world.now;
    // Past the deadline of a restart that found nobody.
    world.run_for(secs(60));
    assert_plays(&mut world, viewer);
    assert!(world.peer(viewer).longest_gap(since, world.now) <= ms(100));
}

/// Media goes on over the old path meanwhile: without a bound of its own, for ever.
#[test]
fn a_restart_that_finds_nobody_ends_the_session() {
    for candidates in [Vec::new(), vec![IPV6.to_owned()]] {
        let mut world = World::passthrough(5);
        let viewer = world.watch(0);
        let fragment = Fragment {
            candidates,
            ..begin_restart(&mut world, viewer)
        };
        let outcome = patch(&mut world, viewer, IfMatch::Any, fragment);
        assert!(matches!(outcome, Outcome::Restarted { .. }), "{outcome:?}");
        world.peer_mut(viewer).is_closed = true; // gone without a word
        world.run_for(secs(60));
        assert_eq!(world.counters().sessions_lost, 1);
        assert_eq!(world.gateway.footprint(), Default::default());
    }
}

#[test]
fn a_late_candidate_of_before_the_restart_restarts_nothing() {
    let mut world = World::passthrough(6);
    let viewer = world.watch(0);
    let (ufrag, pwd) = credentials_in(&world.peer(viewer).offer);
    let now = world.now;
    let fragment = begin_restart(&mut world, viewer);
    let Outcome::Restarted { fragment, .. } = patch(&mut world, viewer, IfMatch::Any, fragment)
    else {
        panic!("no restart");
    };
    world.peer_mut(viewer).accept_fragment(now, &fragment);
    let late = Fragment {
        ufrag: Some(ufrag),
        pwd: Some(pwd),
        ..trickle(CANDIDATE)
    };
    let outcome = patch(&mut world, viewer, IfMatch::Any, late);
    assert!(matches!(outcome, Outcome::Trickled), "{outcome:?}");
    let since = world.now;
    world.run_for(secs(60));
    assert!(world.peer(viewer).longest_gap(since, world.now) <= ms(100));
}
