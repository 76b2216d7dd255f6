//! Every route, verb and status of the surface, told as requests and responses.

use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN,
    SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::status::Health;
use super::*;
use crate::config::{Access, Secret, Server};

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
    match route(policy, request, body.as_bytes()) {
        Action::Respond(response) => response,
        other => panic!("{request:?} was let through: {other:?}"),
    }
}

fn asked(policy: &Policy, request: &Request, body: &str) -> Command {
    match route(policy, request, body.as_bytes()) {
        Action::Ask(command) => command,
        other => panic!("{request:?} led to {other:?}"),
    }
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
fn health_is_strict_only_when_asked() {
    let policy = open_policy();
    let code = |uri: &str, cameras_down: usize| {
        let outcome = Outcome::Health(Health {
            cameras: 2,
            cameras_down,
            viewers: 0,
        });
        respond(&policy, &request("GET", uri, &[]), outcome)
            .status()
            .as_u16()
    };
    assert_eq!(code("/healthz", 1), 200);
    assert_eq!(code("/healthz?strict", 1), 503);
    assert_eq!(code("/healthz?strict=1", 0), 200);
}

#[test]
fn a_preflight_needs_no_token_and_tells_what_is_allowed() {
    let policy = token_policy();
    let origin = ("origin", "https://panel.example");
    for (uri, name, value) in [
        ("/whep/door", "accept-post", "application/sdp"),
        (
            &format!("/whep/session/{KEY}"),
            "accept-patch",
            "application/trickle-ice-sdpfrag",
        ),
        ("/api/cameras", "allow", "GET, HEAD, OPTIONS"),
    ] {
        let response = answered(&policy, &request("OPTIONS", uri, &[origin]), "");
        assert_eq!(response.status(), 204);
        assert_eq!(header(&response, name), value);
        assert_eq!(
            header(&response, "access-control-allow-headers"),
            "Authorization, Content-Type, If-Match"
        );
        assert_eq!(header(&response, ACCESS_CONTROL_ALLOW_ORIGIN), origin.1);
        assert!(
            header(&response, "access-control-expose-headers").starts_with("Location, ETag, Link")
        );
        assert_eq!(header(&response, VARY), "Origin");
    }
    let foreign = ("origin", "https://evil.example");
    let response = answered(&policy, &request("OPTIONS", "/whep/door", &[foreign]), "");
    assert_eq!(header(&response, ACCESS_CONTROL_ALLOW_ORIGIN), "");
}

#[test]
fn without_the_token_there_is_nothing_but_health() {
    let policy = token_policy();
    for (method, uri) in [
        ("POST", "/whep/door"),
        ("HEAD", "/whep/door"),
        ("GET", "/api/cameras"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/no-such-path"),
        ("DELETE", &format!("/whep/session/{KEY}")),
    ] {
        let response = answered(&policy, &request(method, uri, &[SDP]), "v=0");
        assert_eq!(response.status(), 401, "{method} {uri}");
        assert_eq!(
            header(&response, WWW_AUTHENTICATE),
            "Bearer realm=\"pinhole\""
        );
        problem(&response);
    }
    asked(&policy, &request("GET", "/healthz", &[]), "");
    let bearer = format!("bearer  {TOKEN}");
    asked(
        &policy,
        &request("GET", "/metrics", &[("authorization", &bearer)]),
        "",
    );
    let uri = format!("/whep/door?token={TOKEN}");
    asked(&policy, &request("POST", &uri, &[SDP]), "v=0");
}

#[test]
fn a_wrong_token_is_told_so_and_never_repeated() {
    let policy = token_policy();
    for request in [
        request(
            "GET",
            "/metrics",
            &[("authorization", "Bearer wrong-secret")],
        ),
        request("GET", "/metrics?token=wrong-secret", &[]),
        request("GET", "/?token=", &[]),
    ] {
        let response = answered(&policy, &request, "");
        assert_eq!(response.status(), 401);
        assert!(header(&response, WWW_AUTHENTICATE).contains("invalid_token"));
        assert!(!format!("{response:?} {request:?}").contains("wrong-secret"));
    }
    for headers in [
        [("authorization", "Basic Zm9v")],
        [("cookie", "pinhole_8080=0000")],
        [("cookie", &format!("pinhole_8080={TOKEN}"))],
    ] {
        assert_eq!(status(&policy, "GET", "/metrics", &headers), 401);
    }
}

#[test]
fn a_link_with_the_token_becomes_a_cookie() {
    let policy = token_policy();
    let uri = format!("/?camera=a%26b&token={TOKEN}&x=1");
    let response = answered(&policy, &request("GET", &uri, &[]), "");
    assert_eq!(response.status(), 303);
    assert_eq!(header(&response, LOCATION), "/?camera=a%26b&x=1");
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(header(&response, "referrer-policy"), "no-referrer");
    let cookie = header(&response, SET_COOKIE);
    assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Strict; Max-Age="));
    assert!(!cookie.contains(TOKEN));
    let pair = format!("other=1; {}", cookie.split(';').next().unwrap());
    let request = request("GET", "/api/cameras", &[(COOKIE.as_str(), &pair)]);
    assert_eq!(asked(&policy, &request, ""), Command::Cameras);
    // The same token after a restart makes the same cookie; another token does not.
    asked(&token_policy(), &request, "");
    let other = Access {
        token: Some(Secret::new("another-token-of-length")),
        anonymous: false,
    };
    assert_eq!(answered(&self::policy(other), &request, "").status(), 401);
}

#[test]
fn a_person_without_the_token_gets_a_form_for_it() {
    let policy = token_policy();
    let html = (ACCEPT.as_str(), "text/html,application/xhtml+xml");
    let response = answered(&policy, &request("GET", "/", &[html]), "");
    assert_eq!(response.status(), 401);
    assert!(header(&response, "content-type").starts_with("text/html"));
    assert!(String::from_utf8_lossy(response.body()).contains("name=\"token\""));
    problem(&answered(
        &policy,
        &request("GET", "/api/cameras", &[html]),
        "",
    ));
}

#[test]
fn anonymous_serves_everybody() {
    let policy = policy(Access {
        token: Some(Secret::new(TOKEN)),
        anonymous: true,
    });
    asked(&policy, &request("GET", "/api/cameras", &[]), "");
    let wrong = [(AUTHORIZATION.as_str(), "Bearer wrong")];
    asked(&policy, &request("GET", "/api/cameras", &wrong), "");
}

#[test]
fn only_own_hosts_are_served() {
    let policy = open_policy();
    for host in [
        "127.0.0.1",
        "192.0.2.1:8080",
        "[::1]:8080",
        "[2001:db8::1]",
        "localhost:1",
        "LOCALHOST.",
        "gate",
        "gate.local:8080",
        "gate.lan",
        "cams.example",
    ] {
        asked(&policy, &request("GET", "/healthz", &[("host", host)]), "");
    }
    for host in [
        "evil.example",
        "gate.lan.evil.example",
        "127.0.0.1.evil.example",
        "gate.local@evil",
        "[::1",
        "0x7f.1",
    ] {
        let response = answered(
            &policy,
            &request("OPTIONS", "/whep/a", &[("host", host)]),
            "",
        );
        assert!([400, 421].contains(&response.status().as_u16()), "{host}");
    }
    assert_eq!(
        status(&policy, "GET", "/healthz", &[("host", "evil.example")]),
        421
    );
    assert_eq!(status(&policy, "GET", "/healthz", &[("host", "")]), 400);
    // A host in the request's target counts as well.
    assert_eq!(
        status(&policy, "GET", "http://evil.example/healthz", &[]),
        421
    );
    let mut request = request("GET", "/healthz", &[]);
    request
        .headers
        .append(HOST, HeaderValue::from_static("localhost"));
    assert_eq!(answered(&policy, &request, "").status(), 400);
    request.headers.remove(HOST);
    assert_eq!(answered(&policy, &request, "").status(), 400);
}

#[test]
fn what_a_proxy_claims_is_not_believed() {
    let policy = open_policy();
    let headers = [
        ("host", "evil.example"),
        ("x-forwarded-host", "localhost"),
        ("forwarded", "host=localhost;for=127.0.0.1"),
    ];
    assert_eq!(status(&policy, "GET", "/healthz", &headers), 421);
    let request = request(
        "POST",
        "/whep/a",
        &[SDP, ("x-forwarded-for", "203.0.113.1")],
    );
    let Command::Open { peer, .. } = asked(&policy, &request, "v=0") else {
        panic!("a POST became another command");
    };
    assert_eq!(peer, IpAddr::from([192, 0, 2, 9]));
}

#[test]
fn another_sites_page_is_refused_unless_allowed() {
    let policy = open_policy();
    let post = |headers: &[(&str, &str)]| {
        let mut all = vec![SDP];
        all.extend_from_slice(headers);
        match route(&policy, &request("POST", "/whep/door", &all), b"v=0") {
            Action::Ask(_) => 0,
            Action::Respond(response) => response.status().as_u16(),
            Action::File(path) => panic!("{path}"),
        }
    };
    assert_eq!(post(&[(ORIGIN.as_str(), "http://127.0.0.1:8080")]), 0);
    assert_eq!(post(&[("origin", "https://panel.example")]), 0);
    assert_eq!(
        post(&[("host", "cams.example"), ("origin", "https://cams.example")]),
        0
    );
    assert_eq!(post(&[("host", "gate:80"), ("origin", "http://GATE")]), 0);
    let vouched = ("sec-fetch-site", "same-origin");
    assert_eq!(post(&[("origin", "https://cams.example"), vouched]), 0);
    for foreign in [
        "https://evil.example",
        "http://127.0.0.1:8081",
        "http://panel.example",
        "https://panel.example.evil.example",
        "null",
        "",
        "ftp://127.0.0.1:8080",
    ] {
        assert_eq!(post(&[("origin", foreign)]), 403, "{foreign}");
    }
    assert_eq!(
        post(&[
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "cross-site")
        ]),
        403
    );
}

#[test]
fn an_allowed_page_may_read_refusals_too() {
    let policy = token_policy();
    let origin = ("origin", "https://panel.example");
    let response = answered(&policy, &request("GET", "/api/cameras", &[origin]), "");
    assert_eq!(response.status(), 401);
    assert_eq!(header(&response, ACCESS_CONTROL_ALLOW_ORIGIN), origin.1);
}

#[test]
fn nothing_about_a_body_is_asked_before_the_head_is_in_order() {
    let policy = token_policy();
    let refused = admit(&policy, &request("POST", "/whep/door", &[SDP]));
    assert!(!refused.needs_body());
    let bearer = format!("Bearer {TOKEN}");
    let headers = [SDP, ("authorization", bearer.as_str())];
    assert!(admit(&policy, &request("POST", "/whep/door", &headers)).needs_body());
}
