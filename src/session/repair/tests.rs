use super::*;

const PACKET: usize = 1200;

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

/// Ten packets of each of so many pictures, 30 a second; gives the time of the last one.
fn play(repairs: &mut Repairs, start: Instant, pictures: u32) -> Instant {
    let at = |n: u32| start + Duration::from_secs(1) * n / 30;
    for n in 0..pictures {
        (0..10).for_each(|_| repairs.on_first(at(n), n * 3000, PACKET));
    }
    at(pictures - 1)
}

#[test]
fn repairs_take_no_more_than_the_pictures_did() {
    let mut repairs = Repairs::default();
    let now = play(&mut repairs, start(), 3);
    let ask = |repairs: &mut Repairs| repairs.on_again(now, 3000, PACKET);
    (0..30).for_each(|_| assert_eq!(ask(&mut repairs), Repair::Leaves));
    assert_eq!(ask(&mut repairs), Repair::IsTooMuch);
}

#[test]
fn one_storm_of_nacks_gets_a_bounded_number_of_packets() {
    let mut repairs = Repairs::default();
    let now = play(&mut repairs, start(), 1000);
    let again = (0..8000).map(|_| repairs.on_again(now, 999 * 3000, PACKET));
    let left = again.filter(|r| *r == Repair::Leaves).count();
    assert_eq!(left, BURST / PACKET);
}

#[test]
fn a_viewer_that_asks_for_the_oldest_is_beyond_repair_and_told_of_once() {
    let mut repairs = Repairs::default();
    let now = play(&mut repairs, start(), 100);
    assert_eq!(repairs.kept.len(), 61, "two seconds");
    let ask = |repairs: &mut Repairs, n: u32| repairs.on_again(now, n * 3000, PACKET);
    assert_eq!(ask(&mut repairs, 60), Repair::Leaves, "1.3 s old");
    assert_eq!(ask(&mut repairs, 53), Repair::IsLast, "more than 1.5 s");
    assert_eq!(ask(&mut repairs, 39), Repair::Leaves, "told already");
    let later = now + TELLING;
    assert_eq!(repairs.on_again(later, 39 * 3000, PACKET), Repair::IsLast);
}

#[test]
fn nothing_is_missing_before_the_first_picture() {
    let mut repairs = Repairs::default();
    let now = play(&mut repairs, start(), 30);
    assert_eq!(repairs.on_again(now, 0, PACKET), Repair::Leaves);
}

#[test]
fn few_pictures_a_second_are_not_beyond_repair_because_few_are_kept() {
    let mut repairs = Repairs::default();
    let start = start();
    for n in 0..10 {
        let now = start + Duration::from_secs(n);
        repairs.on_first(now, n as u32, PACKET);
        let asked = now + Duration::from_millis(100);
        assert_eq!(repairs.on_again(asked, n as u32, PACKET), Repair::Leaves);
    }
}

#[test]
fn a_key_frame_of_many_packets_takes_no_other_picture_out_of_reach() {
    let mut repairs = Repairs::default();
    let start = start();
    let now = play(&mut repairs, start, 90);
    let at = |n: u32| now + Duration::from_secs(1) * n / 30;
    (0..900).for_each(|_| repairs.on_first(at(1), 1_000_000, PACKET));
    for n in 2..5 {
        (0..10).for_each(|_| repairs.on_first(at(n), 1_000_000 + n, PACKET));
        let again = repairs.on_again(at(n), 1_000_000 + n, PACKET);
        assert_eq!(again, Repair::Leaves);
        assert_eq!(repairs.on_again(at(n), 1_000_000, PACKET), Repair::Leaves);
    }
    // Past three quarters of what is kept, it is.
    (0..800).for_each(|n| repairs.on_first(at(6), 2_000_000 + n / 10, PACKET));
    let again = repairs.on_again(at(6), 1_000_000, PACKET);
    assert_eq!(again, Repair::IsLast);
}

#[test]
fn what_is_kept_is_bounded_by_packets_too() {
    let (mut repairs, now) = (Repairs::default(), start());
    (0..100_000).for_each(|n| repairs.on_first(now, n, PACKET));
    assert_eq!(repairs.kept.len(), PACKETS);
}
