//! The HTTP server over real loopback sockets, with a fake loop behind it: verbs, bounds,
//! time-outs, shutdown. Time is real, and jumped over where a time-out is waited for.

#![allow(clippy::unwrap_used)] // helpers of tests: a panic is the failure

mod api;
mod bounds;
mod client;
mod lifecycle;
mod surface;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pinhole::config::{Access, Limits, Secret, Server as ServerConfig};
use pinhole::net::http::{CALLS, Call, Server, serve};
use pinhole::whep::status::{Health, HttpCounters};
use pinhole::whep::{Command, ETag, Outcome, Policy, Refusal, SessionKey};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{advance, pause, resume, timeout};

use crate::client::Client;

const TOKEN: &str = "correct-horse-battery";

/// A running server; the test is the loop, or lets [`World::answer_all`] be it.
struct World {
    address: SocketAddr,
    server: Arc<Server>,
    calls: Option<mpsc::Receiver<Call>>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl World {
    async fn new(limits: Limits, access: Access) -> Self {
        let config = ServerConfig {
            allowed_origins: vec!["https://panel.example".to_owned()],
            ..ServerConfig::default()
        };
        let policy = Policy::new(&config, &access, &[]);
        let (sender, calls) = mpsc::channel(CALLS);
        let server = Server::new(policy, &limits, sender);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, server.clone(), async {
            let _ = stopped.await;
        }));
        Self {
            address,
            server,
            calls: Some(calls),
            stop: Some(stop),
            serving,
        }
    }

    /// No token, default limits, a loop that knows the camera `door` and one session.
    async fn open() -> Self {
        let mut world = Self::new(Limits::default(), Access::default()).await;
        world.answer_all();
        world
    }

    fn answer_all(&mut self) {
        let mut calls = self.calls.take().unwrap();
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                let _ = call.reply.send(outcome(call.command));
            }
        });
    }

    async fn next_call(&mut self) -> Call {
        let calls = self.calls.as_mut().unwrap();
        let call = timeout(PATIENCE, calls.recv()).await;
        call.expect("no call came").expect("the server is gone")
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    fn counters(&self) -> HttpCounters {
        self.server.counters()
    }

    /// Waits for something that the server will have counted.
    async fn until(&self, what: impl Fn(&HttpCounters) -> bool) {
        let waiting = async {
            while !what(&self.counters()) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("never counted: {:?}", self.counters());
        }
    }

    /// Begins the shutdown.
    fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

/// For what happens at once on any machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Jumps over `span` without waiting for it.
async fn skip(span: Duration) {
    pause();
    advance(span).await;
    resume();
}

fn token() -> Access {
    Access {
        token: Some(Secret::new(TOKEN)),
        anonymous: false,
    }
}

const SESSION: SessionKey = SessionKey(0xfeed);

fn outcome(command: Command) -> Outcome {
    match command {
        Command::Open { camera, .. } | Command::Find { camera } if camera != "door" => {
            Outcome::Refused(Refusal::UnknownCamera(camera))
        }
        Command::Open { .. } => Outcome::Opened {
            session: SESSION,
            etag: ETag("g1".to_owned()),
            answer: "v=0\r\n".to_owned(),
        },
        Command::Find { .. } => Outcome::Found,
        Command::Patch { session, .. } | Command::Close { session } if session != SESSION => {
            Outcome::Refused(Refusal::UnknownSession)
        }
        Command::Patch { fragment, .. } if fragment.ufrag.as_deref() == Some("news") => {
            Outcome::Restarted {
                etag: ETag("g2".to_owned()),
                fragment: "a=ice-ufrag:ours\r\n".to_owned(),
            }
        }
        Command::Patch { .. } => Outcome::Trickled,
        Command::Close { .. } => Outcome::Closed,
        Command::Cameras => Outcome::Cameras(Vec::new()),
        Command::Sessions => Outcome::Sessions(Vec::new()),
        Command::Health => Outcome::Health(Health::default()),
        Command::Metrics => Outcome::Metrics("# EOF\n".to_owned()),
    }
}
