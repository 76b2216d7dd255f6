//! Requests: what each path and verb means, and what a request must hold to be carried out.
//!
//! In: a [`Request`], its body. Out: an [`Action`].
//! Not here: carrying it out (gateway), reading it from the wire (net::http).
//!
//! | path | verbs | |
//! |---|---|---|
//! | `/whep/{camera}` | POST HEAD OPTIONS | WHEP endpoint (draft-ietf-wish-whep) |
//! | `/whep/session/{key}` | PATCH DELETE OPTIONS | WHEP session |
//! | `/api/cameras`, `/api/sessions` | GET HEAD OPTIONS | JSON |
//! | `/healthz` | GET HEAD OPTIONS | needs no token: it tells three numbers, and names only with it. `?strict`: 503 while a camera is not up |
//! | `/metrics` | GET HEAD OPTIONS | OpenMetrics text |
//! | else | GET HEAD OPTIONS | the page's files; `/favicon.svg` and `/style.css` need no token |

use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::form_urlencoded;

use super::policy::{Policy, Proof, shows_token, without_token};
use super::reply::{Problem, Response, finish, login, plain};
use super::{Command, Fragment, IfMatch, Request, SessionKey, etag};

pub(super) const SDP: &str = "application/sdp";
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// What is to be done about a request.
#[derive(Debug)]
pub enum Action {
    /// Nobody need be asked.
    Respond(Response),
    /// The loop is asked; [`super::respond`] turns what comes of it into the response.
    Ask(Command),
    /// One of the page's files, by its path; [`not_found`] where there is none.
    File(String),
}

/// A request that may be carried out once its body is read: its head was in order.
#[derive(Debug)]
pub enum Admitted {
    /// A body is needed: read it, then call [`Admitted::action`].
    Open {
        camera: String,
        peer: std::net::IpAddr,
    },
    /// A body is needed: read it, then call [`Admitted::action`].
    Patch {
        session: SessionKey,
        if_match: IfMatch,
    },
    /// Nothing more is needed.
    Ready(Action),
}

impl Admitted {
    /// Whether the body matters.
    pub fn needs_body(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Patch { .. } => true,
            Self::Ready(_) => false,
        }
    }

    /// What the whole request asks for.
    pub fn action(self, policy: &Policy, request: &Request, body: &[u8]) -> Action {
        let command = match self {
            Self::Ready(action) => return action,
            Self::Open { camera, peer } => offer(body).map(|offer| Command::Open {
                camera,
                offer,
                peer,
            }),
            Self::Patch { session, if_match } => Fragment::parse(body)
                .map_err(|error| {
                    let detail = format!("the fragment cannot be read: {error}");
                    Problem::new(StatusCode::BAD_REQUEST, detail)
                })
                .map(|fragment| Command::Patch {
                    session,
                    if_match,
                    fragment,
                }),
        };
        match command {
            Ok(command) => Action::Ask(command),
            Err(problem) => Action::Respond(finish(policy, request, problem.into())),
        }
    }
}

/// Judges a request whose body is at hand: [`admit`] and [`Admitted::action`] in one.
pub fn route(policy: &Policy, request: &Request, body: &[u8]) -> Action {
    admit(policy, request).action(policy, request, body)
}

/// Judges a request by its head, so that the body of one that will be refused is never read.
pub fn admit(policy: &Policy, request: &Request) -> Admitted {
    try_admit(policy, request).unwrap_or_else(|problem| {
        let wants_page = problem.status() == StatusCode::UNAUTHORIZED
            && matches!(resource(request.uri.path()), Resource::File)
            && accepts_html(&request.headers);
        let response = if wants_page {
            login(problem, shows_token(request))
        } else {
            problem.into()
        };
        Admitted::Ready(Action::Respond(finish(policy, request, response)))
    })
}

/// 404 for a path that is no file of the page.
pub fn not_found(policy: &Policy, request: &Request) -> Response {
    finish(policy, request, nothing_here().into())
}

/// `?strict` on `/healthz`.
pub(super) fn is_strict(request: &Request) -> bool {
    let query = request.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "strict")
}

fn try_admit(policy: &Policy, request: &Request) -> Result<Admitted, Problem> {
    policy.check_host(request)?;
    check_target(request)?;
    let resource = resource(request.uri.path());
    if request.method == Method::OPTIONS {
        if matches!(resource, Resource::Nothing) {
            return Err(nothing_here());
        }
        // A preflight carries no token (Fetch standard), and says nothing of cameras.
        let response = finish(policy, request, resource.options());
        return Ok(Admitted::Ready(Action::Respond(response)));
    }
    policy.check_origin(request)?;
    if !matches!(resource, Resource::Health) && !LOGIN_FILES.contains(&request.uri.path()) {
        let proof = policy.check_token(request)?;
        if proof == Proof::InUrl && request.uri.path() == "/" && is_read(&request.method) {
            let response = finish(policy, request, enter(policy, request));
            return Ok(Admitted::Ready(Action::Respond(response)));
        }
    }
    resource.admit(request)
}

/// The target is a path, alone or behind a host. `CONNECT`'s form, a host alone, names nothing here,
/// and `*` asks `OPTIONS` of the server as a whole (RFC 9112 section 3.2).
fn check_target(request: &Request) -> Result<(), Problem> {
    let path = request.uri.path();
    if path.starts_with('/') || (path == "*" && request.method == Method::OPTIONS) {
        return Ok(());
    }
    let detail = "the target of a request must be a path that begins with /";
    Err(Problem::new(StatusCode::BAD_REQUEST, detail))
}

/// The page that asks for the token looks like the rest: these files say nothing of cameras.
const LOGIN_FILES: [&str; 2] = ["/favicon.svg", "/style.css"];

/// What a path names.
enum Resource<'a> {
    Endpoint(&'a str),
    Session(&'a str),
    Cameras,
    Sessions,
    Health,
    Metrics,
    File,
    Nothing,
}

fn resource(path: &str) -> Resource<'_> {
    // The longest path of ours has three parts; a fourth means that nothing matches.
    let mut parts = path.strip_prefix('/').unwrap_or(path).splitn(4, '/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("whep"), Some("session"), Some(key), None) => Resource::Session(key),
        (Some("whep"), Some(camera), None, None) if !camera.is_empty() => {
            Resource::Endpoint(camera)
        }
        (Some("api"), Some("cameras"), None, None) => Resource::Cameras,
        (Some("api"), Some("sessions"), None, None) => Resource::Sessions,
        (Some("healthz"), None, None, None) => Resource::Health,
        (Some("metrics"), None, None, None) => Resource::Metrics,
        (Some("whep" | "api"), _, _, _) => Resource::Nothing,
        _ => Resource::File,
    }
}

impl Resource<'_> {
    fn allow(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "POST, HEAD, OPTIONS",
            Self::Session(_) => "PATCH, DELETE, OPTIONS",
            Self::Cameras
            | Self::Sessions
            | Self::Health
            | Self::Metrics
            | Self::File
            | Self::Nothing => "GET, HEAD, OPTIONS",
        }
    }

    fn options(&self) -> Response {
        let mut response = plain(StatusCode::OK, None, "");
        let headers = response.headers_mut();
        let allow = HeaderValue::from_static(self.allow());
        headers.insert(ALLOW, allow.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Authorization, Content-Type, If-Match"),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_AGE));
        match self {
            Self::Endpoint(_) => {
                headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
            }
            Self::Session(_) => {
                headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
            }
            Self::Cameras
            | Self::Sessions
            | Self::Health
            | Self::Metrics
            | Self::File
            | Self::Nothing => {}
        }
        response
    }

    fn admit(&self, request: &Request) -> Result<Admitted, Problem> {
        let ask = |command| Ok(Admitted::Ready(Action::Ask(command)));
        match self {
            Self::Endpoint(camera) => self.admit_endpoint(camera, request),
            Self::Session(key) => self.admit_session(key, request),
            Self::Nothing => Err(nothing_here()),
            Self::Cameras | Self::Sessions | Self::Health | Self::Metrics | Self::File
                if !is_read(&request.method) =>
            {
                Err(self.wrong_method(request))
            }
            Self::Cameras => ask(Command::Cameras),
            Self::Sessions => ask(Command::Sessions),
            Self::Health => ask(Command::Health),
            Self::Metrics => ask(Command::Metrics),
            Self::File => {
                let path = request.uri.path().to_owned();
                Ok(Admitted::Ready(Action::File(path)))
            }
        }
    }

    fn admit_endpoint(&self, camera: &str, request: &Request) -> Result<Admitted, Problem> {
        let camera = camera.to_owned();
        if request.method == Method::HEAD {
            Ok(Admitted::Ready(Action::Ask(Command::Find { camera })))
        } else if request.method == Method::POST {
            need_type(&request.headers, SDP, ACCEPT_POST)?;
            Ok(Admitted::Open {
                camera,
                peer: request.peer.ip().to_canonical(),
            })
        } else {
            Err(self.wrong_method(request))
        }
    }

    fn admit_session(&self, key: &str, request: &Request) -> Result<Admitted, Problem> {
        let is_patch = request.method == Method::PATCH;
        if !is_patch && request.method != Method::DELETE {
            return Err(self.wrong_method(request));
        }
        let session = parse_key(key).ok_or(super::Refusal::UnknownSession)?;
        if !is_patch {
            return Ok(Admitted::Ready(Action::Ask(Command::Close { session })));
        }
        need_type(&request.headers, FRAGMENT, ACCEPT_PATCH)?;
        match etag::if_match(&request.headers) {
            Some(Ok(if_match)) => Ok(Admitted::Patch { session, if_match }),
            Some(Err(why)) => Err(Problem::new(StatusCode::BAD_REQUEST, why)),
            None => Err(Problem::new(
                StatusCode::PRECONDITION_REQUIRED,
                "a PATCH needs If-Match with the ETag that the session was created with",
            )),
        }
    }

    fn wrong_method(&self, request: &Request) -> Problem {
        let detail = format!(
            "{} is not possible here; {} are",
            request.method,
            self.allow()
        );
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
            .with(ALLOW, HeaderValue::from_static(self.allow()))
    }
}

/// Exactly as we write it: 32 lower-case hex digits.
fn parse_key(text: &str) -> Option<SessionKey> {
    let is_ours = text.len() == 32
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = is_ours.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(SessionKey(number))
}

/// The token came in the URL of the page: from now on a cookie stands for it, and the address
/// bar, the history and a bookmark hold it no longer.
fn enter(policy: &Policy, request: &Request) -> Response {
    let mut response = plain(StatusCode::SEE_OTHER, None, "");
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(without_token(request));
    headers.insert(LOCATION, location.expect("an encoded query is ASCII"));
    if let Some(cookie) = policy.set_cookie() {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

fn offer(body: &[u8]) -> Result<String, Problem> {
    let problem = |detail| Problem::new(StatusCode::BAD_REQUEST, detail);
    let text = std::str::from_utf8(body).map_err(|_| problem("the offer is not UTF-8 text"))?;
    if text.trim().is_empty() {
        return Err(problem("the body is empty: it must be an SDP offer"));
    }
    Ok(text.to_owned())
}

/// The body is of type `wanted` and not compressed; `accept` is the header that says so.
fn need_type(headers: &HeaderMap, wanted: &'static str, accept: HeaderName) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let given = text(CONTENT_TYPE).and_then(|value| value.split(';').next());
    let is_wanted = given.is_some_and(|given| given.trim().eq_ignore_ascii_case(wanted));
    let is_bare = !headers.contains_key(CONTENT_ENCODING)
        || text(CONTENT_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("identity"));
    if is_wanted && is_bare {
        return Ok(());
    }
    let detail = format!("the body must be {wanted}, not compressed, and its Content-Type say so");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        .with(accept, HeaderValue::from_static(wanted)))
}

fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Seconds that a browser may keep what a preflight said.
const PREFLIGHT_AGE: u32 = 600;
