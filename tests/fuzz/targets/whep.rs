//! HTTP requests, written as on the wire: each gets a response, and without the token none but
//! `/healthz` and preflights reach the loop.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pinhole::config::{Access, Secret, Server};
use pinhole::whep::status::Health;
use pinhole::whep::{
    Action, Command, ETag, Outcome, Policy, Refusal, Request, SessionKey, not_found, respond, route,
};

const TOKEN: &str = "correct-horse-battery";

fuzz_target!(|data: &[u8]| {
    let Some((request, body)) = read(data) else {
        return;
    };
    let (policy, cookie) = policy();
    match route(policy, &request, body) {
        Action::Respond(response) => assert!(response.status().as_u16() >= 200),
        Action::File(path) => {
            assert!(path.starts_with('/'));
            assert!(not_found(policy, &request).status().as_u16() >= 400);
        }
        Action::Ask(command) => {
            let is_open = matches!(command, Command::Health);
            assert!(
                is_open || shows(&request, TOKEN) || shows(&request, cookie),
                "{command:?}"
            );
            for outcome in outcomes() {
                let status = respond(policy, &request, outcome).status().as_u16();
                assert!((200..=599).contains(&status));
            }
        }
    }
});

/// `METHOD TARGET`, header lines, an empty line, the body.
fn read(data: &[u8]) -> Option<(Request, &[u8])> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (&data[..end], &data[end + 2..]);
    let mut lines = head.split(|&byte| byte == b'\n');
    let mut start = lines.next()?.splitn(2, |&byte| byte == b' ');
    let method = http::Method::from_bytes(start.next()?).ok()?;
    let uri = http::Uri::try_from(start.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    let request = Request {
        method,
        uri,
        headers,
        peer: ([192, 0, 2, 9], 5000).into(),
    };
    Some((request, body))
}

/// A policy with a token, and the cookie that stands for the token.
fn policy() -> &'static (Policy, String) {
    static POLICY: OnceLock<(Policy, String)> = OnceLock::new();
    POLICY.get_or_init(|| {
        let server = Server {
            allowed_origins: vec!["https://panel.example".to_owned()],
            ..Server::default()
        };
        let access = Access {
            token: Some(Secret::new(TOKEN)),
            anonymous: false,
        };
        let policy = Policy::new(&server, &access, &["gate.lan".to_owned()]);
        let login = format!("GET /?token={TOKEN}\nHost: localhost\n\n");
        let (request, body) = read(login.as_bytes()).expect("a request");
        let Action::Respond(response) = route(&policy, &request, body) else {
            panic!("a login is answered at once");
        };
        let cookie = response.headers()[SET_COOKIE].to_str().expect("text");
        let value = cookie
            .split(';')
            .next()
            .and_then(|pair| pair.split_once('='));
        let cookie = value.expect("a cookie has a value").1.to_owned();
        (policy, cookie)
    })
}

/// Whether a request holds this word, in a header or (percent-encoded or not) in its query.
fn shows(request: &Request, word: &str) -> bool {
    let is_in = |bytes: &[u8]| {
        bytes
            .windows(word.len())
            .any(|part| part == word.as_bytes())
    };
    let query = request.uri.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    request
        .headers
        .values()
        .any(|value| is_in(value.as_bytes()))
        || pairs.any(|(_, value)| is_in(value.as_bytes()))
}

/// One outcome of each kind that a peer can bring about.
fn outcomes() -> Vec<Outcome> {
    let refusals = [
        Refusal::UnknownCamera("x\r\ny".to_owned()),
        Refusal::UnknownSession,
        Refusal::BadOffer("\u{0}".to_owned()),
        Refusal::NoCommonCodec(String::new()),
        Refusal::OverLimit {
            limit: "limits.viewers",
            retry_after: Duration::from_secs(5),
        },
        Refusal::StaleETag,
        Refusal::BadFragment(String::new()),
        Refusal::Draining,
    ];
    let mut all = vec![
        Outcome::Opened {
            session: SessionKey(7),
            etag: ETag("e".to_owned()),
            answer: "v=0\r\n".to_owned(),
        },
        Outcome::Trickled,
        Outcome::Restarted {
            etag: ETag("f".to_owned()),
            fragment: String::new(),
        },
        Outcome::Closed,
        Outcome::Found,
        Outcome::Cameras(Vec::new()),
        Outcome::Sessions(Vec::new()),
        Outcome::Health(Health::default()),
        Outcome::Metrics(String::new()),
    ];
    all.extend(refusals.map(Outcome::Refused));
    all
}
