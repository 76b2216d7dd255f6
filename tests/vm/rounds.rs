//! The same faults again and again: what is left behind shows as growth.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::Case;
use crate::machine::{Holds, bind, control, load_vivid, quiet_picture, unbind};
use crate::watch::Watch;

/// A fault of one device, what heals it, and how many rounds it is given.
struct Fault {
    name: &'static str,
    inject: fn(u32),
    heal: fn(u32),
    rounds: u32,
}

const MANY: [Fault; 3] = [
    Fault {
        name: "disconnect",
        inject: |device| control(device, "disconnect=1"),
        heal: |_| (),
        rounds: 50,
    },
    Fault {
        name: "unbind and bind",
        inject: |device| unbind(device),
        heal: |device| bind(device),
        rounds: 50,
    },
    Fault {
        name: "stall",
        inject: |device| control(device, "percentage_of_dropped_buffers=100"),
        heal: |device| control(device, "percentage_of_dropped_buffers=0"),
        rounds: 50,
    },
];

const FEW: [Fault; 2] = [
    Fault {
        name: "fatal streaming error",
        inject: |device| control(device, "inject_fatal_streaming_error=1"),
        heal: |_| (),
        rounds: 3,
    },
    Fault {
        name: "REQBUFS refused after a disconnect",
        inject: |device| {
            control(device, "inject_vidioc_reqbufs_error=1");
            control(device, "inject_fatal_streaming_error=1");
        },
        heal: |_| (),
        rounds: 3,
    },
];

pub fn cases() -> Vec<Case> {
    vec![
        Case(
            "50 rounds of disconnect, unbind and stall leave nothing behind",
            many,
        ),
        Case("3 rounds of the others leave nothing behind", few),
    ]
}

/// Memory that may come on top after the first rounds: allocators keep some.
const GROWTH_KIB: u64 = 8 * 1024;

fn many() -> String {
    rounds(&MANY)
}

fn few() -> String {
    rounds(&FEW)
}

/// One camera for each fault, all in the same process and in the same round, as real ones fail:
/// without regard for each other.
fn rounds(faults: &[Fault]) -> String {
    let each = |value: &str| vec![value; faults.len()].join(",");
    load_vivid(&format!(
        "n_devs={} node_types={} input_types={} num_inputs={}",
        faults.len(),
        each("0x1"),
        each("0x0"),
        each("1")
    ));
    let mut watches: Vec<Watch> = (0..faults.len() as u32).map(|device| {
        quiet_picture(device);
        Watch::open(&format!(
            "source = \"v4l2:/dev/video{device}\"\nsize = \"320x180\"\nfps = 10\nencoder = \"software\"\nstall = \"500ms\""
        ))
    }).collect();
    watches.iter_mut().for_each(|watch| drop(watch.key_frame()));
    let mut slowest = vec![Duration::ZERO; faults.len()];
    let mut sum = slowest.clone();
    let mut settled = None;
    for round in 0..faults[0].rounds {
        for (device, fault) in (0..).zip(faults) {
            (fault.inject)(device);
        }
        for (n, fault) in faults.iter().enumerate() {
            watches[n].down();
            (fault.heal)(n as u32);
            let healed = Instant::now();
            watches[n].key_frame();
            let took = healed.elapsed();
            slowest[n] = slowest[n].max(took);
            sum[n] += took;
        }
        if round == faults[0].rounds / 5 {
            settled = Some(Holds::ours());
        }
    }
    watches.iter_mut().for_each(|watch| drop(watch.key_frame()));
    let (before, after) = (settled.unwrap(), Holds::ours());
    assert!(
        after.threads <= before.threads,
        "{before:?}, then {after:?}"
    );
    assert!(after.files <= before.files, "{before:?}, then {after:?}");
    assert!(
        after.memory_kib <= before.memory_kib + GROWTH_KIB,
        "{before:?}, then {after:?}"
    );
    let mut words = String::new();
    for (n, fault) in faults.iter().enumerate() {
        let mean = sum[n] / fault.rounds;
        let _ = write!(
            words,
            "{} x {}: back after {} ms in the mean, {} at worst; ",
            fault.rounds,
            fault.name,
            mean.as_millis(),
            slowest[n].as_millis()
        );
    }
    let _ = write!(
        words,
        "memory {} -> {} KiB, threads {} -> {}, files {} -> {}",
        before.memory_kib,
        after.memory_kib,
        before.threads,
        after.threads,
        before.files,
        after.files
    );
    words
}
