//! How much of the machine its host takes away: a machine that stands still for a moment drops
//! pictures and misses deadlines, and no fault of Pinhole's can be told from that.
//!
//! In: the time. Out: pauses of a thread that only sleeps, for each case.
//! Not here: what is made of them (main).

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::shell;

/// In microseconds, since the last [`begin`].
static LOST: AtomicU64 = AtomicU64::new(0);
static LONGEST: AtomicU64 = AtomicU64::new(0);

const NAP: Duration = Duration::from_millis(5);
/// An emulated timer is late by so much without anybody's fault.
const USUAL: Duration = Duration::from_millis(2);

/// A pause after which a case may have failed by the host's doing.
const LONG: Duration = Duration::from_millis(100);
/// The same of the sum of all, as a share of the case's time.
const MUCH: f64 = 0.05;

/// Starts the thread that sleeps. It comes before everybody else in the machine, on the second
/// processor: those cases that are about too little time keep the first one busy.
pub fn watch() {
    thread::spawn(|| {
        let me = fs::read_link("/proc/thread-self").unwrap();
        let me = me.file_name().unwrap().to_string_lossy();
        shell(&format!("taskset -p 2 {me} && renice -n -20 -p {me}"));
        loop {
            let start = Instant::now();
            thread::sleep(NAP);
            let late = start.elapsed().saturating_sub(NAP);
            if late > USUAL {
                let late = late.as_micros() as u64;
                LOST.fetch_add(late, Ordering::Relaxed);
                LONGEST.fetch_max(late, Ordering::Relaxed);
            }
        }
    });
}

/// What was lost while a case ran.
#[derive(Clone, Copy, Debug)]
pub struct Starved {
    lost: Duration,
    longest: Duration,
    span: Duration,
}

/// Begins to count afresh.
pub fn begin() -> Instant {
    LOST.store(0, Ordering::Relaxed);
    LONGEST.store(0, Ordering::Relaxed);
    Instant::now()
}

impl Starved {
    pub fn since(begun: Instant) -> Self {
        Self {
            lost: Duration::from_micros(LOST.load(Ordering::Relaxed)),
            longest: Duration::from_micros(LONGEST.load(Ordering::Relaxed)),
            span: begun.elapsed(),
        }
    }

    /// Too much for a failure to be Pinhole's beyond doubt.
    pub fn is_much(self) -> bool {
        self.longest > LONG || self.lost > self.span.mul_f64(MUCH)
    }
}

impl fmt::Display for Starved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, longest) = (self.lost.as_millis(), self.longest.as_millis());
        write!(f, "lost {lost} ms, longest {longest} ms")
    }
}
