//! One turn of the loop after another: wait for something, take a bounded amount of everything,
//! hand out what came of it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::trace;

use super::{Daemon, metrics};
use crate::gateway::Output;
use crate::media::{CameraId, SourceEvent, Stages};
use crate::net::http::Call;
use crate::net::interfaces;
use crate::net::udp::{Lost, Outgoing};
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

pub(super) struct Turn {
    daemon: Daemon,
    wake: Instant,
    outbox: Vec<Datagram>,
    batch: Vec<Outgoing<Vec<u8>>>,
}

impl Turn {
    pub(super) fn new(daemon: Daemon) -> Self {
        Self {
            wake: daemon.started,
            daemon,
            outbox: Vec::new(),
            batch: Vec::new(),
        }
    }

    /// Turns until `end` comes.
    pub(super) async fn run_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        self.hand_out();
        loop {
            let woken = tokio::select! {
                biased;
                () = &mut end => return,
                woken = self.wait() => woken,
            };
            self.take(woken);
        }
    }

    /// Ends every session and tells every source to let go.
    pub(super) fn drain(&mut self) {
        self.daemon.gateway.drain();
        self.hand_out();
    }

    /// Turns until nothing is left, then waits for the sources.
    pub(super) async fn run_until_drained(&mut self) {
        while !self.daemon.gateway.is_drained() {
            let woken = self.wait().await;
            self.take(woken);
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

    /// One turn. All of it happens at one moment, as far as the gateway can tell.
    fn take(&mut self, woken: Woken) {
        let now = Instant::now();
        // Whatever woke us: what was due before now was late by that much.
        if self.wake <= now {
            let lag = now.saturating_duration_since(self.wake);
            self.daemon.timings.lag.record(lag);
        }
        match woken {
            Woken::Event(id, event) => self.take_event(now, id, event),
            Woken::Call(call) => self.take_call(now, call),
            Woken::Time | Woken::Datagrams | Woken::Nothing => {}
        }
        self.take_events(now);
        self.take_datagrams(now);
        if self.wake <= now {
            self.daemon.gateway.handle_timeout(now.into_std());
        }
        self.hand_out();
        self.take_calls(now);
        self.daemon.timings.turn.record(now.elapsed());
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
            self.time_stages(stages, began.elapsed());
        }
        self.hand_out();
    }

    /// A stage that a source does not have takes no time, and is not counted.
    fn time_stages(&mut self, before: Stages, packetize: Duration) {
        let timings = &mut self.daemon.timings.stages;
        for (histogram, took) in [
            (&mut timings.capture, before.capture),
            (&mut timings.decode, before.decode),
            (&mut timings.encode, before.encode),
            (&mut timings.packetize, packetize),
        ] {
            if !took.is_zero() {
                histogram.record(took);
            }
        }
    }

    fn take_events(&mut self, now: Instant) {
        for _ in 0..EVENTS {
            let Ok((id, event)) = self.daemon.events.try_recv() else {
                break;
            };
            self.take_event(now, id, event);
        }
    }

    fn take_datagrams(&mut self, now: Instant) {
        let Daemon { udp, gateway, .. } = &mut self.daemon;
        udp.receive(BATCHES, |datagram| {
            gateway.handle_datagram(now.into_std(), datagram.from, datagram.to, datagram.bytes);
        });
    }

    fn take_calls(&mut self, now: Instant) {
        for _ in 0..CALLS {
            let Ok(call) = self.daemon.calls.try_recv() else {
                break;
            };
            let is_join = matches!(call.command, Command::Open { .. });
            self.take_call(now, call);
            if is_join {
                break;
            }
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

    /// The media port on every address that a viewer may reach, as they are now.
    fn candidates(&self) -> Vec<SocketAddr> {
        let Daemon { config, udp, .. } = &self.daemon;
        interfaces::addresses(&config.ice, config.server.listen.ip())
            .into_iter()
            .filter(|ip| udp.has_family_of(*ip))
            .map(|ip| SocketAddr::new(ip, udp.port()))
            .collect()
    }

    /// Does all that the gateway wants, up to its wish to wait.
    fn hand_out(&mut self) {
        loop {
            let now = Instant::now();
            let output = self
                .daemon
                .gateway
                .poll_output(now.into_std(), &mut self.outbox);
            match output {
                Output::Send { completes } => {
                    self.send();
                    if let Some(received) = completes {
                        let sent = Instant::now().into_std();
                        let took = sent.saturating_duration_since(received);
                        self.daemon.timings.stages.sent.record(took);
                    }
                }
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

    fn send(&mut self) {
        self.batch.clear();
        self.batch
            .extend(self.outbox.drain(..).map(|datagram| Outgoing {
                from: datagram.from,
                to: datagram.to,
                bytes: datagram.bytes,
            }));
        let lost: &[Lost] = self.daemon.udp.send(&self.batch);
        for lost in lost {
            self.daemon.gateway.handle_refused(lost.to);
        }
    }
}

/// However long the gateway would wait.
const MAX_WAIT: Duration = Duration::from_secs(1);
