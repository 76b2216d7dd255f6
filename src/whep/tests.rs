//! Every route, verb and status of the surface, told as requests and responses.

mod access;

use http::header::{ALLOW, HOST, LOCATION};
use http::{HeaderName, HeaderValue};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::status::{DownCamera, Health, StageTimings};
use super::*;
use crate::config::{Access, Secret, Server};
use crate::media::Stages;

const TOKEN: &str = "correct-horse-battery";
const KEY: &str = "0123456789abcdef0123456789abcdef";
const FRAGMENT: &str = "a=ice-ufrag:abcd\r\na=candidate:1 1 udp 1 192.0.2.7 5 typ host\r\n";

fn open_policy() -> Policy {
    policy(Access::default())
}

fn token_policy() -> Policy {
    policy(Access {
        token: Some(Secret::new(TOKEN)),
        anonymous: false,
    })
}

fn policy(access: Access) -> Policy {
    let server = Server {
        allowed_origins: vec!["https://panel.example".to_owned()],
        hosts: vec!["Cams.Example".to_owned()],
        ..Server::default()
    };
    Policy::new(&server, &access, &["gate.lan".to_owned()])
}

/// `headers` go on top of a good Host.
fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
    let mut map = HeaderMap::new();
    map.insert(HOST, HeaderValue::from_static("127.0.0.1:8080"));
    for (name, value) in headers {
        map.insert(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    Request {
        method: method.parse().unwrap(),
        uri: uri.parse().unwrap(),
        headers: map,
        peer: "[::ffff:192.0.2.9]:5000".parse().unwrap(),
    }
}

fn answered(policy: &Policy, request: &Request, body: &str) -> Response {
    let Action::Respond(response) = route(policy, request, body.as_bytes()) else {
        panic!("{request:?} was let through");
    };
    response
}

fn asked(policy: &Policy, request: &Request, body: &str) -> Command {
    let Action::Ask(command) = route(policy, request, body.as_bytes()) else {
        panic!("{request:?} was not passed on");
    };
    command
}

fn status(policy: &Policy, method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
    answered(policy, &request(method, uri, headers), "")
        .status()
        .as_u16()
}

fn header(response: &Response, name: impl http::header::AsHeaderName) -> &str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn problem(response: &Response) -> Value {
    assert_eq!(header(response, "content-type"), "application/problem+json");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["status"], response.status().as_u16());
    for word in ["title", "detail"] {
        assert!(!body[word].as_str().unwrap().is_empty(), "{body}");
    }
    body
}

const SDP: (&str, &str) = ("content-type", "application/sdp");
const SDPFRAG: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

#[test]
fn a_post_opens_a_session_on_the_camera_it_names() {
    let request = request("POST", "/whep/front-door", &[SDP]);
    let command = asked(&open_policy(), &request, "v=0\r\n");
    let expected = Command::Open {
        camera: "front-door".into(),
        offer: "v=0\r\n".into(),
        peer: "192.0.2.9".parse().unwrap(),
    };
    assert_eq!(command, expected);
}

#[test]
fn the_created_session_is_told_by_location_etag_and_answer() {
    let policy = open_policy();
    let request = request("POST", "/whep/door", &[SDP]);
    let outcome = Outcome::Opened {
        session: SessionKey(0xabc),
        etag: ETag("g1".into()),
        answer: "v=0\r\n".into(),
    };
    let response = respond(&policy, &request, outcome);
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, LOCATION),
        "/whep/session/00000000000000000000000000000abc"
    );
    assert_eq!(header(&response, "etag"), "\"g1\"");
    assert_eq!(header(&response, "content-type"), "application/sdp");
    assert_eq!(
        header(&response, "accept-patch"),
        "application/trickle-ice-sdpfrag"
    );
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(response.body().as_ref(), b"v=0\r\n");
}

#[test]
fn an_offer_must_be_sdp_text_and_say_so() {
    let policy = open_policy();
    for headers in [
        &[][..],
        &[("content-type", "application/json")],
        &[SDP, ("content-encoding", "gzip")],
    ] {
        let response = answered(&policy, &request("POST", "/whep/door", headers), "v=0");
        assert_eq!(response.status(), 415);
        assert_eq!(header(&response, "accept-post"), "application/sdp");
        problem(&response);
    }
    let with_parameter = ("content-type", "Application/SDP; charset=utf-8");
    asked(
        &policy,
        &request("POST", "/whep/door", &[with_parameter]),
        "v=0",
    );
    assert_eq!(status(&policy, "POST", "/whep/door", &[SDP]), 400);
    let request = request("POST", "/whep/door", &[SDP]);
    let Action::Respond(response) = route(&policy, &request, b"\xff") else {
        panic!("bytes that are no text were let through");
    };
    assert_eq!(response.status(), 400);
}

#[test]
fn head_asks_whether_there_is_such_a_camera() {
    let policy = open_policy();
    let request = request("HEAD", "/whep/door", &[]);
    let command = asked(&policy, &request, "");
    assert_eq!(
        command,
        Command::Find {
            camera: "door".into()
        }
    );
    let response = respond(&policy, &request, Outcome::Found);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/sdp");
}

#[test]
fn a_patch_carries_its_fragment_and_its_if_match() {
    let policy = open_policy();
    let uri = format!("/whep/session/{KEY}");
    for (text, expected) in [
        ("*", IfMatch::Any),
        ("\"g1\"", IfMatch::Tags(vec![ETag("g1".into())])),
        ("W/\"g1\"", IfMatch::Tags(vec![])),
    ] {
        let request = request("PATCH", &uri, &[SDPFRAG, ("if-match", text)]);
        let Command::Patch {
            session,
            if_match,
            fragment,
        } = asked(&policy, &request, FRAGMENT)
        else {
            panic!("a PATCH became another command");
        };
        assert_eq!(
            session,
            SessionKey(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)
        );
        assert_eq!(if_match, expected);
        assert_eq!(fragment.candidates.len(), 1);
        assert_eq!(fragment.ufrag.as_deref(), Some("abcd"));
    }
}

#[test]
fn a_patch_that_cannot_be_used_is_refused_at_once() {
    let policy = open_policy();
    let uri = format!("/whep/session/{KEY}");
    let patch = |headers: &[(&str, &str)], body: &str| {
        let response = answered(&policy, &request("PATCH", &uri, headers), body);
        problem(&response);
        response.status().as_u16()
    };
    let json = ("content-type", "application/json");
    assert_eq!(patch(&[json, ("if-match", "*")], "{}"), 415);
    assert_eq!(patch(&[], ""), 415);
    assert_eq!(patch(&[SDPFRAG], FRAGMENT), 428);
    assert_eq!(patch(&[SDPFRAG, ("if-match", "g1")], FRAGMENT), 400);
    assert_eq!(patch(&[SDPFRAG, ("if-match", "*")], "a=ice-pwd:x"), 400);
}

#[test]
fn trickle_says_nothing_and_a_restart_tells_the_new_tag() {
    let policy = open_policy();
    let request = request("PATCH", &format!("/whep/session/{KEY}"), &[]);
    let response = respond(&policy, &request, Outcome::Trickled);
    assert_eq!(response.status(), 204);
    assert_eq!(header(&response, "etag"), "");
    let outcome = Outcome::Restarted {
        etag: ETag("g2".into()),
        fragment: "a=ice-ufrag:new1\r\n".into(),
    };
    let response = respond(&policy, &request, outcome);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "etag"), "\"g2\"");
    assert_eq!(
        header(&response, "content-type"),
        "application/trickle-ice-sdpfrag"
    );
}

#[test]
fn a_delete_ends_the_session_whatever_its_etag() {
    let policy = open_policy();
    let uri = format!("/whep/session/{KEY}");
    let request = request("DELETE", &uri, &[("if-match", "nonsense")]);
    assert!(matches!(
        asked(&policy, &request, ""),
        Command::Close { .. }
    ));
    assert_eq!(respond(&policy, &request, Outcome::Closed).status(), 200);
}

#[test]
fn a_session_key_is_taken_only_as_it_was_given() {
    let policy = open_policy();
    for key in [
        "",
        "1",
        &KEY.to_uppercase(),
        &format!("{KEY}0"),
        "+1234567890123456789012345678901",
    ] {
        let uri = format!("/whep/session/{key}");
        assert_eq!(status(&policy, "DELETE", &uri, &[]), 404, "{key}");
    }
}

#[test]
fn every_refusal_has_its_status_and_its_reason() {
    let policy = open_policy();
    let request = request("POST", "/whep/door", &[SDP]);
    let over_limit = Refusal::OverLimit {
        limit: "limits.viewers",
        retry_after: Duration::from_millis(2500),
    };
    for (refusal, code, retry_after) in [
        (Refusal::UnknownCamera("door".into()), 404, ""),
        (Refusal::UnknownSession, 404, ""),
        (Refusal::BadOffer("no video".into()), 400, ""),
        (Refusal::NoCommonCodec("H.264 is needed".into()), 422, ""),
        (Refusal::BadFragment("no credentials".into()), 422, ""),
        (Refusal::StaleETag, 412, ""),
        (Refusal::Draining, 503, "5"),
        (over_limit, 503, "3"),
    ] {
        let text = refusal.to_string();
        let response = respond(&policy, &request, Outcome::Refused(refusal));
        assert_eq!(response.status(), code);
        assert_eq!(header(&response, "retry-after"), retry_after);
        assert_eq!(problem(&response)["detail"], text);
    }
}

#[test]
fn verbs_that_do_not_fit_are_told_which_do() {
    let policy = open_policy();
    for (method, uri, allow) in [
        ("GET", "/whep/door", "POST, HEAD, OPTIONS"),
        ("PUT", "/whep/door", "POST, HEAD, OPTIONS"),
        (
            "GET",
            &format!("/whep/session/{KEY}"),
            "PATCH, DELETE, OPTIONS",
        ),
        ("POST", "/api/cameras", "GET, HEAD, OPTIONS"),
        ("DELETE", "/metrics", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ] {
        let response = answered(&policy, &request(method, uri, &[]), "");
        assert_eq!(response.status(), 405, "{method} {uri}");
        assert_eq!(header(&response, ALLOW), allow);
        problem(&response);
    }
}

#[test]
fn the_api_asks_the_loop_and_other_paths_are_files() {
    let policy = open_policy();
    let ask = |uri: &str| asked(&policy, &request("GET", uri, &[]), "");
    assert_eq!(ask("/api/cameras"), Command::Cameras);
    assert_eq!(ask("/api/sessions?x=1"), Command::Sessions);
    assert_eq!(ask("/healthz?strict"), Command::Health);
    assert_eq!(ask("/metrics"), Command::Metrics);
    for uri in ["/", "/app.js", "/a/b/c/d"] {
        let action = route(&policy, &request("GET", uri, &[]), b"");
        assert!(matches!(action, Action::File(path) if path == uri));
    }
    for uri in [
        "/api",
        "/api/",
        "/whep",
        "/whep/",
        "/whep/a/b",
        "/whep/session/a/b",
    ] {
        assert_eq!(status(&policy, "GET", uri, &[]), 404, "{uri}");
    }
    assert_eq!(not_found(&policy, &request("GET", "/x", &[])).status(), 404);
}

#[test]
fn a_target_is_a_path_alone_or_behind_a_host() {
    let policy = open_policy();
    let action = route(&policy, &request("GET", "http://127.0.0.1:8080", &[]), b"");
    assert!(matches!(action, Action::File(path) if path == "/"));
    let whole = request("GET", "http://127.0.0.1:8080/api/cameras", &[]);
    assert_eq!(asked(&policy, &whole, ""), Command::Cameras);
    assert_eq!(status(&policy, "OPTIONS", "*", &[]), 200);
    // The form of CONNECT, of which HTTP libraries make a URI without a path.
    for (method, uri) in [
        ("GET", "127.0.0.1:8080"),
        ("CONNECT", "127.0.0.1:8080"),
        ("OPTIONS", "127.0.0.1:8080"),
        ("GET", "*"),
    ] {
        assert_eq!(status(&policy, method, uri, &[]), 400, "{method} {uri}");
    }
}

#[test]
fn stages_are_told_in_milliseconds_and_only_those_that_there_are() {
    let mut stages = StageTimings::default();
    for micros in [900, 900, 900, 15_123] {
        let before = Stages {
            encode: Duration::from_micros(micros),
            ..Stages::default()
        };
        stages.record(before, Duration::from_micros(7));
    }
    let told = serde_json::to_value(&stages).unwrap();
    assert_eq!(
        told,
        json!({
            // The bound of the bucket; where it is past the longest of all, that one.
            "encode": { "count": 4, "p50_ms": 1.0, "p99_ms": 15.12, "max_ms": 15.12 },
            "packetize": { "count": 4, "p50_ms": 0.01, "p99_ms": 0.01, "max_ms": 0.01 },
        })
    );
}

#[test]
fn health_is_strict_only_when_asked_and_names_cameras_only_to_those_with_the_token() {
    let ask = |policy: &Policy, uri: &str, headers: &[(&str, &str)], cameras_down: usize| {
        let door = DownCamera {
            name: "door".to_owned(),
            state: "down",
            reason: Some("stalled"),
        };
        let outcome = Outcome::Health(Health {
            cameras: 2,
            cameras_down,
            viewers: 0,
            down: vec![door; cameras_down],
        });
        let response = respond(policy, &request("GET", uri, headers), outcome);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), body)
    };
    let (open, closed) = (open_policy(), token_policy());
    assert_eq!(ask(&open, "/healthz", &[], 1).0, 200);
    assert_eq!(ask(&open, "/healthz?strict=1", &[], 0).0, 200);
    let (status, body) = ask(&open, "/healthz?strict", &[], 1);
    assert_eq!(status, 503);
    let named = json!([{ "name": "door", "state": "down", "reason": "stalled" }]);
    assert_eq!(body["down"], named);
    let (status, body) = ask(&closed, "/healthz?strict", &[], 1);
    assert_eq!((status, &body["cameras_down"]), (503, &json!(1)));
    assert_eq!(body.get("down"), None);
    let token = format!("Bearer {TOKEN}");
    let (_, body) = ask(&closed, "/healthz?strict", &[("authorization", &token)], 1);
    assert_eq!(body["down"], named);
}

#[test]
fn no_request_makes_us_panic() {
    let seed = 0x0050_1e57;
    let mut rng = StdRng::seed_from_u64(seed);
    let policies = [open_policy(), token_policy()];
    for round in 0..20_000 {
        let mut text = |most: usize| -> String {
            let words = rng.random_range(0..=most);
            (0..words)
                .map(|_| WORDS[rng.random_range(0..WORDS.len())])
                .collect()
        };
        let (uri, value, body) = (format!("/{}", text(6)), text(4), text(8));
        let Ok(uri) = uri.parse::<Uri>() else {
            continue;
        };
        let mut request = request(METHODS[rng.random_range(0..METHODS.len())], "/", &[SDP]);
        request.uri = uri;
        let name = HEADERS[rng.random_range(0..HEADERS.len())];
        request
            .headers
            .insert(name, HeaderValue::from_str(&value).unwrap());
        let action = route(&policies[round % 2], &request, body.as_bytes());
        if let Action::Respond(response) = action {
            let status = response.status().as_u16();
            assert!(
                [200, 303].contains(&status) || (400..500).contains(&status),
                "seed {seed}, round {round}: {status}"
            );
        }
        let _ = Fragment::parse(body.as_bytes());
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "BREW"];
const WORDS: [&str; 24] = [
    "/",
    "whep",
    "session",
    "api",
    "cameras",
    "healthz",
    "?token=",
    "&",
    "%",
    "%ff",
    "=",
    ":",
    "[::1]",
    "localhost",
    "*",
    "\"",
    "W/\"a\"",
    ",",
    KEY,
    TOKEN,
    "application/sdp",
    "Bearer ",
    "//",
    "@",
];
const HEADERS: [&str; 9] = [
    "host",
    "origin",
    "authorization",
    "cookie",
    "if-match",
    "content-type",
    "accept",
    "sec-fetch-site",
    "content-encoding",
];

#[test]
fn a_new_session_names_the_ice_servers_of_the_configuration() {
    let ice = crate::config::Ice {
        stun: vec![
            "stun:a.example".to_owned(),
            "stuns:b.example:5349".to_owned(),
        ],
        ..crate::config::Ice::default()
    };
    let policy = open_policy().with_ice_servers(&ice);
    let request = request("POST", "/whep/door", &[]);
    let outcome = Outcome::Opened {
        session: SessionKey(1),
        etag: ETag("g1".into()),
        answer: "v=0".into(),
    };
    let response = respond(&policy, &request, outcome);
    let links: Vec<_> = response.headers().get_all("link").iter().collect();
    let told = ["a.example", "b.example:5349"];
    assert_eq!(links[0], &format!("<stun:{}>; rel=\"ice-server\"", told[0]));
    assert_eq!(
        links[1],
        &format!("<stuns:{}>; rel=\"ice-server\"", told[1])
    );
    assert_eq!(links.len(), 2);
}
