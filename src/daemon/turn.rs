//! One turn of the loop after another: wait for something, take a bounded amount of everything,
//! hand out what came of it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::trace;

use super::departure::{self, Departure};
use super::reach::Reach;
use super::systemd::Watchdog;
use super::{Daemon, metrics};
use crate::gateway::Output;
use crate::media::{CameraId, SourceEvent};
use crate::net::http::Call;
use crate::net::udp::Received;
use crate::session::Datagram;
use crate::whep::{Command, Outcome};

/// Batches of datagrams taken in one turn, so that a flood cannot keep pictures waiting.
const BATCHES: usize = 20;
/// Source events taken in one turn: pictures of all cameras at once, and some to catch up.
const EVENTS: usize = 32;
/// Requests taken in one turn; at most one of them may be a join.
const CALLS: usize = 16;

/// What woke the loop.
enum Woken {
    Time,
    Datagrams,
    Event(CameraId, SourceEvent),
    Call(Call),
    /// A channel or socket is broken; nothing comes from it any more.
    Nothing,
}

/// What a request takes of [`CALLS`]: all of it for a join, which is dear (keys, an answer).
fn cost(call: &Call) -> usize {
    match matches!(call.command, Command::Open { .. }) {
        true => CALLS,
        false => 1,
    }
}

pub(super) struct Turn {
    daemon: Daemon,
    wake: Instant,
    outbox: Vec<Datagram>,
    departure: Departure,
    reach: Reach,
    watchdog: Watchdog,
}

impl Turn {
    pub(super) fn new(daemon: Daemon, watchdog: Watchdog) -> Self {
        Self {
            wake: daemon.started,
            daemon,
            watchdog,
            outbox: Vec::new(),
            departure: Departure::default(),
            reach: Reach::default(),
        }
    }

    /// Turns until `end` comes.
    pub(super) async fn run_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        // Where there is no address, the log says so before the first viewer comes.
        let _ = self.candidates();
        self.hand_out();
        loop {
            let woken = tokio::select! {
                biased;
                () = &mut end => return,
                woken = self.wait() => woken,
            };
            self.take(woken).await;
        }
    }

    /// Ends every session and tells every source to let go.
    pub(super) fn drain(&mut self) {
        self.watchdog.notify().stopping();
        self.daemon.gateway.drain();
        self.hand_out();
    }

    /// Turns until nothing is left, then waits for the sources.
    pub(super) async fn run_until_drained(&mut self) {
        while !self.daemon.gateway.is_drained() || self.departure.is_waiting() {
            let woken = self.wait().await;
            self.take(woken).await;
        }
        for source in &self.daemon.sources {
            source.closed().await;
        }
    }

    async fn wait(&mut self) -> Woken {
        let Daemon {
            udp, events, calls, ..
        } = &mut self.daemon;
        tokio::select! {
            biased;
            Some((id, event)) = events.recv() => Woken::Event(id, event),
            readable = udp.readable() => match readable {
                Ok(()) => Woken::Datagrams,
                Err(_) => Woken::Nothing,
            },
            () = sleep_until(self.wake) => Woken::Time,
            Some(call) = calls.recv() => Woken::Call(call),
        }
    }

    /// One turn. A socket that still holds datagrams would wake us at once and count as no wait:
    /// under a flood the other tasks (cameras, HTTP, signals) get their turn here.
    async fn take(&mut self, woken: Woken) {
        let received = self.take_now(woken);
        if received.has_more {
            tokio::task::yield_now().await;
        }
    }

    /// All of it happens at one moment, as far as the gateway can tell.
    fn take_now(&mut self, woken: Woken) -> Received {
        let now = Instant::now();
        // Whatever woke us: what was due before now was late by that much.
        if self.wake <= now {
            let lag = now.saturating_duration_since(self.wake);
            self.daemon.timings.lag.record(lag);
        }
        self.watchdog.feed(now);
        let mut room = CALLS;
        match woken {
            Woken::Event(id, event) => self.take_event(now, id, event),
            Woken::Call(call) => {
                room -= cost(&call);
                self.take_call(now, call);
            }
            Woken::Time | Woken::Datagrams | Woken::Nothing => {}
        }
        self.take_events(now);
        let received = self.take_datagrams(now);
        if self.wake <= now {
            self.daemon.gateway.handle_timeout(now.into_std());
        }
        self.hand_out();
        self.take_calls(now, room);
        self.daemon.timings.turn.record(now.elapsed());
        received
    }

    /// Pictures leave as soon as they are in: nothing else is read before that.
    fn take_event(&mut self, now: Instant, id: CameraId, event: SourceEvent) {
        let stages = if let SourceEvent::Unit(unit) = &event {
            Some(unit.stages)
        } else {
            None
        };
        let began = Instant::now();
        self.daemon.gateway.handle_source(now.into_std(), id, event);
        if let Some(stages) = stages {
            let here = began.elapsed();
            self.daemon.gateway.handle_timing(id, stages, here);
        }
        self.hand_out();
    }

    fn take_events(&mut self, now: Instant) {
        for _ in 0..EVENTS {
            let Ok((id, event)) = self.daemon.events.try_recv() else {
                break;
            };
            self.take_event(now, id, event);
        }
    }

    fn take_datagrams(&mut self, now: Instant) -> Received {
        let Daemon { udp, gateway, .. } = &mut self.daemon;
        udp.receive(BATCHES, |datagram| {
            gateway.handle_datagram(now.into_std(), datagram.from, datagram.to, datagram.bytes);
        })
    }

    fn take_calls(&mut self, now: Instant, mut room: usize) {
        while room > 0
            && let Ok(call) = self.daemon.calls.try_recv()
        {
            room = room.saturating_sub(cost(&call));
            self.take_call(now, call);
        }
    }

    fn take_call(&mut self, now: Instant, call: Call) {
        let candidates = match call.command {
            Command::Open { .. } | Command::Patch { .. } => self.candidates(),
            Command::Close { .. }
            | Command::Find { .. }
            | Command::Cameras
            | Command::Sessions
            | Command::Health
            | Command::Metrics => Vec::new(),
        };
        let outcome = if call.command == Command::Metrics {
            Outcome::Metrics(metrics::render(self.daemon.snapshot(now)))
        } else {
            let gateway = &mut self.daemon.gateway;
            gateway.handle_command(now.into_std(), call.command, &candidates)
        };
        // A client that has gone meanwhile leaves a session that nobody knows how to end.
        if let Err(Outcome::Opened { session, .. }) = call.reply.send(outcome) {
            let close = Command::Close { session };
            self.daemon
                .gateway
                .handle_command(now.into_std(), close, &[]);
        }
        self.hand_out();
    }

    fn candidates(&mut self) -> Vec<SocketAddr> {
        self.reach.candidates(&self.daemon.config, &self.daemon.udp)
    }

    /// Does all that the gateway wants, up to its wish to wait. While the kernel has no room for
    /// what was to be sent last, all else waits in the gateway.
    fn hand_out(&mut self) {
        loop {
            let now = Instant::now();
            let Daemon { udp, gateway, .. } = &mut self.daemon;
            if !self.departure.send(now, udp, gateway) {
                self.wake = now + departure::RETRY;
                break;
            }
            let output = gateway.poll_output(now.into_std(), &mut self.outbox);
            match output {
                Output::Send { completes } => self.departure.begin(&mut self.outbox, completes),
                Output::Demand(id, demand) => {
                    if let Some(source) = self.daemon.sources.get(id.0 as usize) {
                        source.demand(demand);
                    }
                }
                Output::Wait { until, why } => {
                    trace!(?why, wait = ?until.saturating_duration_since(now.into_std()), "wait");
                    self.wake = Instant::from_std(until).min(now + MAX_WAIT);
                    break;
                }
            }
        }
    }
}

/// However long the gateway would wait.
const MAX_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::task::Poll;

    use super::super::logging::LostLines;
    use super::*;
    use crate::config::Config;
    use crate::daemon::systemd::Notify;

    async fn turn() -> Turn {
        let mut config = Config::default();
        config.server.listen.set_port(0);
        config.ice.port = 0;
        let (daemon, _) = Daemon::start(config, LostLines::none(), &crate::source::start)
            .await
            .unwrap();
        let now = daemon.started;
        Turn::new(daemon, Watchdog::from_env(Notify::default(), now))
    }

    #[tokio::test]
    async fn other_tasks_go_on_while_more_datagrams_come_than_a_turn_takes() {
        let mut turn = turn().await;
        let media = ("127.0.0.1", turn.daemon.udp.port());
        let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ticks = Arc::new(AtomicU32::new(0));
        let ticking = Arc::clone(&ticks);
        tokio::spawn(async move {
            loop {
                ticking.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
            }
        });
        // Looked at before each turn, and then the socket is as full as it gets.
        let mut turns = 0;
        let end = std::future::poll_fn(|_| {
            turns += 1;
            for _ in 0..1000 {
                flood.send_to(b"garbage", media).unwrap();
            }
            match turns {
                50 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        turn.run_until(end).await;
        assert!(ticks.load(SeqCst) >= 40, "{ticks:?} ticks in 50 turns");
    }
}
