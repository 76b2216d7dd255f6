//! What a client sees when all goes well, and when it is refused.

use crate::{TOKEN, World, token};
use pinhole::config::Limits;

const SDP: &str = "Content-Type: application/sdp";
const SDPFRAG: &str = "Content-Type: application/trickle-ice-sdpfrag";

#[tokio::test]
async fn a_viewer_opens_trickles_restarts_and_leaves_over_one_connection() {
    let world = World::open().await;
    let mut client = world.client().await;
    let opened = client
        .request("POST", "/whep/door", &[SDP], "v=0\r\n")
        .await;
    assert_eq!(opened.status, 201);
    assert_eq!(opened.body, "v=0\r\n");
    assert_eq!(opened.header("content-type"), "application/sdp");
    assert_eq!(
        opened.header("accept-patch"),
        "application/trickle-ice-sdpfrag"
    );
    let session = opened.header("location").to_owned();
    assert!(session.starts_with("/whep/session/"));
    let etag = opened.header("etag").to_owned();
    let matching = format!("If-Match: {etag}");

    let fragment = "a=ice-ufrag:abcd\r\na=end-of-candidates\r\n";
    let trickled = client
        .request("PATCH", &session, &[SDPFRAG, &matching], fragment)
        .await;
    assert_eq!((trickled.status, trickled.header("etag")), (204, ""));

    let any = "If-Match: *";
    let fragment = "a=ice-ufrag:news\r\n";
    let restarted = client
        .request("PATCH", &session, &[SDPFRAG, any], fragment)
        .await;
    assert_eq!(
        (restarted.status, restarted.header("etag")),
        (200, "\"g2\"")
    );
    assert!(restarted.body.starts_with("a=ice-ufrag:"));

    assert_eq!(
        client.request("DELETE", &session, &[], "").await.status,
        200
    );
    assert_eq!(world.counters().connections, 1);
    assert_eq!(world.counters().responses, [0, 4, 0, 0, 0]);
}

#[tokio::test]
async fn every_path_answers_and_head_leaves_the_connection_in_step() {
    let world = World::open().await;
    let mut client = world.client().await;
    let session = "/whep/session/0000000000000000000000000000dead";
    for (method, uri, headers, body, status) in [
        ("HEAD", "/whep/door", &[][..], "", 200),
        ("HEAD", "/whep/attic", &[], "", 404),
        ("POST", "/whep/attic", &[SDP], "v=0", 404),
        ("POST", "/whep/door", &[], "v=0", 415),
        ("GET", "/whep/door", &[], "", 405),
        ("OPTIONS", "/whep/door", &[], "", 200),
        ("PATCH", session, &[SDPFRAG], "a=mid:0\r\n", 428),
        (
            "PATCH",
            session,
            &["Content-Type: application/json"],
            "{}",
            415,
        ),
        (
            "PATCH",
            session,
            &[SDPFRAG, "If-Match: \"x\""],
            "a=mid:0\r\n",
            404,
        ),
        ("DELETE", session, &[], "", 404),
        ("GET", "/api/cameras", &[], "", 200),
        ("HEAD", "/api/cameras", &[], "", 200),
        ("GET", "/api/sessions", &[], "", 200),
        ("GET", "/healthz?strict", &[], "", 200),
        ("GET", "/metrics", &[], "", 200),
        ("GET", "/nothing.js", &[], "", 404),
        ("GET", "/", &["Host: evil.example"], "", 421),
        ("OPTIONS", "*", &[], "", 200),
        ("GET", "*", &[], "", 400),
        ("GET", "127.0.0.1:8080", &[], "", 400),
    ] {
        let reply = client.request(method, uri, headers, body).await;
        assert_eq!(reply.status, status, "{method} {uri}: {reply:?}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        if status >= 400 {
            assert_eq!(reply.header("content-type"), "application/problem+json");
        }
    }
    assert_eq!(world.counters().connections, 1);
}

#[tokio::test]
async fn the_page_comes_with_its_files_and_is_not_sent_twice() {
    let world = World::open().await;
    let mut client = world.client().await;
    let page = client.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-cache");
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    assert!(page.body.contains("<html"));
    let known = format!("If-None-Match: W/\"other\", {}", page.header("etag"));
    let again = client.request("GET", "/", &[&known], "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    for file in [
        "/app.js",
        "/style.css",
        "/whep.js",
        "/player.js",
        "/favicon.svg",
        "/api.js",
        "/tile.js",
        "/words.js",
    ] {
        let whole = client.get(file).await;
        let head = client.request("HEAD", file, &[], "").await;
        assert_eq!((whole.status, head.status), (200, 200), "{file}");
        assert_eq!(
            whole.header("content-length"),
            head.header("content-length")
        );
    }
}

#[tokio::test]
async fn the_printed_link_opens_the_page_and_the_cookie_keeps_it_open() {
    let mut world = World::new(Limits::default(), token()).await;
    world.answer_all();
    let mut client = world.client().await;
    assert_eq!(client.get("/").await.status, 401);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.get("/?token=wrong").await.status, 401);
    let entered = client.get(&format!("/?token={TOKEN}")).await;
    assert_eq!((entered.status, entered.header("location")), (303, "/"));
    let cookie = entered.header("set-cookie").split(';').next().unwrap();
    assert!(!cookie.contains(TOKEN));
    let cookie = format!("Cookie: {cookie}");
    let api = client.request("GET", "/api/cameras", &[&cookie], "").await;
    assert_eq!((api.status, api.body.as_str()), (200, "[]"));
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let opened = client
        .request("POST", "/whep/door", &[SDP, &bearer], "v=0")
        .await;
    assert_eq!(opened.status, 201);
    assert_eq!(world.counters().unauthorized, 2);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_and_another_may_not() {
    let world = World::open().await;
    let mut client = world.client().await;
    let allowed = "Origin: https://panel.example";
    let preflight = [allowed, "Access-Control-Request-Method: POST"];
    let reply = client
        .request("OPTIONS", "/whep/door", &preflight, "")
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://panel.example"
    );
    assert_eq!(reply.header("accept-post"), "application/sdp");
    let reply = client
        .request("POST", "/whep/door", &[SDP, allowed], "v=0")
        .await;
    assert_eq!(reply.status, 201);
    assert!(
        reply
            .header("access-control-expose-headers")
            .contains("Location")
    );
    let foreign = "Origin: https://evil.example";
    let reply = client
        .request("POST", "/whep/door", &[SDP, foreign], "v=0")
        .await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("access-control-allow-origin"), "");
    assert_eq!(world.counters().foreign, 1);
}
