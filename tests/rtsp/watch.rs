//! A source under test, and what it said.

use std::fmt::Write as _;
use std::time::Duration;

use pinhole::config::{self, Credentials, Rtsp, Secret, Source, Transport};
use pinhole::media::{AccessUnit, CameraId, Demand, DownReason, SourceEvent};
use pinhole::source::{self, Events, SourceHandle};
use tokio::sync::mpsc;
use tokio::time::timeout;
use url::Url;

/// No wait of a test is longer: generous, for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(40);

/// A camera at `url`, every other key at its default.
pub fn camera(url: &str) -> config::Camera {
    let rtsp = Rtsp {
        url: Url::parse(url).unwrap(),
        credentials: None,
        transport: Transport::Auto,
    };
    config::Camera::new("test", Source::Rtsp(rtsp))
}

pub fn with_transport(mut camera: config::Camera, transport: Transport) -> config::Camera {
    if let Source::Rtsp(rtsp) = &mut camera.source {
        rtsp.transport = transport;
    }
    camera
}

pub fn with_credentials(mut camera: config::Camera, name: &str, password: &str) -> config::Camera {
    if let Source::Rtsp(rtsp) = &mut camera.source {
        rtsp.credentials = Some(Credentials {
            username: name.to_owned(),
            password: Secret::new(password),
        });
    }
    camera
}

/// Waits for something that tells nobody when it happens.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if timeout(LIMIT, look).await.is_err() {
        panic!("{what}: not within {LIMIT:?}");
    }
}

/// What a Down event said.
#[derive(Clone, Debug)]
pub struct Down {
    pub reason: DownReason,
    pub detail: String,
    pub retry_in: Duration,
}

/// A running source and its events.
pub struct Watch {
    pub handle: SourceHandle,
    events: Events,
    /// Everything said but units, in words.
    pub log: String,
    /// Error events since the start.
    pub errors: u32,
}

impl Watch {
    /// Starts and opens.
    pub fn open(camera: &config::Camera) -> Self {
        Self::with_room(camera, 256)
    }

    /// The same, with room for only so many events.
    pub fn with_room(camera: &config::Camera, room: usize) -> Self {
        let (sender, events) = mpsc::channel(room);
        let handle = source::start(CameraId(7), camera, sender);
        handle.demand(Demand::Open);
        Self {
            handle,
            events,
            log: String::new(),
            errors: 0,
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> SourceEvent {
        let Ok(next) = timeout(LIMIT, self.events.recv()).await else {
            panic!("nothing happened within {LIMIT:?} after:\n{}", self.log);
        };
        let (id, event) = next.expect("the source lives");
        assert_eq!(id, CameraId(7));
        match &event {
            SourceEvent::Unit(unit) => {
                let kind = if unit.is_key_frame { 'K' } else { '.' };
                self.log.push(kind);
            }
            SourceEvent::Error { .. } => {
                self.errors += 1;
                let _ = write!(self.log, "\n{event:?}\n");
            }
            other => {
                let _ = write!(self.log, "\n{other:?}\n");
            }
        }
        event
    }

    /// The first event that `wanted` makes something of.
    pub async fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(SourceEvent) -> Option<T>,
    ) -> T {
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let event = self.next().await;
            if let Some(found) = wanted(event) {
                return found;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "no {what} within {LIMIT:?}:\n{}",
                self.log
            );
        }
    }

    pub async fn unit(&mut self) -> AccessUnit {
        self.until("unit", |event| match event {
            SourceEvent::Unit(unit) => Some(unit),
            _ => None,
        })
        .await
    }

    pub async fn units(&mut self, n: usize) -> Vec<AccessUnit> {
        let mut units = Vec::new();
        while units.len() < n {
            units.push(self.unit().await);
        }
        units
    }

    pub async fn key_frame(&mut self) -> AccessUnit {
        loop {
            let unit = self.unit().await;
            if unit.is_key_frame {
                return unit;
            }
        }
    }

    pub async fn down(&mut self) -> Down {
        self.until("Down", |event| match event {
            SourceEvent::Down {
                reason,
                detail,
                retry_at,
            } => Some(Down {
                reason,
                detail,
                retry_in: retry_at
                    .expect("an RTSP source always tries again")
                    .saturating_duration_since(std::time::Instant::now()),
            }),
            _ => None,
        })
        .await
    }

    pub async fn note(&mut self) -> String {
        self.until("Note", |event| match event {
            SourceEvent::Note(note) => Some(note),
            _ => None,
        })
        .await
    }

    pub async fn closed(&mut self) {
        self.until("Closed", |event| {
            matches!(event, SourceEvent::Closed).then_some(())
        })
        .await;
    }
}
