//! Who may ask: hosts, origins, the token in all its forms.

use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE,
    VARY, WWW_AUTHENTICATE,
};

use super::*;

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
        assert_eq!(response.status(), 200);
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
    // A link on another site's page leads here too, and on to the Location with this cookie.
    assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age="));
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
fn a_token_of_base64_may_be_pasted_as_it_is() {
    let policy = policy(Access {
        token: Some(Secret::new("abc+def/ghijklmnop==")),
        anonymous: false,
    });
    for text in ["abc+def/ghijklmnop==", "abc%2Bdef%2Fghijklmnop%3D%3D"] {
        let uri = format!("/?token={text}");
        let response = answered(&policy, &request("GET", &uri, &[]), "");
        assert_eq!(response.status(), 303, "{text}");
    }
    assert_eq!(
        status(&policy, "GET", "/?token=abc-def/ghijklmnop==", &[]),
        401
    );
}

#[test]
fn a_person_without_the_token_gets_a_form_for_it() {
    let policy = token_policy();
    let html = (ACCEPT.as_str(), "text/html,application/xhtml+xml");
    let response = answered(&policy, &request("GET", "/", &[html]), "");
    assert_eq!(response.status(), 401);
    assert!(header(&response, "content-type").starts_with("text/html"));
    let told = |response: &Response| String::from_utf8_lossy(response.body()).into_owned();
    assert!(told(&response).contains("name=\"token\""));
    assert!(told(&response).contains("wants a token"));
    let wrong = answered(
        &policy,
        &request("GET", "/?token=guess-of-mine", &[html]),
        "",
    );
    assert_eq!(wrong.status(), 401);
    assert!(told(&wrong).contains("That token was not accepted"));
    assert!(told(&wrong).contains("name=\"token\""), "to try again");
    assert!(!told(&wrong).contains("guess-of-mine"));
    // A cookie of another time was typed by nobody.
    let stale = ("cookie", "pinhole_8080=0123");
    let stale = answered(&policy, &request("GET", "/", &[html, stale]), "");
    assert!(told(&stale).contains("wants a token"));
    problem(&answered(
        &policy,
        &request("GET", "/api/cameras", &[html]),
        "",
    ));
}

#[test]
fn the_form_may_look_like_the_page_but_says_nothing_more() {
    let policy = token_policy();
    for uri in ["/style.css", "/favicon.svg"] {
        let action = route(&policy, &request("GET", uri, &[]), b"");
        assert!(matches!(action, Action::File(path) if path == uri));
        assert_eq!(status(&policy, "POST", uri, &[]), 405, "{uri}");
    }
    for uri in ["/app.js", "/style.css/", "//style.css", "/api/cameras"] {
        assert_eq!(status(&policy, "GET", uri, &[]), 401, "{uri}");
    }
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
        "gate.home",
        "gate.internal",
        "gate.home.arpa",
        "gate.localdomain",
        "gate.fritz.box:8080",
        "cams.example",
    ] {
        asked(&policy, &request("GET", "/healthz", &[("host", host)]), "");
    }
    for host in [
        "evil.example",
        "evil.lan",
        "gate.example",
        "gate.box",
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
