//! Keeps one camera of this machine running: starts its thread, watches its pulse, tells why it
//! is down, tries again, for ever.
//!
//! In: demands. Out: [`SourceEvent`]s; each run is a thread of its own, so that a driver that
//! hangs costs one thread and a panic one restart.
//! Not here: the run (capture), on-demand decisions (gateway).
//!
//! A thread shows signs of life at every step. One that shows none for [`HANG_AFTER`] is given
//! up: what it would still say is cut off, the camera is marked down, its device is stopped from
//! outside, and after [`BRAKE_GRACE`] the thread is abandoned (see [`Abandoned`]) and another one
//! started.
//!
//! A thread that was abandoned keeps its device, so that the next ones may find it in use: by
//! Pinhole itself, which is said. Where that lasts for [`HELD_LIMIT`], only a new process can have
//! the camera back, and one is asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{interval, sleep, timeout};
use tracing::{error, warn};

use super::abandoned::{self, Abandoned};
use super::capture::{EncoderOpener, Ended, Job};
use super::device::Opener;
use super::shared::{Outlet, Shared};
use crate::config::{self, Camera};
use crate::media::{DownReason, SourceEvent};
use crate::source::demands::{Asked, Demands, Order, Post};
use crate::source::head_of;
use crate::source::rtsp::KEY_FRAME_LIMIT;
use crate::source::rtsp::verdict::{End, Pace};
use crate::source::supervise::Pacing;

/// A thread without a sign of life for so long hangs. Opening a camera can take seconds, no step
/// of it as long as this.
pub const HANG_AFTER: Duration = Duration::from_secs(10);

/// What a thread that hangs is left to end in, once its device was stopped.
pub const BRAKE_GRACE: Duration = Duration::from_secs(2);

/// How long a device may be held by what this process has left behind with it.
pub const HELD_LIMIT: Duration = Duration::from_secs(180);

/// How often the device of a camera that is away is looked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Keeper {
    pub(super) camera: Camera,
    pub(super) wish: config::V4l2,
    pub(super) post: Post,
    pub(super) demands: Demands,
    pub(super) opener: Arc<dyn Opener>,
    pub(super) encoder: Arc<EncoderOpener>,
    pub(super) pacing: Pacing,
    pub(super) limits: Limits,
    pub(super) left: Left,
}

/// What was left behind with the device.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Threads that hang in it, and what they do. There are few: [`abandoned::MAX_ABANDONED`].
    threads: Vec<(Abandoned, &'static str)>,
    /// A stream that did not stop, which lasts as long as the process.
    stream: bool,
    /// Since when it keeps the device from us.
    holds_since: Option<Instant>,
}

impl Left {
    /// The thread or stream that may hold the device, in words.
    fn holder(&mut self) -> Option<String> {
        self.threads.retain(|(mark, _)| mark.is_left());
        match (self.threads.last(), self.stream) {
            (Some((_, doing)), _) => Some(format!("a thread of it hangs in the driver ({doing})")),
            (None, true) => Some("the driver did not stop its last stream".to_owned()),
            (None, false) => None,
        }
    }

    /// Whether it has held the device for too long, now that a run ended in this way. A device
    /// that is in use is in our own use then, and `end` says so.
    fn on_end(&mut self, end: &mut End, now: Instant, limit: Duration) -> bool {
        let holder = self.holder().filter(|_| end.pace == Pace::Held);
        let Some(holder) = holder else {
            self.holds_since = None;
            return false;
        };
        let since = *self.holds_since.get_or_insert(now);
        let lasts = now.saturating_duration_since(since);
        end.detail = format!("the device is still held by Pinhole itself: {holder}");
        lasts >= limit
    }
}

/// How patient the keeper is; tests are not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) hang_after: Duration,
    pub(super) brake_grace: Duration,
    pub(super) held_limit: Duration,
    pub(super) key_frame: Duration,
    /// Asks for a new process.
    pub(super) give_up: fn(),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hang_after: HANG_AFTER,
            brake_grace: BRAKE_GRACE,
            held_limit: HELD_LIMIT,
            key_frame: KEY_FRAME_LIMIT,
            give_up: abandoned::ring,
        }
    }
}

/// The keeper's end of one capture thread.
struct Thread {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<Ended>,
    gone: oneshot::Receiver<()>,
    mark: Abandoned,
}

/// How the watch over a run ended.
enum Over {
    Ended(Ended),
    /// The thread shows no sign of life.
    Hangs(End),
    Asked(Asked),
}

impl Thread {
    /// Waits for the end of a thread that was told to stop; whether it came.
    async fn end(mut self, camera: &str, limits: Limits, hangs: bool) -> bool {
        let mut pulse = Pulse::new(&self.shared, limits.hang_after);
        while !hangs && pulse.is_lost(&self.shared).is_none() {
            if timeout(limits.hang_after / 10, &mut self.gone)
                .await
                .is_ok()
            {
                return true;
            }
        }
        let doing = self.shared.doing();
        warn!(
            camera,
            doing, "the camera's thread hangs: its device is stopped from outside"
        );
        self.shared.shut();
        self.shared.pull_brake();
        let has_ended = timeout(limits.brake_grace, &mut self.gone).await.is_ok();
        if !has_ended {
            error!(camera, doing, "the camera's thread is abandoned");
        }
        has_ended
    }
}

impl Keeper {
    pub(super) async fn run(mut self) {
        while self.demands.opened(&self.post).await {
            let asked = self.keep_open().await;
            self.demands.closed(&self.post).await;
            if asked == Asked::Stop {
                return;
            }
        }
    }

    /// Run after run, until asked to let go.
    async fn keep_open(&mut self) -> Asked {
        loop {
            self.post.say(SourceEvent::Opening).await;
            if self.post.is_dead() {
                return Asked::Stop;
            }
            let (begun, streams) = (Instant::now(), abandoned::streams());
            let (over, thread) = match self.spawn() {
                Ok(mut thread) => (self.watch(&mut thread).await, Some(thread)),
                Err(end) => (Over::Ended(failed(end)), None),
            };
            // Told first, then let go.
            let (hangs, told) = match over {
                Over::Ended(ended) => (false, Ok(self.tell(ended, begun, Duration::ZERO).await)),
                Over::Hangs(end) => {
                    let grace = self.limits.brake_grace;
                    (true, Ok(self.tell(failed(end), begun, grace).await))
                }
                Over::Asked(asked) => (false, Err(asked)),
            };
            let mut asked = told.err();
            if let Some(thread) = thread {
                asked = self.let_go(thread, hangs, asked).await;
            }
            self.left.stream |= abandoned::streams() > streams;
            match (told, asked) {
                (Ok((until, was_away)), None) => {
                    if let Err(asked) = self.pause(until, was_away).await {
                        return asked;
                    }
                }
                (Err(asked), _) | (Ok(_), Some(asked)) => return asked,
            }
        }
    }

    /// Says why a run is over, and when the next begins: not before the thread was let go, which
    /// takes `letting_go`. That time comes back, and whether the device is away.
    async fn tell(
        &mut self,
        ended: Ended,
        begun: Instant,
        letting_go: Duration,
    ) -> (Instant, bool) {
        let Ended { end, played } = ended;
        let mut end = end.unwrap_or_else(|| internal("stopped by nobody".to_owned()));
        let (now, jitter) = (Instant::now(), getrandom::u32().unwrap_or(0));
        let until = self.pacing.on_end(end.pace, played, begun, now, jitter);
        let until = until.max(now + letting_go);
        if self.left.on_end(&mut end, now, self.limits.held_limit) {
            error!(
                camera = self.camera.name,
                detail = end.detail,
                "a new process is needed"
            );
            (self.limits.give_up)();
        }
        // Looked at before anybody hears of it: it may be back by the time of the pause.
        let was_away = !self.opener.is_there(&self.wish.device);
        self.post.say_down(&end, until).await;
        (until, was_away)
    }

    fn spawn(&self) -> Result<Thread, End> {
        let shared = Arc::new(Shared::default());
        if let Some(bps) = self.demands.bitrate() {
            shared.order_bitrate(bps);
        }
        let mark = Abandoned::default();
        let (told, ended) = oneshot::channel();
        let (leave, gone) = oneshot::channel();
        let body = Body {
            camera: self.camera.clone(),
            wish: self.wish.clone(),
            opener: Arc::clone(&self.opener),
            encoder: Arc::clone(&self.encoder),
            key_frame_limit: self.limits.key_frame,
            outlet: Outlet {
                id: self.post.id,
                events: self.post.events.clone(),
                shared: Arc::clone(&shared),
            },
        };
        let guard = mark.guard();
        thread::Builder::new()
            .name(format!("v4l2 {}", self.camera.name)) // Linux shows the first 15 bytes
            .spawn(move || {
                let _guard = guard;
                body.run(told);
                let _ = leave.send(());
            })
            .map_err(|cause| internal(format!("no thread: {cause}")))?;
        Ok(Thread {
            shared,
            ended,
            gone,
            mark,
        })
    }

    /// Follows demands until the run is over, hangs, or is to be stopped. Nothing of a run that is
    /// over is told any more.
    async fn watch(&mut self, thread: &mut Thread) -> Over {
        let mut pulse = Pulse::new(&thread.shared, self.limits.hang_after);
        let mut look = interval(self.limits.hang_after / 10);
        let over = loop {
            tokio::select! {
                biased;
                order = self.demands.next() => match order {
                    Ok(Order::KeyFrame) => thread.shared.order_key_frame(),
                    Ok(Order::Bitrate(bps)) => thread.shared.order_bitrate(bps),
                    Err(asked) => return Over::Asked(asked),
                },
                ended = &mut thread.ended => {
                    break Over::Ended(ended.unwrap_or_else(|_| {
                        failed(internal("the camera's thread vanished".to_owned()))
                    }));
                }
                _ = look.tick() => {
                    if let Some(hang) = pulse.is_lost(&thread.shared) {
                        break Over::Hangs(hang);
                    }
                }
            }
        };
        thread.shared.shut();
        over
    }

    /// Waits until the thread has let go of the device; one that does not, or hangs already, is
    /// stopped from outside, then abandoned. Demands are read meanwhile, up to the one that asks to
    /// let go (`asked`, where it was heard before), which comes back.
    async fn let_go(
        &mut self,
        thread: Thread,
        hangs: bool,
        mut asked: Option<Asked>,
    ) -> Option<Asked> {
        thread.shared.order_stop();
        let (mark, shared) = (thread.mark.clone(), Arc::clone(&thread.shared));
        let mut ending = pin!(thread.end(&self.camera.name, self.limits, hangs));
        let has_ended = loop {
            tokio::select! {
                biased;
                has_ended = &mut ending => break has_ended,
                got = self.demands.asked(), if asked.is_none() => asked = Some(got),
            }
        };
        if !has_ended {
            mark.abandon();
            self.left.threads.push((mark, shared.doing()));
        }
        asked
    }

    /// Waits until `until`, or until the device is plugged in again.
    async fn pause(&mut self, until: Instant, mut was_away: bool) -> Result<(), Asked> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::select! {
                biased;
                asked = self.demands.asked() => return Err(asked),
                () = sleep(left.min(LOOK_EVERY)) => {
                    match self.opener.is_there(&self.wish.device) {
                        false => was_away = true,
                        true if was_away => return Ok(()),
                        true => {}
                    }
                }
            }
        }
    }
}

/// What the thread does.
struct Body {
    camera: Camera,
    wish: config::V4l2,
    opener: Arc<dyn Opener>,
    encoder: Arc<EncoderOpener>,
    key_frame_limit: Duration,
    outlet: Outlet,
}

impl Body {
    fn run(self, told: oneshot::Sender<Ended>) {
        let mut told = Some(told);
        let mut tell = |ended: Ended| {
            if let Some(told) = told.take() {
                let _ = told.send(ended);
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let job = Job {
                name: &self.camera.name,
                wish: &self.wish,
                stall: self.camera.stall,
                max_errors: self.camera.max_errors,
                key_frame_limit: self.key_frame_limit,
                opener: self.opener.as_ref(),
                encoder: &self.encoder,
                outlet: &self.outlet,
            };
            job.run(&mut tell);
        }));
        if let Err(panic) = outcome {
            let what = head_of(panic.as_ref());
            self.outlet.shared.set_brake(None);
            tell(failed(internal(format!(
                "the camera's thread panicked: {what}"
            ))));
        }
    }
}

/// Notices that a thread shows no sign of life.
struct Pulse {
    beats: u64,
    since: Instant,
    limit: Duration,
}

impl Pulse {
    fn new(shared: &Shared, limit: Duration) -> Self {
        Self {
            beats: shared.beats(),
            since: Instant::now(),
            limit,
        }
    }

    fn is_lost(&mut self, shared: &Shared) -> Option<End> {
        let beats = shared.beats();
        if beats != self.beats {
            (self.beats, self.since) = (beats, Instant::now());
        }
        let silent = self.since.elapsed();
        (silent >= self.limit).then(|| End {
            reason: DownReason::Stalled,
            detail: format!(
                "the driver hangs: {} for {:.1} s",
                shared.doing(),
                silent.as_secs_f32()
            ),
            pace: Pace::Soon,
        })
    }
}

fn failed(end: End) -> Ended {
    Ended {
        end: Some(end),
        played: Duration::ZERO,
    }
}

fn internal(detail: String) -> End {
    End::new(DownReason::Internal, detail)
}
