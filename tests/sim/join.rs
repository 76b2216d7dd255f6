//! Joins, at every point of a group of pictures.

use std::time::Duration;

use crate::link::Quality;
use crate::peer::Habits;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_join_anywhere_in_a_four_second_group_shows_a_picture_at_once() {
    let mut worst = Duration::ZERO;
    for step in 0..40 {
        let mut world = World::passthrough(step);
        world.run_for(ms(5000 + step * 100));
        let viewer = world.join(0, Habits::BROWSER, Quality::PERFECT);
        world.run_for(ms(1500));
        let newest = world.cameras[0].number - 1;
        let peer = world.peer(viewer);
        let first = peer.shown.first().expect("a picture");
        assert!(first.is_key_frame);
        worst = worst.max(first.at - world.viewers[viewer].posted);
        let last = peer.shown.last().unwrap();
        assert!(
            newest - last.number <= 1,
            "live: {} of {newest}",
            last.number
        );
        assert_eq!(peer.plis, 0);
    }
    // ICE and DTLS take some round trips of 10 ms each.
    assert!(worst <= ms(150), "{worst:?}");
    println!("worst first picture {worst:?}");
}
