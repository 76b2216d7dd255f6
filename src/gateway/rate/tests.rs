//! Rates of a sum that is told now and then.
#![allow(clippy::disallowed_methods)] // some instant to begin with

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_rate_is_that_of_the_last_seconds() {
    let start = Instant::now();
    let mut rate = Rate::new(start);
    let (mut now, mut bytes) = (start, 0);
    assert_eq!(rate.bits_per_second(now, bytes), 0);
    for _ in 0..3600 {
        now += SECOND;
        bytes += 125_000;
        rate.observe(now, bytes);
        assert_eq!(rate.bits_per_second(now, bytes), 1_000_000);
    }
    for _ in 0..4 {
        now += SECOND;
        rate.observe(now, bytes + 1);
    }
    assert!(rate.bits_per_second(now, bytes + 1) < 10);
}

#[test]
fn without_a_look_for_long_it_falls_as_well() {
    let start = Instant::now();
    let mut rate = Rate::new(start);
    rate.observe(start + 2 * SECOND, 250_000);
    assert_eq!(rate.bits_per_second(start + 3 * SECOND, 250_000), 666_666);
    assert_eq!(rate.bits_per_second(start + 60 * SECOND, 250_000), 0);
}
