//! An HTTP/1.1 server around [`whep`]: sockets, bounds and time-outs.
//!
//! In: a bound listener, requests. Out: [`Call`]s to the loop, responses.
//! Not here: what a request means (whep), what comes of it (gateway).
//!
//! | bound | loss beyond it | counter in [`HttpCounters`] |
//! |---|---|---|
//! | `limits.connections`, half of them per address | closed with 503 | `connections_refused` |
//! | `limits.requests` per second and address | 429 | `too_many_requests` |
//! | [`MAX_ADDRESSES`] | share one bucket | `too_many_requests` |
//! | [`HEAD_BYTES`], [`HEADERS`] | 431 | `head_too_large` |
//! | [`HEAD_TIME`], also between requests | closed | `head_too_slow` |
//! | `limits.body` | 413 | `body_too_large` |
//! | [`BODY_TIME`] | 408 | `body_too_slow` |
//! | [`CALLS`] waiting for the loop | 503 | `calls_refused` |
//! | [`REPLY_TIME`] | 503 | `replies_lost` |
//! | [`CONNECTION_AGE`] | closed after its request | `connections_aged` |

mod addresses;
mod body;
mod files;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, warn};

pub use self::addresses::MAX_ADDRESSES;
use self::addresses::{Addresses, Place};
pub use self::body::BODY_TIME;
use crate::config::Limits;
use crate::whep::status::HttpCounters;
use crate::whep::{self, Action, Command, Outcome, Policy, Problem, Response};

/// One request to the loop.
#[derive(Debug)]
pub struct Call {
    pub command: Command,
    /// Takes the outcome. It is closed when the client has gone or waited longer than
    /// [`REPLY_TIME`]: a session opened for it has no owner then and is to be closed.
    pub reply: oneshot::Sender<Outcome>,
}

/// What all listeners of one Pinhole share.
pub struct Server {
    policy: Policy,
    body_limit: usize,
    calls: mpsc::Sender<Call>,
    state: Mutex<State>,
}

struct State {
    addresses: Addresses,
    counters: HttpCounters,
    /// When failing accepts were last worth a line.
    accept_warned: Option<Instant>,
}

impl Server {
    /// A server that asks the loop through `calls`, a channel of [`CALLS`] places.
    pub fn new(policy: Policy, limits: &Limits, calls: mpsc::Sender<Call>) -> Arc<Self> {
        Arc::new(Self {
            policy,
            body_limit: limits.body,
            calls,
            state: Mutex::new(State {
                addresses: Addresses::new(Instant::now().into_std(), limits),
                counters: HttpCounters::default(),
                accept_warned: None,
            }),
        })
    }

    /// Counters since start.
    pub fn counters(&self) -> HttpCounters {
        let state = self.state();
        HttpCounters {
            connections_open: state.addresses.open() as u64,
            ..state.counters
        }
    }

    /// Held for a few instructions and never across an await. What it guards is plain numbers,
    /// so a panic elsewhere leaves nothing broken behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, with: impl FnOnce(&mut HttpCounters)) {
        with(&mut self.state().counters);
    }

    async fn answer(&self, place: Place, request: &whep::Request, body: Incoming) -> Response {
        let now = Instant::now().into_std();
        if !self.state().addresses.request(now, place) {
            let problem = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "limits.requests is reached: too many requests from this address",
            );
            return self.refuse(request, problem.retry_after(Duration::from_secs(1)));
        }
        let admitted = whep::admit(&self.policy, request);
        let body = if admitted.needs_body() {
            match body::read(body, self.body_limit).await {
                Ok(body) => body,
                Err(problem) => return self.refuse(request, problem),
            }
        } else {
            Bytes::new()
        };
        match admitted.action(&self.policy, request, &body) {
            Action::Respond(response) => response,
            Action::File(path) => match files::respond(request, &path) {
                Some(response) => whep::finish(&self.policy, request, response),
                None => whep::not_found(&self.policy, request),
            },
            Action::Ask(command) => self.ask(request, command).await,
        }
    }

    async fn ask(&self, request: &whep::Request, command: Command) -> Response {
        let (reply, outcome) = oneshot::channel();
        let busy = |detail| {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            self.refuse(request, problem.retry_after(Duration::from_secs(1)))
        };
        if self.calls.try_send(Call { command, reply }).is_err() {
            self.count(|counters| counters.calls_refused += 1);
            return busy("Pinhole is too busy to take the request");
        }
        match timeout(REPLY_TIME, outcome).await {
            Ok(Ok(outcome)) => whep::respond(&self.policy, request, outcome),
            Ok(Err(_)) | Err(_) => {
                self.count(|counters| counters.replies_lost += 1);
                busy("Pinhole did not answer the request in time")
            }
        }
    }

    fn refuse(&self, request: &whep::Request, problem: Problem) -> Response {
        whep::finish(&self.policy, request, problem.into())
    }
}

/// Serves `listener` until `shutdown` comes; requests under way are then answered, for
/// [`DRAIN_TIME`] at most. Dropping the future ends every connection at once.
pub async fn serve(listener: TcpListener, server: Arc<Server>, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let (stop, stopped) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => server.on_ended(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(slot) = server.connect(&stream, peer) {
                        connections.spawn(connection(slot, stream, stopped.clone()));
                    }
                }
                Err(error) => server.on_accept_error(&error).await,
            },
        }
    }
    drop((listener, stop, stopped));
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            server.on_ended(ended);
        }
    };
    if timeout(DRAIN_TIME, drained).await.is_err() {
        debug!("HTTP connections cut at shutdown");
    }
}

impl Server {
    /// A place for a new connection; one too many is told so and closed.
    fn connect(self: &Arc<Self>, stream: &TcpStream, peer: SocketAddr) -> Option<Slot> {
        let now = Instant::now().into_std();
        let mut state = self.state();
        let place = state.addresses.connect(now, peer.ip());
        if place.is_some() {
            state.counters.connections += 1;
        } else {
            state.counters.connections_refused += 1;
            // Best effort: a new socket's send buffer is empty, and nothing waits for the client.
            let _ = stream.try_write(FULL);
        }
        place.map(|place| Slot {
            server: Arc::clone(self),
            peer,
            place,
        })
    }

    async fn on_accept_error(&self, error: &std::io::Error) {
        self.count(|counters| counters.accept_errors += 1);
        // A client that went away before it was accepted costs nothing; anything else (no file
        // descriptors left) would come again at once and starve the loop.
        if error.kind() != std::io::ErrorKind::ConnectionAborted {
            self.warn_of_accept(error);
            sleep(ACCEPT_PAUSE).await;
        }
    }

    /// Once a minute: it would come ten times a second for as long as it lasts.
    fn warn_of_accept(&self, error: &std::io::Error) {
        let now = Instant::now();
        let mut state = self.state();
        if state
            .accept_warned
            .is_none_or(|at| at + ACCEPT_WARNING <= now)
        {
            state.accept_warned = Some(now);
            warn!(%error, "HTTP connections cannot be accepted");
        }
    }

    fn on_ended(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            self.count(|counters| counters.panics += 1);
            error!(%error, "an HTTP connection failed");
        }
    }

    fn on_connection_error(&self, peer: SocketAddr, error: &hyper::Error) {
        self.count(|counters| {
            if error.is_parse_too_large() {
                counters.head_too_large += 1;
            } else if error.is_timeout() {
                counters.head_too_slow += 1;
            } else if error.is_parse() {
                counters.unreadable += 1;
            }
        });
        debug!(%peer, %error, "HTTP connection ended");
    }
}

/// A counted connection.
struct Slot {
    server: Arc<Server>,
    peer: SocketAddr,
    place: Place,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.server.state().addresses.disconnect(self.place);
    }
}

async fn connection(slot: Slot, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    // Responses are whole writes; waiting to join them with later ones only delays an answer.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| exchange(&slot, request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        _ = stopped.changed() => None,
        () = sleep(CONNECTION_AGE) => {
            slot.server.count(|counters| counters.connections_aged += 1);
            None
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            timeout(DRAIN_TIME, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        slot.server.on_connection_error(slot.peer, &error);
    }
}

async fn exchange(
    slot: &Slot,
    request: hyper::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let request = whep::Request {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        peer: slot.peer,
    };
    let response = slot.server.answer(slot.place, &request, body).await;
    let status = response.status();
    debug!(peer = %slot.peer, method = %request.method, %status, "HTTP request");
    slot.server
        .count(|counters| counters.on_response(status.as_u16()));
    Ok(response.map(Full::new))
}

/// Requests that may wait for the loop. It takes one per turn at least, so that a full channel
/// means many milliseconds of delay: better to say so.
pub const CALLS: usize = 64;
/// The loop answers within a turn; one that takes longer than this is stuck.
pub const REPLY_TIME: Duration = Duration::from_secs(5);
/// Request line and headers of one request, in bytes; a browser sends about 1 kB.
pub const HEAD_BYTES: usize = 16 << 10;
/// Headers of one request; a browser behind proxies sends some 30.
pub const HEADERS: usize = 64;
/// The head of the next request is here by then. The page asks every few seconds, so that it
/// keeps its connection.
pub const HEAD_TIME: Duration = Duration::from_secs(15);
/// A connection is closed at this age, once its request is answered: also that of a client that
/// asks and never reads.
pub const CONNECTION_AGE: Duration = Duration::from_secs(600);
/// Requests under way may take this long once a connection is to be closed. At the end of the
/// process the daemon is done sooner, and cuts what is left.
pub const DRAIN_TIME: Duration = Duration::from_secs(6);
/// From one line about failing accepts to the next.
const ACCEPT_WARNING: Duration = Duration::from_secs(60);
/// A rest after an accept that failed for want of something that does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client hears for which there is no place.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";
