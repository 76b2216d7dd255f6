//! Keeps one RTSP camera running: opens, watches, tells why it is down, tries again, for ever.
//!
//! In: demands. Out: [`SourceEvent`]s; each session is a task of its own, so that a panic in it
//! costs one restart.
//! Not here: RTSP (rtsp), on-demand decisions (gateway).
//!
//! # When the next attempt is made
//! Every attempt begins with a TCP connection that only asks whether the port answers. Waits
//! double, with jitter, without end ([`Backoff`]), and are counted from the *start* of the failed
//! attempt: one that hung for ten seconds has waited already.
//!
//! | the camera | waits | and |
//! |---|---|---|
//! | takes no TCP connection | 0.5 to 10 s | its port is probed every [`PROBE_EVERY`]: an attempt follows at once when it answers, so a camera is back within about a second of its return, however long it was away |
//! | answers, then fails, ends or stalls | 0.5 to 10 s | from 0.5 s again when it was not even answering before |
//! | offers nothing that we can use | 10 s to 2 min | somebody must change a setting |
//! | refuses the password | 30 s to 15 min | four attempts in the first five minutes: cameras lock accounts after five; closing and opening again does not shorten this wait |
//!
//! A run that played for [`PLAYED_WELL`] starts all waits afresh. `retry_at` of a Down event is
//! the latest time of the next attempt; a probe may make it earlier.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use retina::client::{SessionGroup, TeardownPolicy};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::demands::{Asked, Demands, Post};
use super::rtsp::connect::Connector;
use super::rtsp::verdict::{End, Pace};
use super::rtsp::{Finished, Run, TEARDOWN_LIMIT, Wire};
use super::{EventSender, SourceHandle, head_of};
use crate::config::{Camera, Rtsp, Source};
use crate::media::{CameraId, DownReason, SourceEvent};

/// How often the port of a camera that is away is tried.
pub const PROBE_EVERY: Duration = Duration::from_millis(250);

/// One such try; a port on a LAN answers in milliseconds, and a slower one is still found by the
/// attempts proper.
pub const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// No attempt follows the end of another faster than this.
pub const MIN_PAUSE: Duration = Duration::from_millis(250);

/// A run that handed pictures on for so long starts all waits afresh.
pub const PLAYED_WELL: Duration = Duration::from_secs(5);

/// TEARDOWNs under way for one camera (retina repeats those of UDP sessions until the session
/// would have timed out anyway). Past it, sessions are dropped without one.
pub const MAX_TEARDOWNS: usize = 4;

/// Starts the source of an RTSP camera as a task of its own. `camera.source` is RTSP: any other
/// gets a source that never opens.
pub(super) fn start(id: CameraId, camera: &Camera, events: EventSender) -> SourceHandle {
    let (handle, demands) = SourceHandle::new();
    if let Source::Rtsp(rtsp) = &camera.source {
        let supervisor = Supervisor {
            camera: camera.clone(),
            rtsp: rtsp.clone(),
            post: Post { id, events },
            demands,
            connector: Connector::new(&rtsp.url),
            pacing: Pacing::new(),
            known: None,
            penalty: None,
            teardowns: Teardowns::default(),
        };
        tokio::spawn(supervisor.run());
    }
    handle
}

/// When to try again: pure.
#[derive(Debug)]
pub struct Pacing {
    soon: Backoff,
    slow: Backoff,
    costly: Backoff,
    last: Option<Pace>,
}

impl Default for Pacing {
    fn default() -> Self {
        Self::new()
    }
}

impl Pacing {
    /// No failure yet.
    pub fn new() -> Self {
        const SOON: Backoff = backoff(Duration::from_millis(500), Duration::from_secs(10));
        const SLOW: Backoff = backoff(Duration::from_secs(10), Duration::from_secs(120));
        const COSTLY: Backoff = backoff(Duration::from_secs(30), Duration::from_secs(900));
        Self {
            soon: SOON,
            slow: SLOW,
            costly: COSTLY,
            last: None,
        }
    }

    /// An attempt that began at `started` failed at `now` after having played for `played`: when
    /// the next is due. `jitter` is any number, evenly spread.
    pub fn on_end(
        &mut self,
        pace: Pace,
        played: Duration,
        started: Instant,
        now: Instant,
        jitter: u32,
    ) -> Instant {
        if played >= PLAYED_WELL {
            *self = Self::new();
        }
        let wait = match pace {
            Pace::Probe => self.soon.next_wait(jitter),
            Pace::Soon | Pace::Held => {
                if self.last == Some(Pace::Probe) {
                    self.soon.reset();
                }
                self.soon.next_wait(jitter)
            }
            Pace::Slow => self.slow.next_wait(jitter),
            Pace::Costly => self.costly.next_wait(jitter),
        };
        self.last = Some(pace);
        (started + wait).max(now + MIN_PAUSE)
    }
}

const fn backoff(first: Duration, max: Duration) -> Backoff {
    match Backoff::new(first, max) {
        Ok(backoff) => backoff,
        Err(_) => panic!("the waits above make sense"),
    }
}

struct Supervisor {
    camera: Camera,
    rtsp: Rtsp,
    post: Post,
    demands: Demands,
    connector: Connector,
    pacing: Pacing,
    known: Option<Wire>,
    /// The password was refused: not before then, whoever asks.
    penalty: Option<(Instant, End)>,
    teardowns: Teardowns,
}

impl Supervisor {
    async fn run(mut self) {
        while self.demands.opened(&self.post).await {
            let asked = self.keep_open().await;
            self.demands.closed(&self.post).await;
            if asked == Asked::Stop {
                return;
            }
        }
    }

    /// Attempt after attempt, until asked to let go.
    async fn keep_open(&mut self) -> Asked {
        if let Some((until, end)) = self.penalty.take() {
            if until > Instant::now() {
                self.penalty = Some((until, end.clone()));
                self.post.say_down(&end, until).await;
                if let Err(asked) = self.pause(until, end.pace).await {
                    return asked;
                }
            }
            self.penalty = None;
        }
        let mut answers = false;
        loop {
            self.post.say(SourceEvent::Opening).await;
            if self.post.is_dead() {
                return Asked::Stop;
            }
            let started = Instant::now();
            let finished = match self.attempt(answers).await {
                Ok(finished) => finished,
                Err(asked) => return asked,
            };
            self.known = finished.known;
            let Finished { end, session, .. } = finished;
            let until = self.pacing.on_end(
                end.pace,
                finished.played,
                started,
                Instant::now(),
                getrandom::u32().unwrap_or(0),
            );
            self.penalty = (end.pace == Pace::Costly).then(|| (until, end.clone()));
            // Told first, then let go.
            self.post.say_down(&end, until).await;
            drop(session);
            answers = match self.pause(until, end.pace).await {
                Ok(answers) => answers,
                Err(asked) => return asked,
            };
            self.penalty = None;
        }
    }

    /// One attempt, or that we were asked to stop it (then it is over and torn down). `answers`:
    /// the port is known to take connections.
    async fn attempt(&mut self, answers: bool) -> Result<Finished, Asked> {
        if !answers {
            let connected = tokio::select! {
                biased;
                asked = self.demands.asked() => return Err(asked),
                connected = self.connector.connect() => connected,
            };
            if let Err(end) = connected {
                return Ok(Finished::before_play(end, self.known));
            }
        }
        let (group, teardown) = self.teardowns.next_session();
        let run = Run {
            id: self.post.id,
            camera: self.camera.clone(),
            rtsp: self.rtsp.clone(),
            url: self.connector.url(),
            known: self.known,
            group,
            teardown,
            events: self.post.events.clone(),
        };
        let mut task = Aborting(tokio::spawn(run.run()));
        tokio::select! {
            biased;
            asked = self.demands.asked() => {
                task.0.abort();
                let _ = (&mut task.0).await;
                self.teardowns.wait().await;
                Err(asked)
            }
            ended = &mut task.0 => Ok(ended.unwrap_or_else(|error| {
                Finished::before_play(of_panic(error), self.known)
            })),
        }
    }

    /// Waits until `until`, or until the port of a camera that is away answers (then true).
    async fn pause(&mut self, until: Instant, pace: Pace) -> Result<bool, Asked> {
        tokio::select! {
            biased;
            asked = self.demands.asked() => {
                self.teardowns.wait().await;
                Err(asked)
            }
            answers = async {
                self.teardowns.wait().await;
                match pace {
                    Pace::Probe => probe_until(&mut self.connector, until).await,
                    Pace::Soon | Pace::Held | Pace::Slow | Pace::Costly => {
                        sleep_until(until.into()).await;
                        false
                    }
                }
            } => Ok(answers),
        }
    }
}

/// Tries the port again and again: whether it answered before `until`.
async fn probe_until(connector: &mut Connector, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        sleep(left.min(PROBE_EVERY)).await;
        if left <= PROBE_EVERY {
            return false;
        }
        if connector.probe(PROBE_LIMIT).await {
            return true;
        }
    }
}

/// TEARDOWNs under way, one group per session: retina's task holds it until it is done.
#[derive(Default)]
struct Teardowns {
    groups: Vec<Weak<SessionGroup>>,
}

impl Teardowns {
    /// For a new session: its group, and whether it may have a TEARDOWN.
    fn next_session(&mut self) -> (Arc<SessionGroup>, TeardownPolicy) {
        self.groups.retain(|group| group.strong_count() > 0);
        if self.groups.len() >= MAX_TEARDOWNS {
            return (Arc::default(), TeardownPolicy::Never);
        }
        let group = Arc::new(SessionGroup::default());
        self.groups.push(Arc::downgrade(&group));
        (group, TeardownPolicy::Auto)
    }

    /// Gives the last session's TEARDOWN its time: cameras with room for one session refuse the
    /// next.
    async fn wait(&self) {
        if let Some(group) = self.groups.last().and_then(Weak::upgrade) {
            let _ = timeout(TEARDOWN_LIMIT, group.await_teardown()).await;
        }
    }
}

/// A session task that does not outlive its supervisor.
struct Aborting(JoinHandle<Finished>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn of_panic(error: JoinError) -> End {
    let what = match error.try_into_panic() {
        Ok(payload) => head_of(payload.as_ref()),
        Err(_) => "cancelled".to_owned(),
    };
    let what = format!("the session's task panicked: {what}");
    End::new(DownReason::Internal, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Failures at once, one after the other: how long after each the next attempt comes.
    fn waits(pace: Pace, n: usize) -> Vec<Duration> {
        let mut pacing = Pacing::new();
        let now = Instant::now();
        (0..n)
            .map(|_| pacing.on_end(pace, NONE, now, now, 0) - now)
            .collect()
    }

    #[test]
    fn a_camera_that_is_away_is_tried_for_ever_at_least_every_ten_seconds() {
        let waits = waits(Pace::Probe, 20);
        assert_eq!(waits[0], Duration::from_millis(500));
        assert_eq!(waits[19], secs(10));
    }

    #[test]
    fn no_more_than_four_wrong_passwords_in_five_minutes() {
        let mut at = Duration::ZERO;
        let mut attempts = 1;
        for wait in waits(Pace::Costly, 10) {
            at += wait * 3 / 4; // the worst jitter
            attempts += u32::from(at < secs(300));
        }
        assert!(attempts <= 4, "{attempts}");
        assert_eq!(waits(Pace::Costly, 10)[9], secs(900));
    }

    #[test]
    fn an_attempt_that_hung_has_waited_already() {
        let mut pacing = Pacing::new();
        let started = Instant::now();
        let now = started + secs(10);
        for _ in 0..10 {
            assert_eq!(
                pacing.on_end(Pace::Soon, NONE, started, now, 0),
                now + MIN_PAUSE
            );
        }
    }

    #[test]
    fn a_camera_that_answers_again_is_tried_quickly_again() {
        let mut pacing = Pacing::new();
        let now = Instant::now();
        for _ in 0..10 {
            pacing.on_end(Pace::Probe, NONE, now, now, 0);
        }
        let next = pacing.on_end(Pace::Soon, NONE, now, now, 0);
        assert_eq!(next - now, Duration::from_millis(500));
        let next = pacing.on_end(Pace::Soon, NONE, now, now, 0);
        assert_eq!(next - now, secs(1));
    }

    #[test]
    fn sessions_that_cannot_be_torn_down_do_not_pile_up() {
        let mut teardowns = Teardowns::default();
        let is_auto = |policy| matches!(policy, TeardownPolicy::Auto);
        let mut held = Vec::new();
        for _ in 0..MAX_TEARDOWNS {
            let (group, policy) = teardowns.next_session();
            assert!(is_auto(policy));
            held.push(group);
        }
        for _ in 0..100 {
            assert!(!is_auto(teardowns.next_session().1));
        }
        assert_eq!(teardowns.groups.len(), MAX_TEARDOWNS);
        held.pop();
        assert!(is_auto(teardowns.next_session().1));
    }

    #[test]
    fn a_run_that_played_starts_all_waits_afresh_and_one_that_hardly_did_does_not() {
        let mut pacing = Pacing::new();
        let now = Instant::now();
        for _ in 0..4 {
            pacing.on_end(Pace::Soon, NONE, now, now, 0);
        }
        let flapping = pacing.on_end(Pace::Soon, secs(1), now, now, 0);
        assert_eq!(flapping - now, secs(8));
        let played = pacing.on_end(Pace::Soon, PLAYED_WELL, now, now, 0);
        assert_eq!(played - now, Duration::from_millis(500));
    }
}
