//! Responses: outcomes, refusals and the headers that every response carries.
//!
//! In: an [`Outcome`] or a [`Problem`]. Out: a [`Response`].
//! Not here: which request led to it (route), the page's files (net::http).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LINK, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use super::policy::Policy;
use super::route::{ACCEPT_PATCH, ACCEPT_POST, FRAGMENT, SDP};
use super::status::Health;
use super::{ETag, Outcome, Refusal, Request, SessionKey, route};

/// A whole response.
pub type Response = http::Response<Bytes>;

/// A refusal, for a person: becomes `application/problem+json` (RFC 9457).
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `detail` says what is wrong and, where that helps, what to do. It must hold no secret.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            headers: Vec::new(),
        }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().clamp(1.0, 86_400.0) as u64;
        self.with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let body = Body {
            title: problem.status.canonical_reason().unwrap_or("Refused"),
            status: problem.status.as_u16(),
            detail: &problem.detail,
        };
        let mut response = json(problem.status, &body);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        for (name, value) in problem.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::UnknownCamera(_) | Refusal::UnknownSession => {
                Self::new(StatusCode::NOT_FOUND, detail)
            }
            Refusal::BadOffer(_) => Self::new(StatusCode::BAD_REQUEST, detail),
            Refusal::NoCommonCodec(_) | Refusal::BadFragment(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            Refusal::OverLimit { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after)
            }
            Refusal::StaleETag => Self::new(StatusCode::PRECONDITION_FAILED, detail),
            Refusal::Draining => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RESTART_TIME)
            }
        }
    }
}

/// The response to `request`, now that its command has come to something.
pub fn respond(policy: &Policy, request: &Request, outcome: Outcome) -> Response {
    let response = match outcome {
        Outcome::Opened {
            session,
            etag,
            answer,
        } => {
            let mut response = opened(session, &etag, answer);
            for link in policy.ice_servers() {
                response.headers_mut().append(LINK, link.clone());
            }
            response
        }
        Outcome::Trickled => plain(StatusCode::NO_CONTENT, None, ""),
        Outcome::Restarted { etag, fragment } => {
            let mut response = plain(StatusCode::OK, Some(FRAGMENT), fragment);
            response.headers_mut().insert(ETAG, quoted(&etag));
            response
        }
        Outcome::Closed => plain(StatusCode::OK, None, ""),
        Outcome::Found => {
            let mut response = plain(StatusCode::OK, Some(SDP), "");
            let sdp = HeaderValue::from_static(SDP);
            response.headers_mut().insert(ACCEPT_POST, sdp);
            response
        }
        Outcome::Cameras(cameras) => json(StatusCode::OK, &cameras),
        Outcome::Sessions(sessions) => json(StatusCode::OK, &sessions),
        Outcome::Health(health) => healthz(policy, request, health),
        Outcome::Metrics(text) => plain(StatusCode::OK, Some(OPEN_METRICS), text),
        Outcome::Refused(refusal) => Problem::from(refusal).into(),
    };
    finish(policy, request, response)
}

/// Adds what every response carries: CORS headers where the page that asks is allowed, and
/// headers that keep browsers from guessing, leaking and caching.
pub fn finish(policy: &Policy, request: &Request, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(PAGE_MAY_DO),
    );
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if policy.has_allowed_origins() {
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = policy.cors_origin(request) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(
                "Location, ETag, Link, Retry-After, WWW-Authenticate, Accept-Post, Accept-Patch",
            ),
        );
    }
    response
}

/// 401 for a person who opens the page: a form that takes the token, and says so where it was
/// `wrong`.
pub(super) fn login(problem: Problem, wrong: bool) -> Response {
    let mut response = Response::from(problem);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    let (title, text) = match wrong {
        true => ("That token was not accepted", WRONG_TOKEN),
        false => ("This Pinhole wants a token", NO_TOKEN),
    };
    let page = LOGIN.replace("{title}", title).replace("{text}", text);
    *response.body_mut() = Bytes::from(page);
    response
}

/// A response with a body as it stands.
pub(super) fn plain(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        let value = HeaderValue::from_static(content_type);
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("our statuses have string keys and no maps");
    plain(status, Some("application/json"), body)
}

fn opened(session: SessionKey, etag: &ETag, answer: String) -> Response {
    let mut response = plain(StatusCode::CREATED, Some(SDP), answer);
    let headers = response.headers_mut();
    // An absolute path: some clients use the value as it stands, and only they know the scheme
    // and host that a proxy has given us.
    let location = format!("/whep/session/{:032x}", session.0);
    let location = HeaderValue::try_from(location).expect("a path of hex digits");
    headers.insert(LOCATION, location);
    headers.insert(ETAG, quoted(etag));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    response
}

fn quoted(etag: &ETag) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", etag.0)).expect("the gateway's tags are ASCII")
}

/// Numbers for everybody: whoever watches a service need not hold its token. Names are for those
/// who could ask for the list of cameras.
fn healthz(policy: &Policy, request: &Request, mut health: Health) -> Response {
    let status = if route::is_strict(request) && health.cameras_down > 0 {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    if policy.check_token(request).is_err() {
        health.down.clear();
    }
    json(status, &health)
}

/// A client that meets a shutdown asks again once a restart is likely over.
const RESTART_TIME: Duration = Duration::from_secs(5);

/// What `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything comes from Pinhole itself. `frame-ancestors` is left out on purpose: dashboards
/// may frame the page (see `policy`).
const PAGE_MAY_DO: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; \
    base-uri 'none'; form-action 'self'";

const NO_TOKEN: &str = "It shows its cameras to whoever has its token. Open the link that it \
    printed at its start, or enter the token here.";

const WRONG_TOKEN: &str = "It may have been typed wrong, or changed since. Open the link that \
    this Pinhole printed at its start, or enter its token again.";

/// Readable without its style, too.
const LOGIN: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
    <meta name=\"color-scheme\" content=\"dark light\"><title>Pinhole: token needed</title>\
    <link rel=\"icon\" href=\"/favicon.svg\"><link rel=\"stylesheet\" href=\"/style.css\">\
    <body data-view=\"note\"><main><section class=\"note\">\
    <img src=\"/favicon.svg\" width=\"56\" height=\"56\" alt=\"\">\
    <h2>{title}</h2><p>{text}</p>\
    <form action=\"/\" method=\"get\"><label for=\"token\">Token</label>\
    <input id=\"token\" type=\"password\" name=\"token\" autocomplete=\"current-password\" \
    required autofocus> <button class=\"tool\">Open</button></form></section></main></html>\n";
