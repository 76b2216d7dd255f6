//! HTTP semantics without a server: a request becomes a response or a [`Command`] for the
//! gateway, and its [`Outcome`] becomes a response.
//!
//! In: requests, outcomes. Out: responses, commands.
//! Not here: sockets (net::http), state of cameras and sessions (gateway), SDP (session).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod etag;
pub mod fragment;
mod policy;
mod reply;
mod route;
pub mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, Method, Uri};

pub use etag::is_none_match_hit;
pub use policy::Policy;
pub use reply::{Problem, Response, finish, respond};
pub use route::{Action, Admitted, admit, not_found, route};
use status::{CameraStatus, Health, SessionStatus};

/// The head of an HTTP request.
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Who is connected to us; a proxy, where there is one.
    pub peer: SocketAddr,
}

impl fmt::Debug for Request {
    // Query and headers may hold the token, the path a session's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} request from {}", self.method, self.peer)
    }
}

/// The unguessable name of a WHEP session: the last part of its URL, 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u128);

impl fmt::Debug for SessionKey {
    // Whoever knows the key can end the session: it stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// The strong entity tag of a session's ICE generation, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// What a PATCH says in its `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: sent by some clients with every PATCH, so it says nothing about a restart.
    Any,
    /// One of these tags.
    Tags(Vec<ETag>),
}

/// A parsed `application/trickle-ice-sdpfrag` body (RFC 8840).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// `a=ice-ufrag`, where given.
    pub ufrag: Option<String>,
    /// `a=ice-pwd`, where given.
    pub pwd: Option<String>,
    /// Candidate attribute values (`candidate:...`), `.local` ones left out.
    pub candidates: Vec<String>,
    /// `a=end-of-candidates` was there.
    pub is_end: bool,
}

/// What the gateway is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A WHEP POST: a new session on this camera.
    Open {
        camera: String,
        offer: String,
        peer: IpAddr,
    },
    /// A WHEP PATCH: more candidates, or an ICE restart when the credentials are new.
    Patch {
        session: SessionKey,
        if_match: IfMatch,
        fragment: Fragment,
    },
    /// A WHEP DELETE.
    Close { session: SessionKey },
    /// Is there such a camera? (HEAD of its endpoint)
    Find { camera: String },
    /// `GET /api/cameras`
    Cameras,
    /// `GET /api/sessions`
    Sessions,
    /// `GET /healthz`
    Health,
    /// `GET /metrics`; answered by the daemon.
    Metrics,
}

/// What came of a [`Command`].
#[derive(Clone, Debug)]
pub enum Outcome {
    Opened {
        session: SessionKey,
        etag: ETag,
        /// SDP answer with every candidate of ours.
        answer: String,
    },
    /// Candidates taken (204).
    Trickled,
    /// ICE restarted (200): the new tag and our new credentials as a fragment.
    Restarted {
        etag: ETag,
        fragment: String,
    },
    Closed,
    Found,
    Cameras(Vec<CameraStatus>),
    Sessions(Vec<SessionStatus>),
    Health(Health),
    /// Text in the Prometheus exposition format.
    Metrics(String),
    Refused(Refusal),
}

/// Why a command was not carried out. The text of each is shown to a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no camera is named {0:?}")]
    UnknownCamera(String),
    #[error("no such session: it ended, or it never was")]
    UnknownSession,
    #[error("the offer cannot be used: {0}")]
    BadOffer(String),
    #[error("no common codec: {0}")]
    NoCommonCodec(String),
    #[error("{limit} is reached")]
    OverLimit {
        /// The config key of the limit, e.g. `limits.viewers`.
        limit: &'static str,
        retry_after: Duration,
    },
    #[error("the session has changed since: its ETag is another")]
    StaleETag,
    #[error("the fragment cannot be used: {0}")]
    BadFragment(String),
    #[error("Pinhole is shutting down")]
    Draining,
}
