//! The driver: one thread that reads the clock, moves bytes between sockets, sources and the
//! gateway, and ends in order.
//!
//! In: a checked configuration, signals. Out: a running service.
//! Not here: any decision about cameras or viewers (gateway).

pub mod demo;
mod departure;
pub mod devices;
pub mod logging;
pub mod metrics;
mod reach;
mod shutdown;
mod systemd;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::{Camera, Config};
use crate::gateway::Gateway;
use crate::media::{CameraId, with_causes};
use crate::net::http::{self, CALLS, Server};
use crate::net::udp::{self, Udp};
use crate::session;
use crate::source::encode::away;
use crate::source::v4l2::abandoned;
use crate::source::{self, EventSender, Events, SourceHandle};
use crate::whep::Policy;
use crate::whep::status::Timings;

use logging::LostLines;
use metrics::{ProcessFacts, Snapshot};
use shutdown::Signals;
use systemd::{Notify, Watchdog};
use turn::Turn;

/// Places in the channel from all sources together: two seconds of four cameras. A source that
/// finds it full drops units up to its next key frame and counts them.
const SOURCE_EVENTS: usize = 256;
/// After this long without an end, shutdown gives up waiting.
const DRAIN_LIMIT: Duration = Duration::from_secs(4);

/// Why the process could not start. The source chain has the details.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address} (server.listen, or --listen of the demo)")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("cannot open the media port (ice.port)")]
    Media(#[source] udp::BindError),
    #[error("no randomness from the system: {0}")]
    Randomness(String),
    #[error("too much hangs in the drivers of cameras: a new process is needed")]
    Hung,
    #[error("cannot start the event loop")]
    Runtime(#[source] io::Error),
}

impl StartError {
    /// With its causes, in one line.
    pub fn told(&self) -> String {
        with_causes(self)
    }
}

/// The loop and everything that it owns.
struct Daemon {
    gateway: Gateway,
    udp: Udp,
    sources: Vec<SourceHandle>,
    events: Events,
    calls: mpsc::Receiver<http::Call>,
    server: Arc<Server>,
    config: Config,
    started: Instant,
    timings: Timings,
    lost_lines: LostLines,
}

/// Runs until a signal ends it. `ready` is told where HTTP is served, once it is.
///
/// # Errors
///
/// Before it runs: an address or port that cannot be had. Later, after everything was ended in
/// order: [`StartError::Hung`].
pub fn run(
    config: Config,
    lost_lines: LostLines,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), StartError> {
    run_with(config, lost_lines, &source::start, ready)
}

/// How the source of a camera is started, on the loop's own runtime: [`source::start`].
pub type StartSource = dyn Fn(CameraId, &Camera, EventSender) -> SourceHandle;

/// As [`run`], with sources of one's own: benchmarks have cameras that are none of the kernel's.
///
/// # Errors
///
/// As [`run`].
pub fn run_with(
    config: Config,
    lost_lines: LostLines,
    start_source: &StartSource,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(StartError::Runtime)?;
    let ended = runtime.block_on(async move {
        let signals = Signals::listen().map_err(StartError::Runtime)?;
        let (daemon, listener) = Daemon::start(config, lost_lines, start_source).await?;
        let address = listener.local_addr().map_err(StartError::Runtime)?;
        daemon.announce(address);
        ready(address);
        daemon.serve(listener, signals).await
    });
    // A name that is still being looked up must not hold up the end: that takes as long as the
    // system's resolver likes, and nobody hears signals any more.
    runtime.shutdown_background();
    ended
}

impl Daemon {
    async fn start(
        config: Config,
        lost_lines: LostLines,
        start_source: &StartSource,
    ) -> Result<(Self, TcpListener), StartError> {
        session::install_crypto();
        let address = config.server.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| StartError::Listen { address, cause })?;
        let udp = Udp::bind(&udp::Settings::new(&config.ice)).map_err(StartError::Media)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| StartError::Randomness(e.to_string()))?;
        let certificate = session::new_certificate()
            .ok_or_else(|| StartError::Randomness("no DTLS certificate".to_owned()))?;
        let now = Instant::now();
        let (sender, events) = mpsc::channel(SOURCE_EVENTS);
        let cameras = config.cameras.iter().enumerate();
        let sources = cameras
            .map(|(i, camera)| start_source(CameraId(i as u32), camera, sender.clone()))
            .collect();
        let (call, calls) = mpsc::channel(CALLS);
        let policy =
            Policy::new(&config.server, &config.access, &own_names()).with_ice_servers(&config.ice);
        let daemon = Self {
            gateway: Gateway::new(config.clone(), certificate, seed, now.into_std()),
            udp,
            sources,
            events,
            calls,
            server: Server::new(policy, &config.limits, call),
            config,
            started: now,
            timings: Timings::default(),
            lost_lines,
        };
        Ok((daemon, listener))
    }

    fn announce(&self, address: SocketAddr) {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            http = %address,
            media_port = self.udp.port(),
            cameras = self.config.cameras.len(),
            gso = self.udp.has_gso(),
            "pinhole serves"
        );
        if self.config.access.anonymous && !address.ip().is_loopback() {
            warn!("access.anonymous: everybody who reaches this address can watch");
        }
    }

    /// What `/metrics` tells. The longest spans begin anew with each call.
    fn snapshot(&mut self, now: Instant) -> Snapshot {
        let instant = now.into_std();
        self.timings.join = self.gateway.joins().clone();
        Snapshot {
            cameras: self.gateway.camera_statuses(instant),
            sessions: self.gateway.session_statuses(instant),
            gateway: *self.gateway.counters(),
            udp: *self.udp.counters(),
            http: self.server.counters(),
            log_lines_lost: self.lost_lines.count(),
            abandoned_threads: abandoned::count(),
            encoder_threads: away::count(),
            abandoned_streams: abandoned::streams(),
            timings: self.timings.scrape(),
            process: ProcessFacts::read(),
            uptime: now.saturating_duration_since(self.started),
        }
    }

    /// Serves until it is told to end, then ends every session and lets go of every camera.
    async fn serve(self, listener: TcpListener, mut signals: Signals) -> Result<(), StartError> {
        let (stop_http, stopped) = oneshot::channel::<()>();
        let http = tokio::spawn(http::serve(listener, Arc::clone(&self.server), async {
            let _ = stopped.await;
        }));
        let watchdog = Watchdog::from_env(Notify::from_env(), self.started);
        watchdog.notify().ready();
        let mut turn = Turn::new(self, watchdog);
        let mut is_hung = false;
        turn.run_until(async {
            tokio::select! {
                () = signals.next() => {}
                () = abandoned::too_many() => is_hung = true,
            }
        })
        .await;
        if is_hung {
            let (threads, streams) = (abandoned::count(), abandoned::streams());
            error!(threads, streams, "{}", StartError::Hung);
        }
        info!("pinhole ends: sessions are closed, cameras let go");
        turn.drain();
        let _ = stop_http.send(());
        let drained = tokio::time::timeout(DRAIN_LIMIT, turn.run_until_drained());
        tokio::select! {
            outcome = drained => {
                if outcome.is_err() {
                    warn!("not everything ended in time");
                }
            }
            () = signals.next() => warn!("told to end at once"),
        }
        http.abort();
        match is_hung {
            true => Err(StartError::Hung),
            false => Ok(()),
        }
    }
}

/// The machine's name, for the Host check.
fn own_names() -> Vec<String> {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .into_iter()
        .collect()
}
