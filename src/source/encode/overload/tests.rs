//! The ladder against simulated machines.

use super::*;

fn step(fps: u32, width: u32, height: u32) -> Step {
    Step {
        fps,
        size: (width, height),
    }
}

#[test]
fn rates_go_first_then_sizes_and_no_step_is_idle() {
    let hd = [
        step(30, 1280, 720),
        step(20, 1280, 720),
        step(15, 1280, 720),
        step(10, 1280, 720),
        step(10, 960, 540),
        step(10, 640, 360),
        step(10, 320, 180),
    ];
    assert_eq!(ladder(hd[0]), hd);
    let rates = |fps, width, height| {
        let steps = ladder(step(fps, width, height));
        steps.iter().map(|s| s.fps).collect::<Vec<_>>()
    };
    assert_eq!(rates(60, 160, 160), [60, 30, 20, 15, 10, 10]);
    assert_eq!(rates(25, 160, 120), [25, 20, 15, 10]);
    assert_eq!(rates(12, 100, 100), [12]);
    assert_eq!(rates(5, 64, 64), [5]);
    assert_eq!(ladder(step(10, 642, 482))[1].size, (480, 360));
}

fn late(late: u64) -> LeftOut {
    LeftOut {
        late,
        ..LeftOut::default()
    }
}

/// A machine that needs `cost` for a picture of 1280x720, watched for simulated seconds.
struct Bench {
    overload: Overload,
    now: Instant,
    start: Instant,
    cost: Duration,
    /// Part of `cost` whatever the size.
    decoding: Duration,
    /// A device that needs as long for a picture, besides.
    device: Duration,
    device_free_at: Instant,
    /// Before each picture others have the processor for so long.
    held: Duration,
}

impl Bench {
    fn new(cost_ms: u64) -> Self {
        #[allow(clippy::disallowed_methods)] // any moment will do
        let now = Instant::now();
        Self {
            overload: Overload::new(step(30, 1280, 720)),
            now,
            start: now,
            cost: Duration::from_millis(cost_ms),
            decoding: Duration::ZERO,
            device: Duration::ZERO,
            device_free_at: now,
            held: Duration::ZERO,
        }
    }

    /// The steps taken, each with the second it was taken in.
    fn run(&mut self, seconds: u64) -> Vec<(u64, Step)> {
        let end = self.now + Duration::from_secs(seconds);
        let mut taken = Vec::new();
        while self.now < end {
            let now_at = self.overload.step();
            let (w, h) = now_at.size;
            let part = f64::from(w * h) / (1280.0 * 720.0);
            let of_size = (self.cost - self.decoding).mul_f64(part);
            let all = self.decoding + of_size;
            // Pictures that come while one is coded, 30 a second, are left out.
            let pass = now_at.interval().max(all + self.held);
            self.now += pass;
            if !self.held.is_zero() {
                let came = pass.as_millis() as u64 / 33;
                self.overload.leave_out(late(came.saturating_sub(1)));
            }
            // Of those that the device has, three may wait.
            let device = self.device.mul_f64(part);
            let is_behind = self.device_free_at > self.now + 3 * device;
            if !is_behind {
                self.device_free_at = self.device_free_at.max(self.now) + device;
            }
            let cost = Cost {
                all,
                of_size,
                is_behind,
                is_skipped: false,
            };
            if let Some(step) = self.overload.push_picture(self.now, cost) {
                taken.push(((self.now - self.start).as_secs(), step));
            }
        }
        taken
    }
}

#[test]
fn a_machine_that_keeps_up_is_left_alone() {
    for cost in [1, 10, 26] {
        let mut bench = Bench::new(cost);
        assert_eq!(bench.run(600), []);
        assert_eq!(bench.overload.strain(), None);
        assert_eq!(bench.overload.mean(), Duration::from_millis(cost));
    }
}

#[test]
fn a_slow_machine_gets_fewer_pictures_after_five_seconds() {
    let mut bench = Bench::new(36); // 108 % of 33 ms, 72 % of 50 ms
    let steps = bench.run(300);
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(steps[0].1, step(20, 1280, 720));
    assert!((5..=6).contains(&steps[0].0), "{steps:?}");
    assert_eq!(bench.overload.strain(), Some(Strain::Cost));
}

#[test]
fn one_that_cannot_do_ten_gets_smaller_pictures_and_the_least_stays_the_least() {
    let mut bench = Bench::new(150);
    let steps: Vec<Step> = bench.run(120).iter().map(|s| s.1).collect();
    let expected = [
        step(20, 1280, 720),
        step(15, 1280, 720),
        step(10, 1280, 720),
        step(10, 960, 540),
        step(10, 640, 360),
    ];
    // 84 % of the interval at 960x540, 38 % at 640x360, where 84 % above is too much.
    assert_eq!(steps, expected);
    let mut bench = Bench::new(5000);
    assert_eq!(bench.run(600).last().unwrap().1, step(10, 320, 180));
    assert_eq!(bench.overload.strain(), Some(Strain::Cost));
}

#[test]
fn a_device_that_keeps_up_may_take_its_time_and_one_that_does_not_gets_fewer_pictures() {
    let mut bench = Bench::new(5);
    bench.device = Duration::from_millis(32);
    assert_eq!(bench.run(600), [], "96 % of 33 ms");
    bench.device = Duration::from_millis(45);
    let steps = bench.run(60);
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(steps[0].1, step(20, 1280, 720));
    assert_eq!(bench.overload.strain(), Some(Strain::Device));
    // Whether it can do more again is tried, ever more seldom.
    let tried = bench.run(1800).iter().filter(|s| s.1.fps == 30).count();
    assert!((2..=5).contains(&tried), "{tried}");
    bench.device = Duration::from_millis(20);
    bench.run(700);
    assert_eq!(bench.overload.strain(), None);
    bench.device = Duration::from_millis(180);
    let steps: Vec<Step> = bench.run(60).iter().map(|s| s.1).collect();
    assert_eq!(steps.last(), Some(&step(10, 960, 540)), "{steps:?}");
}

#[test]
fn a_machine_that_others_use_gets_fewer_pictures_and_no_smaller_ones() {
    let mut bench = Bench::new(3);
    bench.held = Duration::from_millis(31);
    assert_eq!(bench.run(600), [], "34 ms instead of 33: none is missed");
    bench.held = Duration::from_millis(70);
    let steps = bench.run(30);
    let rates = [20, 15].map(|fps| step(fps, 1280, 720));
    assert_eq!(steps.iter().map(|s| s.1).collect::<Vec<_>>(), rates);
    // Only a trial tells whether they still do; ever more seldom.
    let tried = bench.run(1800).iter().filter(|s| s.1.fps == 20).count();
    assert!((3..=9).contains(&tried), "{tried}");
    assert!((604..=607).contains(&steps[0].0), "{steps:?}");
    assert_eq!(bench.overload.strain(), Some(Strain::Starved));
    // Slower now by more than another rate is worth: that is all there is to be had.
    bench.held = Duration::from_millis(500);
    bench.run(600);
    assert_eq!(bench.overload.step(), step(10, 1280, 720));
    assert_eq!(bench.overload.strain(), Some(Strain::Starved));
    bench.held = Duration::ZERO;
    bench.run(600);
    assert_eq!(bench.overload.step(), step(30, 1280, 720));
    assert_eq!(bench.overload.strain(), None);
    // So rarely there that the driver has no buffer for most: few come, late ones among them.
    for second in 1..10 {
        let at = bench.now + Duration::from_secs(second);
        bench.overload.leave_out(LeftOut {
            lost: 27,
            late: 2,
            ..LeftOut::default()
        });
        bench.overload.push_picture(at, Cost::coding(bench.cost));
    }
    assert_eq!(bench.overload.strain(), Some(Strain::Starved));
}

#[test]
fn a_camera_that_loses_pictures_or_gives_more_than_it_said_is_no_slow_machine() {
    let full = step(30, 640, 360);
    let lost = LeftOut {
        lost: 1,
        ..LeftOut::default()
    };
    for (fps, left_out) in [(15, late(0)), (15, lost), (45, late(1))] {
        let mut bench = Bench::new(1);
        bench.overload = Overload::new(full);
        for n in 1..60 * fps {
            let now = bench.start + Duration::from_secs(1) * n / fps;
            bench.overload.leave_out(left_out);
            let step = bench.overload.push_picture(now, Cost::coding(bench.cost));
            assert_eq!(step, None, "{fps} per second");
        }
        assert_eq!(bench.overload.strain(), None);
    }
}

#[test]
fn what_rate_control_leaves_out_is_no_strain_and_its_part_is_known() {
    let mut bench = Bench::new(1);
    for n in 1..=300 {
        let at = bench.start + Duration::from_secs(1) * n / 30;
        let cost = Cost {
            is_skipped: n % 4 != 0,
            ..Cost::coding(bench.cost)
        };
        assert_eq!(bench.overload.push_picture(at, cost), None);
    }
    assert!((bench.overload.skipped() - 0.75).abs() < 0.05);
    assert_eq!(bench.overload.strain(), None);
}

#[test]
fn where_decoding_is_what_costs_pictures_get_fewer_and_no_smaller() {
    let mut bench = Bench::new(150);
    bench.decoding = Duration::from_millis(130);
    let steps: Vec<Step> = bench.run(120).iter().map(|s| s.1).collect();
    let rates = [20, 15, 10].map(|fps| step(fps, 1280, 720));
    assert_eq!(steps, rates);
    assert_eq!(bench.overload.strain(), Some(Strain::Cost));
    bench.decoding = Duration::from_millis(100);
    let steps: Vec<Step> = bench.run(120).iter().map(|s| s.1).collect();
    assert_eq!(steps[0], step(10, 960, 540), "a third of it is coding");
}

#[test]
fn a_step_that_could_not_be_taken_is_not_the_state_and_is_tried_again_later() {
    let mut bench = Bench::new(36);
    let full = bench.overload.step();
    let first = bench.run(7);
    assert_eq!(first.len(), 1);
    bench.overload.stay(full);
    assert_eq!(
        (bench.overload.step(), bench.overload.strain()),
        (full, None)
    );
    let second = bench.run(30);
    assert_eq!(second[0].1, first[0].1);
    let after = second[0].0 - first[0].0;
    assert!((10..=13).contains(&after), "{after}");
    // The same on the way up.
    bench.cost = Duration::from_millis(5);
    let up = bench.run(40);
    assert_eq!(up[0].1, full);
    bench.overload.stay(first[0].1);
    let again = bench.run(80);
    let after = again[0].0 - up[0].0;
    assert!((60..=70).contains(&after), "{after}");
}

#[test]
fn bursts_shorter_than_five_seconds_change_nothing() {
    let mut bench = Bench::new(10);
    for _ in 0..20 {
        bench.cost = Duration::from_millis(32);
        assert_eq!(bench.run(4), []);
        bench.cost = Duration::from_millis(10);
        assert_eq!(bench.run(2), []);
    }
}

#[test]
fn when_the_load_is_gone_it_climbs_back_a_step_each_half_minute() {
    let mut bench = Bench::new(90);
    bench.run(60);
    assert_eq!(bench.overload.step(), step(10, 960, 540));
    bench.cost = Duration::from_millis(5);
    let steps = bench.run(200);
    let taken: Vec<Step> = steps.iter().map(|s| s.1).collect();
    let expected = [
        step(10, 1280, 720),
        step(15, 1280, 720),
        step(20, 1280, 720),
        step(30, 1280, 720),
    ];
    assert_eq!(taken, expected);
    let gaps = steps.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(
        gaps.into_iter().all(|gap| (30..=33).contains(&gap)),
        "{steps:?}"
    );
    assert_eq!(bench.overload.strain(), None);
}

#[test]
fn a_machine_that_swings_between_two_steps_swings_ever_more_slowly() {
    let mut bench = Bench::new(36);
    bench.run(10);
    let mut ups = Vec::new();
    for _ in 0..4 {
        // Cheap for as long as it takes to climb, dear as soon as it has.
        bench.cost = Duration::from_millis(20);
        let before = bench.now;
        while bench.overload.step().fps < 30 {
            bench.run(1);
        }
        ups.push((bench.now - before).as_secs());
        bench.cost = Duration::from_millis(36);
        assert_eq!(bench.run(10).len(), 1);
    }
    assert!((30..=34).contains(&ups[0]), "{ups:?}");
    assert!(
        ups.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2),
        "{ups:?}"
    );
}
