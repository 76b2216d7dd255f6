//! The same faults again and again: what is left behind shows as growth.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pinhole::source::supervise::PLAYED_WELL;

use crate::Case;
use crate::machine::{Holds, bind, control, eventually, load_vivid, quiet_picture, unbind};
use crate::watch::Watch;

/// A fault of one device and what heals it.
struct Fault {
    name: &'static str,
    /// The device is still there, so that Pinhole waits before it tries again: longer each time.
    is_waited_for: bool,
    inject: fn(u32),
    heal: fn(u32),
}

const DISCONNECT: Fault = Fault {
    name: "disconnect",
    is_waited_for: true,
    inject: |device| control(device, "disconnect=1"),
    heal: |_| (),
};

const STALL: Fault = Fault {
    name: "stall",
    is_waited_for: true,
    inject: |device| control(device, "percentage_of_dropped_buffers=100"),
    heal: |device| control(device, "percentage_of_dropped_buffers=0"),
};

/// All cameras of vivid hang on one device of the kernel, so this one is alone.
const UNBIND: Fault = Fault {
    name: "unbind and bind",
    is_waited_for: false,
    inject: unbind,
    heal: |device| {
        // Its node number is free only when nobody holds the old node open.
        eventually("the camera is let go", || Holds::ours().cameras == 0);
        bind(device);
    },
};

const FATAL: Fault = Fault {
    name: "fatal streaming error",
    is_waited_for: true,
    inject: |device| control(device, "inject_fatal_streaming_error=1"),
    heal: |_| (),
};

const REFUSED: Fault = Fault {
    name: "REQBUFS refused after it",
    is_waited_for: true,
    inject: |device| {
        control(device, "inject_vidioc_reqbufs_error=1");
        control(device, "inject_fatal_streaming_error=1");
    },
    heal: |_| (),
};

const UNSTARTED: Fault = Fault {
    name: "STREAMON refused after it",
    is_waited_for: true,
    inject: |device| {
        control(device, "inject_vidioc_streamon_error=1");
        control(device, "inject_fatal_streaming_error=1");
    },
    heal: |_| (),
};

pub fn cases() -> Vec<Case> {
    vec![
        // Three cameras with each fault at once: 17 rounds are 51 faults of each kind.
        Case(
            "50 rounds of disconnect and stall leave nothing behind",
            || {
                rounds(
                    &[
                        &DISCONNECT,
                        &STALL,
                        &DISCONNECT,
                        &STALL,
                        &DISCONNECT,
                        &STALL,
                    ],
                    17,
                )
            },
        ),
        Case("50 rounds of unbind and bind leave nothing behind", || {
            rounds(&[&UNBIND], 50)
        }),
        Case("6 rounds of the others leave nothing behind", || {
            rounds(&[&FATAL, &REFUSED, &UNSTARTED], 6)
        }),
    ]
}

/// Memory that may come on top after the first rounds: allocators keep some.
const GROWTH_KIB: u64 = 8 * 1024;

/// One camera for each fault, all in the same process and in the same round, as real ones fail:
/// without regard for each other.
fn rounds(faults: &[&'static Fault], rounds: u32) -> String {
    let mut cameras = Camera::all(faults);
    let mut settled = None;
    for round in 0..rounds {
        if faults.iter().any(|fault| fault.is_waited_for) {
            play_well(&mut cameras);
        }
        for (device, fault) in (0..).zip(faults) {
            (fault.inject)(device);
        }
        cameras.iter_mut().for_each(Camera::comes_back);
        // The first rounds fill the allocator's pools: each run is a thread of its own.
        if round == (rounds / 5).max(2) {
            settled = Some(Holds::ours());
        }
    }
    for camera in &mut cameras {
        camera.watch.key_frame();
    }
    let (before, after) = (settled.unwrap(), Holds::ours());
    let mut words: String = cameras.iter().map(|camera| camera.words(rounds)).collect();
    let _ = write!(words, "{before}, then {after}");
    assert!(after.threads <= before.threads, "{words}");
    assert!(after.files <= before.files, "{words}");
    assert!(
        after.memory_kib <= before.memory_kib + GROWTH_KIB,
        "{words}"
    );
    words
}

/// Long enough for Pinhole to start its waits afresh: what is counted here is what a round leaves
/// behind, not how patient a camera that fails at once is treated.
fn play_well(cameras: &mut [Camera]) {
    let until = Instant::now() + PLAYED_WELL + Duration::from_millis(500);
    while Instant::now() < until {
        for camera in &mut *cameras {
            camera.watch.during(Duration::from_millis(100));
        }
    }
}

/// One of them, and how it fared.
struct Camera {
    device: u32,
    fault: &'static Fault,
    watch: Watch,
    sum: Duration,
    worst: Duration,
}

impl Camera {
    /// Loads one vivid for each fault; all play.
    fn all(faults: &[&'static Fault]) -> Vec<Self> {
        let each = |value: &str| vec![value; faults.len()].join(",");
        let (n, types, inputs) = (faults.len(), each("0x1"), each("0x0"));
        load_vivid(&format!(
            "n_devs={n} node_types={types} input_types={inputs}"
        ));
        let open = |(device, fault)| {
            quiet_picture(device);
            let mut watch = Watch::open(&format!(
                "source = \"v4l2:/dev/video{device}\"\nsize = \"320x180\"\nfps = 10\n\
                 encoder = \"software\"\nstall = \"500ms\""
            ));
            watch.key_frame();
            Self {
                device,
                fault,
                watch,
                sum: Duration::ZERO,
                worst: Duration::ZERO,
            }
        };
        (0..).zip(faults.iter().copied()).map(open).collect()
    }

    fn comes_back(&mut self) {
        self.watch.down();
        (self.fault.heal)(self.device);
        let healed = Instant::now();
        self.watch.key_frame();
        let took = healed.elapsed();
        self.sum += took;
        self.worst = self.worst.max(took);
    }

    fn words(&self, rounds: u32) -> String {
        let (mean, worst) = (self.sum / rounds, self.worst);
        let name = self.fault.name;
        format!(
            "{rounds} x {name}: back after {} ms in the mean, {} at worst; ",
            mean.as_millis(),
            worst.as_millis()
        )
    }
}
