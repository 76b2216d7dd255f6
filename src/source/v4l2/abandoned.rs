//! What had to be left behind with a driver: threads that hang in it, streams that it does not
//! stop. Counted, few.
//!
//! In: that a thread is abandoned, that it ended after all; that a stream is. Out: how many there
//! are, and when there are too many.
//! Not here: when a thread hangs (keeper), when a stream does not stop (sys).
//!
//! A thread cannot be killed, and buffers that a driver may still write to cannot be unmapped.
//! Each one left behind holds memory and its device, so past [`MAX_ABANDONED`] or [`MAX_STREAMS`]
//! the process should end and be started afresh: [`too_many`] resolves, and whoever runs the
//! process ends it in order.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};

use tokio::sync::watch;

/// Threads that may be left behind at a time, of all cameras together.
pub const MAX_ABANDONED: usize = 3;

/// Streams that may be left behind, of all cameras together. None of them ever comes back.
pub const MAX_STREAMS: usize = 3;

/// Threads that are left behind now.
pub fn count() -> usize {
    ABANDONED.load(SeqCst)
}

/// Streams that were left behind since start.
pub fn streams() -> usize {
    STREAMS.load(SeqCst)
}

/// One more stream is left behind.
pub(in crate::source) fn leave_stream() {
    if STREAMS.fetch_add(1, SeqCst) + 1 > MAX_STREAMS {
        ring();
    }
}

/// A new process is needed, however few are left behind: one holds a device that is wanted.
pub(super) fn ring() {
    ALARM.send_replace(true);
}

/// Resolves once more threads than [`MAX_ABANDONED`] were left behind at a time, or more streams
/// than [`MAX_STREAMS`], or when one of them has kept its camera from everybody for too long.
pub async fn too_many() {
    let _ = ALARM.subscribe().wait_for(|rung| *rung).await;
}

static ABANDONED: AtomicUsize = AtomicUsize::new(0);
static STREAMS: AtomicUsize = AtomicUsize::new(0);
static ALARM: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::channel(false).0);

const RUNNING: u8 = 0;
const LEFT: u8 = 1;
const OVER: u8 = 2;

/// One thread, seen from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Abandoned(Arc<AtomicU8>);

impl Abandoned {
    /// For the thread to hold until it ends.
    pub(super) fn guard(&self) -> Guard {
        Guard(Arc::clone(&self.0))
    }

    /// Whether the thread was left behind and is still there.
    pub(super) fn is_left(&self) -> bool {
        self.0.load(SeqCst) == LEFT
    }

    /// The thread is left behind, unless it has just ended.
    pub(super) fn abandon(&self) {
        // Counted before it can be taken back.
        let left = ABANDONED.fetch_add(1, SeqCst) + 1;
        match self.0.compare_exchange(RUNNING, LEFT, SeqCst, SeqCst) {
            Ok(_) if left > MAX_ABANDONED => ring(),
            Ok(_) => {}
            Err(_) => {
                ABANDONED.fetch_sub(1, SeqCst);
            }
        }
    }
}

/// The thread's own end.
#[derive(Debug)]
pub(super) struct Guard(Arc<AtomicU8>);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.swap(OVER, SeqCst) == LEFT {
            ABANDONED.fetch_sub(1, SeqCst);
        }
    }
}
