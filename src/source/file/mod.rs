//! A recorded clip as a camera, looped in real time: for demonstrations and tests.
//!
//! In: a file of H.264 (a byte stream or MP4), demands. Out: source events, like any camera's.
//! Not here: coding; the clip is passed through as it is.
//!
//! Reading happens on a thread of its own, one picture ahead. Coded pictures are never left out
//! (that breaks references): where the loop is behind, the clip waits for it and its clock goes on.

mod annexb;
mod boxes;
mod clip;
mod mp4;

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tracing::debug;

pub use clip::{Clip, ClipError, Sample};

use super::worker::{self, End, Gone, Listened, Worker};
use crate::config::File;
use crate::media::{
    Abilities, AccessUnit, CameraId, Codec, Demand, DownReason, SourceEvent, Stages, with_causes,
};

/// Starts the thread of one clip. It waits for [`Demand::Open`], and ends when the other end of
/// `demands` is dropped or nobody listens to `events` any more.
pub fn start(
    id: CameraId,
    name: &str,
    file: File,
    events: Sender<(CameraId, SourceEvent)>,
    demands: UnboundedReceiver<Demand>,
) {
    worker::start("file", id, name, events, demands, move |worker| {
        run(worker, &file)
    });
}

fn run(worker: &mut Worker, file: &File) -> Result<End, Gone> {
    worker.tell(SourceEvent::Opening)?;
    let mut clip = match Clip::open(&file.path, file.fps) {
        Ok(clip) => clip,
        Err(error) => return Ok(failed(&file.path, &error)),
    };
    worker.tell(SourceEvent::Playing(Abilities::default()))?;
    worker.tell(SourceEvent::Note(clip.describe()))?;
    let mut timeline = Timeline::new(Instant::now());
    loop {
        let sample = match clip.next_sample() {
            Ok(sample) => sample,
            Err(error) => return Ok(failed(&file.path, &error)),
        };
        if !send(worker, &mut timeline, sample)? {
            debug!(camera = worker.name, "closed");
            return Ok(End::Closed);
        }
    }
}

/// Waits for the time of a picture and for a place, then hands it on. False when closed meanwhile.
fn send(worker: &mut Worker, timeline: &mut Timeline, sample: Sample) -> Result<bool, Gone> {
    let mut due = timeline.due(sample.ticks);
    loop {
        if worker.listen(Some(due))? == Listened::Closed {
            return Ok(false);
        }
        worker.orders.key_frame = false; // key frames come when the clip has one
        let now = Instant::now();
        let Some(place) = worker.place()? else {
            due = now + FULL_WAIT;
            continue;
        };
        let unit = AccessUnit {
            codec: Codec::H264,
            data: sample.data,
            is_key_frame: sample.is_key_frame,
            ticks: timeline.take(sample.ticks, now),
            received: now,
            after_loss: false,
            stages: Stages::default(),
        };
        place.send((worker.id, SourceEvent::Unit(unit)));
        return Ok(true);
    }
}

fn failed(path: &Path, error: &ClipError) -> End {
    let reason = match error {
        ClipError::Open(_) | ClipError::Read(_) => DownReason::Unreachable,
        ClipError::Size { .. }
        | ClipError::NotH264
        | ClipError::NoKeyFrame
        | ClipError::NoTrack(_)
        | ClipError::Mp4(_)
        | ClipError::Broken(_) => DownReason::Unsupported,
    };
    End::Failed {
        reason,
        detail: format!("{}: {}", path.display(), with_causes(error)),
    }
}

/// The clip's ticks on the machine's clock.
#[derive(Debug)]
struct Timeline {
    start: Instant,
    /// Ticks that the clip had to wait for so far.
    waited: i64,
    last: i64,
}

impl Timeline {
    fn new(start: Instant) -> Self {
        Self {
            start,
            waited: 0,
            last: -1,
        }
    }

    fn due(&self, ticks: i64) -> Instant {
        let ticks = u64::try_from(ticks + self.waited).unwrap_or(0);
        self.start + Duration::from_micros(ticks.saturating_mul(100) / 9)
    }

    /// The ticks of the picture that is sent at `now`: rising, and never far behind the clock.
    fn take(&mut self, ticks: i64, now: Instant) -> i64 {
        let late = now.saturating_duration_since(self.due(ticks));
        if late > LATE {
            self.waited += (late.as_micros() * 9 / 100) as i64;
        }
        self.last = (ticks + self.waited).max(self.last + 1);
        self.last
    }
}

/// Between two looks at a full channel.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// Later than this the clip's clock is set forward, else it catches up.
const LATE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_that_had_to_wait_goes_on_at_its_own_rate() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(timeline.take(0, at(1)), 0);
        assert_eq!(timeline.take(9000, at(150)), 9000, "a little late");
        assert_eq!(timeline.take(18_000, at(3200)), 18_000 + 270_000);
        assert_eq!(timeline.due(27_000), at(3300));
        assert_eq!(timeline.take(27_000, at(3300)), 27_000 + 270_000);
    }

    #[test]
    fn ticks_rise_even_where_the_clip_stands_still() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        let ticks = [0, 0, 0, 3000].map(|ticks| timeline.take(ticks, start));
        assert_eq!(ticks, [0, 1, 2, 3000]);
    }
}
