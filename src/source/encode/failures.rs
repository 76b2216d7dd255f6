//! Which hardware encoders failed, and when each is worth another trial.
//!
//! In: faults with their times. Out: how long to leave a node alone.
//! Not here: what codes meanwhile (choose).
//!
//! That a node is broken is a fact about the machine: it outlives the camera's run and the size
//! of its pictures, and holds for the other cameras too. A node that went away and came back is
//! another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::m2m::MAX_NODES;

/// The failures of the nodes of one machine; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Mutex<Vec<Failure>>>);

/// A node that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    node: PathBuf,
    /// Its inode: the kernel makes a new one when the device comes back.
    inode: Option<u64>,
    /// For a person.
    pub why: String,
    pub retry_at: Instant,
    /// From the failure to that moment.
    wait: Duration,
}

impl Failures {
    /// A node failed at `now`, after it had coded for `ran`: when to try it again. Several
    /// cameras that lose the same node tell the same failure.
    pub fn note(&self, node: &Path, why: String, ran: Duration, now: Instant) -> Instant {
        let mut all = self.lock();
        let before = all.iter().position(|failure| failure.node == node);
        let before = before.map(|index| all.remove(index));
        let wait = match &before {
            Some(known) if known.retry_at > now => known.wait,
            Some(known) if ran < GOOD_RUN => (known.wait * 2).min(LAST_RETRY),
            Some(_) | None => FIRST_RETRY,
        };
        let retry_at = match &before {
            Some(known) if known.retry_at > now => known.retry_at,
            Some(_) | None => now + wait,
        };
        if all.len() >= MAX_NODES {
            all.remove(0); // the oldest: that node is gone
        }
        all.push(Failure {
            node: node.to_owned(),
            inode: inode(node),
            why,
            retry_at,
            wait,
        });
        retry_at
    }

    /// The failure for which a node is left alone at `now`.
    pub fn of(&self, node: &Path, now: Instant) -> Option<Failure> {
        let all = self.lock();
        let failure = all.iter().find(|failure| failure.node == node)?;
        let holds = failure.retry_at > now && failure.inode == inode(node);
        holds.then(|| failure.clone())
    }

    /// Nobody panics while holding it.
    fn lock(&self) -> MutexGuard<'_, Vec<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn inode(node: &Path) -> Option<u64> {
    fs::metadata(node).ok().map(|facts| facts.ino())
}

/// Before hardware that failed is tried again; doubled from failure to failure.
pub const FIRST_RETRY: Duration = Duration::from_secs(5 * 60);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(3600);
/// Hardware that ran as long was good: its failure counts as a first one.
const GOOD_RUN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn waits_double_up_to_an_hour_and_a_good_run_starts_them_afresh() {
        let (failures, node) = (Failures::default(), Path::new("/dev/video11"));
        let mut now = Instant::now();
        for minutes in [5, 10, 20, 40, 60, 60] {
            let retry_at = failures.note(node, "hot".to_owned(), Duration::ZERO, now);
            assert_eq!(retry_at, now + minutes * MINUTE);
            let just_before = retry_at - Duration::from_millis(1);
            assert_eq!(failures.of(node, just_before).unwrap().why, "hot");
            assert_eq!(failures.of(node, retry_at), None);
            assert_eq!(failures.of(Path::new("/dev/video12"), now), None);
            now = retry_at;
        }
        let retry_at = failures.note(node, "hot".to_owned(), GOOD_RUN, now);
        assert_eq!(retry_at, now + FIRST_RETRY);
    }

    #[test]
    fn what_several_cameras_lose_at_once_is_one_failure() {
        let (failures, node) = (Failures::default(), Path::new("/dev/video11"));
        let now = Instant::now();
        let first = failures.note(node, "gone".to_owned(), Duration::ZERO, now);
        let second = failures.note(node, "gone".to_owned(), Duration::ZERO, now + MINUTE);
        assert_eq!(first, second);
        assert_eq!(failures.lock().len(), 1);
    }

    #[test]
    fn a_node_that_came_back_is_another_one() {
        let name = format!("pinhole-failures-{}", std::process::id());
        let node = std::env::temp_dir().join(name);
        let other = node.with_extension("other");
        let (failures, now) = (Failures::default(), Instant::now());
        fs::write(&node, "").unwrap();
        fs::write(&other, "").unwrap(); // so that the number is not given again
        failures.note(&node, "broken".to_owned(), Duration::ZERO, now);
        assert!(failures.of(&node, now).is_some());
        fs::rename(&other, &node).unwrap();
        assert_eq!(failures.of(&node, now), None);
        fs::remove_file(&node).unwrap();
    }

    #[test]
    fn no_more_nodes_are_remembered_than_are_looked_at() {
        let failures = Failures::default();
        for n in 0..MAX_NODES + 10 {
            let node = PathBuf::from(format!("/dev/video{n}"));
            failures.note(&node, String::new(), Duration::ZERO, Instant::now());
        }
        assert_eq!(failures.lock().len(), MAX_NODES);
    }
}
