//! Single-planar capture through the `v4l` crate's mapped stream, with its traps fenced off.
//!
//! In: a node with a format set. Out: one buffer at a time; the one before goes back.
//! Not here: multi-planar queues (buffers).
//!
//! What v4l 0.14 does that a camera program cannot live with, and what is done about it:
//! - its stream's `Drop` panics on any error of STREAMOFF or REQBUFS but `ENODEV`, and a second
//!   panic while the first unwinds aborts the process: the stream is stopped by us first and
//!   dropped behind `catch_unwind`. Where even our stop fails it is forgotten instead: its buffers
//!   and its descriptor leak, so that is counted and bounded ([`abandoned::MAX_STREAMS`]);
//! - `next` waits without end: it is called only once poll says that a buffer is there;
//! - `next` queues *before* it waits, so that after any failed wait it would queue a buffer twice:
//!   a failure past its QBUF ends the stream.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tracing::error;
use v4l::io::mmap::Stream as MmapStream;
use v4l::io::traits::{CaptureStream, Stream};
use v4l::v4l_sys as raw;

use super::{Dequeued, Queue, buffers, stream_off, wait};
use crate::source::v4l2::abandoned;

/// A device of the `v4l` crate with our own calls on the same descriptor.
pub struct Node {
    device: Option<v4l::Device>,
}

impl Node {
    /// Opens a node.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &std::path::Path) -> nix::Result<Self> {
        let device = v4l::Device::with_path(path).map_err(|error| errno_of(&error))?;
        Ok(Self {
            device: Some(device),
        })
    }

    /// The crate's own view of it; behind [`guarded`] where it may panic.
    pub fn device(&self) -> &v4l::Device {
        // INVARIANT: taken in `drop` alone.
        self.device.as_ref().expect("open until dropped")
    }

    /// For the calls of this module.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `self` keeps the device, and it its descriptor, open for as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.device().handle().fd()) }
    }

    /// A second descriptor of the same open file.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub fn duplicate(&self) -> nix::Result<Arc<OwnedFd>> {
        let fd = self.fd().try_clone_to_owned();
        fd.map(Arc::new).map_err(|error| errno_of(&error))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // v4l unwraps what close(2) answers; the kernel has closed it all the same.
        let device = self.device.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(device)));
    }
}

/// Calls into v4l where it unwraps what a driver says (names that are no text, unknown numbers).
///
/// # Errors
/// The call's own, and `EPROTO` where it panicked.
pub fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> nix::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(errno_of(&error)),
        Err(_) => Err(Errno::EPROTO),
    }
}

/// A running single-planar stream.
pub struct SinglePlane {
    // Before the node: its buffers are let go first.
    stream: Option<MmapStream<'static>>,
    node: Node,
    /// The buffer that is ours.
    current: Option<NonNull<[u8]>>,
}

impl SinglePlane {
    /// Maps up to `count` buffers, gives them to the driver and starts it.
    ///
    /// # Errors
    /// Those of REQBUFS, QBUF and STREAMON.
    pub fn start(node: Node, count: u32) -> nix::Result<Self> {
        let kind = v4l::buffer::Type::VideoCapture;
        let mut started = Self {
            stream: None,
            node,
            current: None,
        };
        let stream = guarded(|| MmapStream::with_buffers(started.node.device(), kind, count))?;
        let stream = started.stream.insert(stream);
        // Not buffer 0: that is the one that the first `next` queues.
        for index in 1..MAX_BUFFERS {
            if !buffers::is_there(started.node.fd(), Queue::Capture, index) {
                break; // past the last one that the driver gave
            }
            // One that is missing from the start would be missing for the whole run.
            CaptureStream::queue(stream, index).map_err(|error| errno_of(&error))?;
        }
        guarded(|| Stream::start(stream))?;
        Ok(started)
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Takes the next buffer, which must be there ([`wait`] says so), and gives the one before
    /// back.
    ///
    /// # Errors
    /// `EINVAL` for one that could not be given back: it is tried again with the next call. All
    /// others end the stream.
    pub fn take(&mut self) -> nix::Result<Dequeued> {
        self.current = None;
        let stream = self.stream.as_mut().ok_or(Errno::ENODEV)?;
        let taken = guarded(|| {
            let (bytes, meta) = CaptureStream::next(stream)?;
            Ok((NonNull::from(bytes), *meta))
        });
        // After the brake nothing streams any more, and there is nothing to try again.
        let is_over = matches!(taken, Err(Errno::EINVAL)) && self.is_stopped();
        let (bytes, meta) = if is_over { Err(Errno::EPIPE) } else { taken }?;
        self.current = Some(bytes);
        let seconds = u64::try_from(meta.timestamp.sec).unwrap_or(0);
        let micros = u32::try_from(meta.timestamp.usec).unwrap_or(0);
        Ok(Dequeued {
            index: 0,
            flags: u32::from(meta.flags),
            sequence: meta.sequence,
            timestamp: Duration::new(seconds, micros.min(999_999) * 1000),
            planes: vec![(0, (meta.bytesused as usize).min(bytes.len()))],
        })
    }

    /// Of a queue that does not stream, poll says that it failed.
    fn is_stopped(&self) -> bool {
        wait(self.node.fd(), Duration::ZERO).is_ok_and(|ready| ready.failed)
    }

    /// Whether another buffer is there already.
    pub fn has_more(&self) -> bool {
        wait(self.node.fd(), Duration::ZERO).is_ok_and(|ready| ready.read && !ready.failed)
    }

    /// The whole of the buffer that was taken last.
    pub fn bytes(&self) -> &[u8] {
        match self.current {
            // SAFETY: memory that the stream has mapped until it is dropped, of a buffer that the
            // driver gets back only in `take`, which needs `&mut self` and clears `current` first.
            Some(bytes) if self.stream.is_some() => unsafe { bytes.as_ref() },
            _ => &[],
        }
    }
}

impl Drop for SinglePlane {
    fn drop(&mut self) {
        self.current = None;
        let Some(stream) = self.stream.take() else {
            return;
        };
        let_go(stream, stream_off(self.node.fd(), Queue::Capture));
    }
}

/// Drops a stream that was stopped or whose device is gone; any other is left behind.
fn let_go<S>(stream: S, stopped: nix::Result<()>) {
    match stopped {
        Ok(()) | Err(Errno::ENODEV) => {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(stream)));
        }
        Err(errno) => {
            abandoned::leave_stream();
            error!(
                %errno,
                streams = abandoned::streams(),
                "a camera does not stop: its buffers are left behind"
            );
            mem::forget(stream);
        }
    }
}

fn errno_of(error: &io::Error) -> Errno {
    match (error.raw_os_error(), error.kind()) {
        (Some(code), _) => Errno::from_raw(code),
        (None, io::ErrorKind::TimedOut) => Errno::ETIMEDOUT,
        (None, _) => Errno::EIO,
    }
}

/// Against drivers without an end.
const MAX_BUFFERS: usize = raw::VIDEO_MAX_FRAME as usize;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// As v4l's, in a device that refuses to stop.
    struct Panicking<'a>(&'a AtomicUsize);

    impl Drop for Panicking<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic!("STREAMOFF: EIO");
        }
    }

    #[test]
    fn streams_that_do_not_stop_are_left_behind_and_past_a_few_a_new_process_is_asked_for() {
        let dropped = AtomicUsize::new(0);
        let mut alarm = Box::pin(abandoned::too_many());
        let mut rings = move || {
            let waker = Waker::noop();
            let polled = alarm.as_mut().poll(&mut Context::from_waker(waker));
            matches!(polled, Poll::Ready(()))
        };
        // A camera that was pulled is the usual case, and costs nothing.
        for _ in 0..10 {
            let_go(Panicking(&dropped), Err(Errno::ENODEV));
            let_go(Panicking(&dropped), Ok(()));
        }
        assert_eq!((dropped.load(SeqCst), abandoned::streams()), (20, 0));
        for _ in 0..abandoned::MAX_STREAMS {
            let_go(Panicking(&dropped), Err(Errno::EIO));
        }
        assert!(!rings());
        let_go(Panicking(&dropped), Err(Errno::EIO));
        assert!(rings());
        assert_eq!(dropped.load(SeqCst), 20, "never dropped: that would panic");
        assert_eq!(abandoned::streams(), abandoned::MAX_STREAMS + 1);
    }

    #[test]
    fn what_cannot_stream_is_an_error_and_no_panic() {
        let node = Node::open(Path::new("/dev/null")).expect("there");
        assert_eq!(super::super::capability(node.fd()), Err(Errno::ENOTTY));
        assert_eq!(SinglePlane::start(node, 4).err(), Some(Errno::ENOTTY));
        assert_eq!(
            Node::open(Path::new("/dev/none")).err(),
            Some(Errno::ENOENT)
        );
    }

    #[test]
    fn a_panic_of_the_crate_is_an_error() {
        let outcome: nix::Result<()> = guarded(|| panic!("a name that is no text"));
        assert_eq!(outcome, Err(Errno::EPROTO));
    }
}
