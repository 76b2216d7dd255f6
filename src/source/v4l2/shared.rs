//! What a capture thread and its keeper share: orders, the heartbeat, the brake, the gate.
//!
//! In: orders of the loop. Out: events, until the gate is shut.
//! Not here: the thread's work (capture), what becomes of a thread that hangs (keeper).

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::Permit;
use tokio::sync::mpsc::error::TrySendError;

use super::sys::{Queue, stream_off};
use crate::media::{AccessUnit, CameraId, SourceEvent};
use crate::source::EventSender;

/// One capture thread's end of everything.
#[derive(Debug, Default)]
pub struct Shared {
    stop: AtomicBool,
    key_frame: AtomicBool,
    /// Bits per second; 0 before any order.
    bitrate: AtomicU32,
    beats: AtomicU64,
    /// Whether events may still be sent: from the moment that the keeper says how a run ended,
    /// nothing of it comes after.
    is_shut: Mutex<bool>,
    doing: Mutex<&'static str>,
    brake: Mutex<Option<Brake>>,
}

/// Stops a device from outside its thread.
#[derive(Clone, Debug)]
pub struct Brake {
    pub fd: Arc<OwnedFd>,
    pub queue: Queue,
}

impl Shared {
    pub(super) fn order_stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub(super) fn order_key_frame(&self) {
        self.key_frame.store(true, Relaxed);
    }

    pub(super) fn take_key_frame(&self) -> bool {
        self.key_frame.swap(false, Relaxed)
    }

    pub(super) fn order_bitrate(&self, bps: u32) {
        self.bitrate.store(bps, Relaxed);
    }

    pub(super) fn bitrate(&self) -> Option<u32> {
        Some(self.bitrate.load(Relaxed)).filter(|bps| *bps > 0)
    }

    /// The thread is alive and about to do this.
    pub fn beat(&self, doing: &'static str) {
        *lock(&self.doing) = doing;
        self.beats.fetch_add(1, Relaxed);
    }

    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Relaxed)
    }

    /// What the thread began last.
    pub(super) fn doing(&self) -> &'static str {
        *lock(&self.doing)
    }

    /// How to stop the device, once it is open; `None` once it is closed.
    pub fn set_brake(&self, brake: Option<Brake>) {
        *lock(&self.brake) = brake;
    }

    /// Stops the device from outside, on a thread of its own: the call may hang like the other.
    pub(super) fn pull_brake(&self) {
        let Some(brake) = lock(&self.brake).clone() else {
            return;
        };
        let _ = thread::Builder::new()
            .name("v4l2 brake".to_owned())
            .spawn(move || stream_off(&brake.fd, brake.queue));
    }

    /// No event of this run from here on.
    pub(super) fn shut(&self) {
        *lock(&self.is_shut) = true;
    }
}

/// Nobody panics while holding one of these; if so, the value is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a capture thread says things.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    pub(super) id: CameraId,
    pub(super) events: EventSender,
    pub(super) shared: Arc<Shared>,
}

/// The thread is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

impl Outlet {
    /// Says something that must arrive: waits while the channel is full.
    pub(super) fn tell(&self, event: SourceEvent) -> Result<(), Stopped> {
        let mut waiting = (self.id, event);
        loop {
            self.shared.beat("waiting for the gateway");
            {
                let is_shut = lock(&self.shared.is_shut);
                if *is_shut || self.shared.is_stopped() {
                    return Err(Stopped);
                }
                match self.events.try_send(waiting) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Closed(_)) => return Err(Stopped),
                    Err(TrySendError::Full(back)) => waiting = back,
                }
            }
            thread::sleep(FULL_WAIT);
        }
    }

    /// A place for one unit; `None` while the channel is full.
    pub(super) fn reserve(&self) -> Result<Option<Place<'_>>, Stopped> {
        match self.events.try_reserve() {
            Ok(permit) => Ok(Some(Place(self, permit))),
            Err(TrySendError::Full(())) => Ok(None),
            Err(TrySendError::Closed(())) => Err(Stopped),
        }
    }
}

/// A place in the channel, taken before a picture is coded: nothing coded is ever lost.
pub(super) struct Place<'a>(&'a Outlet, Permit<'a, (CameraId, SourceEvent)>);

impl Place<'_> {
    pub(super) fn hand_on(self, unit: AccessUnit) {
        let Self(outlet, permit) = self;
        let is_shut = lock(&outlet.shared.is_shut);
        if !*is_shut {
            permit.send((outlet.id, SourceEvent::Unit(unit)));
        }
    }
}

/// Between two looks at a full channel.
const FULL_WAIT: Duration = Duration::from_millis(5);
