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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{interval, sleep, timeout};
use tracing::{error, warn};

use super::abandoned::Abandoned;
use super::capture::{EncoderOpener, Ended, Job};
use super::device::Opener;
use super::shared::{Outlet, Shared};
use crate::config::{self, Camera};
use crate::media::{DownReason, SourceEvent};
use crate::source::demands::{Asked, Demands, Order, Post};
use crate::source::head_of;
use crate::source::rtsp::verdict::{End, Pace};
use crate::source::supervise::Pacing;

/// A thread without a sign of life for so long hangs. Opening a camera can take seconds, no step
/// of it as long as this.
pub const HANG_AFTER: Duration = Duration::from_secs(10);

/// What a thread that hangs is left to end in, once its device was stopped.
pub const BRAKE_GRACE: Duration = Duration::from_secs(2);

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
}

/// How patient the keeper is; tests are not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) hang_after: Duration,
    pub(super) brake_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hang_after: HANG_AFTER,
            brake_grace: BRAKE_GRACE,
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
            let begun = Instant::now();
            let ended = match self.spawn() {
                Ok(mut thread) => match self.watch(&mut thread).await {
                    Ok(ended) => {
                        // Nothing of it is told after its end.
                        thread.shared.shut();
                        (ended, Some(thread))
                    }
                    Err(asked) => {
                        thread.shared.order_stop();
                        self.let_go(thread).await;
                        return asked;
                    }
                },
                Err(end) => (failed(end), None),
            };
            let (Ended { end, played }, thread) = ended;
            let end = end.unwrap_or_else(|| internal("stopped by nobody".to_owned()));
            let jitter = getrandom::u32().unwrap_or(0);
            let until = self
                .pacing
                .on_end(end.pace, played, begun, Instant::now(), jitter);
            // Looked at before anybody hears of it: it may be back by the time of the pause.
            let was_away = !self.opener.is_there(&self.wish.device);
            // Told first, then let go.
            self.post.say_down(&end, until).await;
            if let Some(thread) = thread {
                self.let_go(thread).await;
            }
            if let Err(asked) = self.pause(until, was_away).await {
                return asked;
            }
        }
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

    /// Follows demands until the run is over (or hangs), or is to be stopped.
    async fn watch(&mut self, thread: &mut Thread) -> Result<Ended, Asked> {
        let mut pulse = Pulse::new(&thread.shared, self.limits.hang_after);
        let mut look = interval(self.limits.hang_after / 10);
        loop {
            tokio::select! {
                biased;
                order = self.demands.next() => match order? {
                    Order::KeyFrame => thread.shared.order_key_frame(),
                    Order::Bitrate(bps) => thread.shared.order_bitrate(bps),
                },
                ended = &mut thread.ended => {
                    return Ok(ended.unwrap_or_else(|_| {
                        failed(internal("the camera's thread vanished".to_owned()))
                    }));
                }
                _ = look.tick() => {
                    if let Some(hang) = pulse.is_lost(&thread.shared) {
                        return Ok(failed(hang));
                    }
                }
            }
        }
    }

    /// Waits until the thread has let go of the device; one that does not is stopped from
    /// outside, then abandoned.
    async fn let_go(&self, thread: Thread) {
        let Thread {
            shared,
            mut gone,
            mark,
            ..
        } = thread;
        shared.order_stop();
        let mut pulse = Pulse::new(&shared, self.limits.hang_after);
        while pulse.is_lost(&shared).is_none() {
            let step = self.limits.hang_after / 10;
            if timeout(step, &mut gone).await.is_ok() {
                return;
            }
        }
        warn!(
            camera = self.camera.name,
            doing = shared.doing(),
            "the camera's thread hangs: its device is stopped from outside"
        );
        shared.shut();
        shared.pull_brake();
        if timeout(self.limits.brake_grace, &mut gone).await.is_err() {
            error!(
                camera = self.camera.name,
                doing = shared.doing(),
                "the camera's thread is abandoned"
            );
            mark.abandon();
        }
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
