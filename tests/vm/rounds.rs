//! The same faults again and again: what is left behind shows as growth.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pinhole::media::{DownReason, SourceEvent};
use pinhole::source::supervise::PLAYED_WELL;

use crate::Case;
use crate::machine::{
    Holds, bind, control, eventually, give_back_memory, load_vivid, quiet_picture, unbind,
};
use crate::watch::Watch;

/// A fault of one device and what heals it.
struct Fault {
    name: &'static str,
    /// The device is still there, so that Pinhole waits before it tries again: longer each time.
    is_waited_for: bool,
    shows: Shows,
    inject: fn(u32),
    heal: fn(u32),
}

/// How Pinhole tells of a fault, as the first of what it says.
#[derive(Clone, Copy)]
enum Shows {
    Down(DownReason),
    /// A tolerated error: no restart.
    Error,
    /// Pictures that never came out of the device: no restart.
    Lost,
}

const DISCONNECT: Fault = Fault {
    name: "disconnect",
    is_waited_for: true,
    shows: Shows::Down(DownReason::Unreachable),
    inject: |device| control(device, "disconnect=1"),
    heal: |_| (),
};

const STALL: Fault = Fault {
    name: "stall",
    is_waited_for: true,
    shows: Shows::Down(DownReason::Stalled),
    inject: |device| control(device, "percentage_of_dropped_buffers=100"),
    heal: |device| control(device, "percentage_of_dropped_buffers=0"),
};

/// All cameras of vivid hang on one device of the kernel, so this one is alone.
const UNBIND: Fault = Fault {
    name: "unbind and bind",
    is_waited_for: false,
    shows: Shows::Down(DownReason::Unreachable),
    inject: unbind,
    heal: |device| {
        // One that is held on to would come back under another node number.
        eventually("the camera is let go", || Holds::ours().cameras == 0);
        bind(device);
    },
};

const FATAL: Fault = Fault {
    name: "fatal streaming error",
    is_waited_for: true,
    shows: Shows::Down(DownReason::Errors),
    inject: |device| control(device, "inject_fatal_streaming_error=1"),
    heal: |_| (),
};

const REFUSED: Fault = Fault {
    name: "REQBUFS refused after it",
    is_waited_for: true,
    shows: Shows::Down(DownReason::Errors),
    inject: |device| {
        control(device, "inject_vidioc_reqbufs_error=1");
        control(device, "inject_fatal_streaming_error=1");
    },
    heal: |_| (),
};

const UNSTARTED: Fault = Fault {
    name: "STREAMON refused after it",
    is_waited_for: true,
    shows: Shows::Down(DownReason::Errors),
    inject: |device| {
        control(device, "inject_vidioc_streamon_error=1");
        control(device, "inject_fatal_streaming_error=1");
    },
    heal: |_| (),
};

const FLAGGED: Fault = Fault {
    name: "buffer with the error flag",
    is_waited_for: false,
    shows: Shows::Error,
    inject: |device| control(device, "inject_v4l2_buf_flag_error=1"),
    heal: |_| (),
};

const UNTAKEN: Fault = Fault {
    name: "QBUF refused",
    is_waited_for: false,
    shows: Shows::Error,
    inject: |device| control(device, "inject_vidioc_qbuf_error=1"),
    heal: |_| (),
};

const HALF: Fault = Fault {
    name: "every other picture dropped",
    is_waited_for: false,
    shows: Shows::Lost,
    inject: |device| control(device, "percentage_of_dropped_buffers=50"),
    heal: |device| control(device, "percentage_of_dropped_buffers=0"),
};

pub fn cases() -> Vec<Case> {
    vec![
        // Three cameras with each fault at once: 17 rounds are 51 faults of each kind.
        Case(
            "50 rounds of disconnect and stall leave nothing behind",
            || rounds(&[&DISCONNECT, &STALL].repeat(3), 17),
        ),
        Case("50 rounds of unbind and bind leave nothing behind", || {
            rounds(&[&UNBIND], 50)
        }),
        Case("6 rounds of the others leave nothing behind", || {
            rounds(&[&FATAL, &REFUSED, &UNSTARTED], 6)
        }),
        Case(
            "3 rounds of what is tolerated restart nothing and leave nothing behind",
            || rounds(&[&FLAGGED, &UNTAKEN, &HALF], 3),
        ),
    ]
}

/// Memory that may come on top in the second half: allocators keep some.
const GROWTH_KIB: u64 = 8 * 1024;

/// One camera for each fault, all in the same process and in the same round, as real ones fail:
/// without regard for each other.
fn rounds(faults: &[&'static Fault], rounds: u32) -> String {
    let mut cameras = Camera::all(faults);
    let (mut before, mut memory) = (None, Vec::new());
    for round in 0..rounds {
        play(&mut cameras, before_a_fault(faults));
        // The first half fills the allocator's pools: each run is a thread of its own.
        if round == rounds / 2 {
            before = Some(settled(&mut cameras));
        }
        // What one said of the round before must not pass for an answer to this one.
        for camera in &mut cameras {
            camera.watch.drain();
        }
        for (device, fault) in (0..).zip(faults) {
            (fault.inject)(device);
        }
        cameras.iter_mut().for_each(Camera::comes_back);
        give_back_memory();
        memory.push(Holds::ours().memory_kib / 1024);
    }
    let before = before.expect("half of the rounds");
    for camera in &mut cameras {
        camera.watch.key_frame();
    }
    // A thread that ended is let go of when somebody gets round to it.
    eventually("threads and files are those of before", || {
        let now = Holds::ours();
        now.threads <= before.threads && now.files <= before.files
    });
    let after = settled(&mut cameras);
    let mut words: String = cameras.iter().map(|camera| camera.words(rounds)).collect();
    let _ = write!(words, "{before}, then {after}; MiB by round {memory:?}");
    assert!(
        after.memory_kib <= before.memory_kib + GROWTH_KIB,
        "{words}"
    );
    words
}

/// What this process holds while all of them play and nothing else goes on.
fn settled(cameras: &mut [Camera]) -> Holds {
    play(cameras, Duration::from_secs(1));
    // What is free but kept is not what a round leaves behind.
    give_back_memory();
    Holds::ours()
}

/// So long do all of them play before the next fault.
fn before_a_fault(faults: &[&Fault]) -> Duration {
    let tells_late = |fault: &&Fault| matches!(fault.shows, Shows::Lost);
    if faults.iter().any(|fault| fault.is_waited_for) {
        // Pinhole starts its waits afresh: what is counted here is what a round leaves behind, not
        // how patiently a camera that fails at once is treated.
        PLAYED_WELL + Duration::from_millis(500)
    } else if faults.iter().any(tells_late) {
        // What is left out is told of once a second.
        Duration::from_millis(1500)
    } else {
        Duration::ZERO
    }
}

fn play(cameras: &mut [Camera], span: Duration) {
    let until = Instant::now() + span;
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
        let open = |(device, fault): (u32, &'static Fault)| {
            quiet_picture(device);
            // Elsewhere a machine that stands still for a moment would pass for a silent camera.
            let stall = match fault.shows {
                Shows::Down(DownReason::Stalled) => "stall = \"1s\"",
                _ => "",
            };
            let mut watch = Watch::open(&format!(
                "source = \"v4l2:/dev/video{device}\"\nsize = \"320x180\"\nfps = 5\n\
                 encoder = \"software\"\n{stall}"
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
        self.tells();
        (self.fault.heal)(self.device);
        let healed = Instant::now();
        match self.fault.shows {
            Shows::Down(_) => drop(self.watch.key_frame()),
            Shows::Error | Shows::Lost => {
                self.watch.unit();
                assert_eq!(self.watch.downs, 0, "{}", self.watch.tail());
            }
        }
        let took = healed.elapsed();
        self.sum += took;
        self.worst = self.worst.max(took);
    }

    /// It says of the fault what belongs to it.
    fn tells(&mut self) {
        match self.fault.shows {
            Shows::Down(reason) => {
                let (told, detail) = self.watch.down();
                assert_eq!(told, reason, "{}: {detail}", self.fault.name);
            }
            Shows::Error => self.watch.until(self.fault.name, |event| {
                matches!(event, SourceEvent::Error { .. }).then_some(())
            }),
            Shows::Lost => self.watch.until(self.fault.name, |event| {
                matches!(event, SourceEvent::LeftOut(some) if some.lost > 0).then_some(())
            }),
        }
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
