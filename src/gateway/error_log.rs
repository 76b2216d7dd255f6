//! What of a camera's errors becomes a line in the log: the first of a kind at once, those that
//! follow as one sum a minute. A poor camera errs several times a second, for months.
//!
//! In: errors as they come, the time. Out: lines. Not here: counting (`ErrorCounts`).

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::media::ErrorKind;

/// From a line of one kind to the next of that kind.
const SPACING: Duration = Duration::from_secs(60);

/// The errors of one camera.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    kinds: [Kept; ErrorKind::ALL.len()],
    /// The earliest moment at which something kept back may be told.
    due: Option<Instant>,
}

/// Errors of one kind since its last line.
#[derive(Debug, Default)]
struct Kept {
    /// Another line may be written then; `None` before the first.
    next: Option<Instant>,
    untold: u64,
    /// Of the latest.
    detail: String,
}

impl ErrorLog {
    /// So many errors of one kind; `camera` is only a name for the line.
    pub(super) fn push(
        &mut self,
        now: Instant,
        camera: &str,
        kind: ErrorKind,
        count: u64,
        detail: &str,
    ) {
        let kept = &mut self.kinds[kind as usize];
        kept.untold += count;
        detail.clone_into(&mut kept.detail);
        if kept.next.is_none_or(|next| next <= now) {
            kept.tell(now, camera, kind);
        } else {
            self.due = self.due.into_iter().chain(kept.next).min();
        }
    }

    /// Tells what was kept back and may be told by now.
    pub(super) fn poll(&mut self, now: Instant, camera: &str) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        for (kept, kind) in self.kinds.iter_mut().zip(ErrorKind::ALL) {
            if kept.untold > 0 && kept.next.is_none_or(|next| next <= now) {
                kept.tell(now, camera, kind);
            }
        }
        let waiting = self.kinds.iter().filter(|kept| kept.untold > 0);
        self.due = waiting.filter_map(|kept| kept.next).min();
    }
}

impl Kept {
    fn tell(&mut self, now: Instant, camera: &str, kind: ErrorKind) {
        let (count, detail) = (self.untold, self.detail.as_str());
        let word = kind.as_str();
        if kind.is_error() {
            warn!(%camera, kind = word, count, detail, "camera errors");
        } else if kind == ErrorKind::Skipped {
            // Some are after every key frame, as long as all is well.
            debug!(%camera, kind = word, count, "pictures left out");
        } else {
            info!(%camera, kind = word, count, "pictures left out");
        }
        self.untold = 0;
        self.next = Some(now + SPACING);
    }
}

#[cfg(test)]
mod tests;
