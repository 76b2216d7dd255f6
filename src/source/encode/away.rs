//! Work that can hang in a driver, on threads of its own: opening an encoder, letting one go.
//!
//! In: the work. Out: what came of it, to be asked for picture by picture; how many threads there
//! are.
//! Not here: the threads of cameras (v4l2::keeper).
//!
//! Such a thread lasts for milliseconds unless a driver hangs. No more than [`MAX_AWAY`] are
//! there at a time: past it nothing new is opened, and what is to be let go is left behind, which
//! soon asks for a new process ([`abandoned::MAX_STREAMS`]).

use std::mem::{self, ManuallyDrop};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use tracing::error;

use crate::source::v4l2::abandoned;

/// Threads at a time, of all cameras together: each of a few cameras may open an encoder and let
/// go of another one at the same moment.
pub const MAX_AWAY: usize = 8;

/// Threads that open an encoder or let one go, now.
pub fn count() -> usize {
    HERE.running.load(SeqCst)
}

static HERE: Threads = Threads::new(MAX_AWAY);

/// Something that is being made on another thread.
#[derive(Debug)]
pub struct Making<T: Send + 'static>(Arc<Mutex<Slot<T>>>);

#[derive(Debug)]
enum Slot<T> {
    /// Not yet there.
    Empty,
    Full(T),
    /// Nobody waits for it any more.
    Unwanted,
}

/// How far it is.
#[derive(Debug)]
pub enum Progress<T> {
    Pending,
    Made(T),
    /// The thread died.
    Lost,
}

impl<T: Send + 'static> Making<T> {
    /// Begins. `None` when too many such threads are there already: they hang.
    pub fn begin(make: impl FnOnce() -> T + Send + 'static) -> Option<Self> {
        let slot = Arc::new(Mutex::new(Slot::Empty));
        let making = Self(Arc::clone(&slot));
        let work = move || {
            let made = make();
            let mut slot = lock(&slot);
            match *slot {
                Slot::Unwanted => {
                    drop(slot);
                    drop(made); // here, where it may take its time
                }
                Slot::Empty | Slot::Full(_) => *slot = Slot::Full(made),
            }
        };
        HERE.run("encoder opens", work).map(|_| making)
    }

    /// Looks how far it is, without waiting. What was made is handed out once.
    pub fn poll(&mut self) -> Progress<T> {
        let mut slot = lock(&self.0);
        match mem::replace(&mut *slot, Slot::Empty) {
            Slot::Full(made) => Progress::Made(made),
            // The thread has its own hold on the slot until it ends.
            Slot::Empty | Slot::Unwanted if Arc::strong_count(&self.0) == 1 => Progress::Lost,
            Slot::Empty | Slot::Unwanted => Progress::Pending,
        }
    }
}

impl<T: Send + 'static> Drop for Making<T> {
    fn drop(&mut self) {
        let made = mem::replace(&mut *lock(&self.0), Slot::Unwanted);
        if let Slot::Full(made) = made {
            let_go(made);
        }
    }
}

/// Drops something on another thread: to let go of a device that hangs takes as long as it hangs.
/// The answer tells when that is over; `None` where it had to be left behind.
pub fn let_go<T: Send + 'static>(what: T) -> Option<Leaving> {
    // Else it would be dropped right here where there is no thread to do so.
    let what = ManuallyDrop::new(what);
    let leaving = HERE.run("encoder ends", move || drop(ManuallyDrop::into_inner(what)));
    if leaving.is_none() {
        abandoned::leave_stream();
        error!(
            threads = count(),
            "no thread to let go of an encoder: it is left behind"
        );
    }
    leaving
}

/// Work that was given away.
#[derive(Clone, Debug)]
pub struct Leaving(Weak<()>);

impl Leaving {
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Counts threads.
struct Threads {
    running: AtomicUsize,
    most: usize,
}

impl Threads {
    const fn new(most: usize) -> Self {
        Self {
            running: AtomicUsize::new(0),
            most,
        }
    }

    /// Starts a thread unless there are too many; the work is dropped then.
    fn run(&'static self, name: &str, work: impl FnOnce() + Send + 'static) -> Option<Leaving> {
        if self.running.fetch_add(1, SeqCst) >= self.most {
            self.running.fetch_sub(1, SeqCst);
            return None;
        }
        let (place, token) = (Place(self), Arc::new(()));
        let leaving = Leaving(Arc::downgrade(&token));
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _until_the_end = (place, token);
            work();
        });
        spawned.ok().map(|_| leaving)
    }
}

/// One thread's place in the count.
struct Place(&'static Threads);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// Nobody panics while holding one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;

    use super::*;

    /// Says on which thread it was dropped.
    struct Told(mpsc::Sender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    fn made<T: Send>(making: &mut Making<T>) -> Option<T> {
        loop {
            match making.poll() {
                Progress::Made(made) => return Some(made),
                Progress::Lost => return None,
                Progress::Pending => thread::yield_now(),
            }
        }
    }

    #[test]
    fn threads_that_hang_are_few_and_make_room_when_they_end_after_all() {
        let threads: &'static Threads = Box::leak(Box::new(Threads::new(2)));
        let (ends, hang) = (0..2)
            .map(|_| mpsc::channel::<()>())
            .collect::<(Vec<_>, Vec<_>)>();
        let hung: Vec<_> = hang
            .into_iter()
            .map(|end| {
                threads
                    .run("hangs", move || {
                        let _ = end.recv();
                    })
                    .expect("room")
            })
            .collect();
        assert!(threads.run("one too many", || ()).is_none());
        assert_eq!(threads.running.load(SeqCst), 2);
        assert!(hung.iter().all(|one| !one.is_over()));
        drop(ends);
        while threads.running.load(SeqCst) > 0 || !hung.iter().all(Leaving::is_over) {
            thread::yield_now();
        }
        assert!(threads.run("again", || ()).is_some());
    }

    #[test]
    fn what_is_made_is_handed_out_once_and_a_panic_is_a_loss() {
        let mut making = Making::begin(|| 7).expect("a thread");
        assert_eq!(made(&mut making), Some(7));
        assert_eq!(made(&mut making), None);
        let mut making = Making::<u8>::begin(|| panic!("a driver's oddity")).expect("a thread");
        assert_eq!(made(&mut making), None);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_dropped_on_another_thread() {
        let here = thread::current().id();
        let (told, dropped) = mpsc::channel();
        // Before it was made, and after.
        let (enter, may_make) = mpsc::channel::<()>();
        let sender = told.clone();
        let making = Making::begin(move || {
            let _ = may_make.recv();
            Told(sender)
        });
        drop(making);
        drop(enter);
        assert_ne!(dropped.recv().expect("dropped"), here);
        let making = Making::begin(move || Told(told)).expect("a thread");
        while matches!(*lock(&making.0), Slot::Empty) {
            thread::yield_now();
        }
        drop(making);
        assert_ne!(dropped.recv().expect("dropped"), here);
    }
}
