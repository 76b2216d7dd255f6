//! Each bound is reached: what is lost, what is counted, and that the next request is served.

use std::time::Duration;

use pinhole::config::{Access, Limits};
use pinhole::net::http::{
    BODY_TIME, CALLS, CONNECTION_AGE, DRAIN_TIME, HEAD_BYTES, HEAD_TIME, HEADERS, REPLY_TIME,
};
use pinhole::whep::Outcome;

use tokio::time::timeout;

use crate::client::text;
use crate::{World, skip, token};

const SDP: &str = "Content-Type: application/sdp";

async fn limited(limits: Limits) -> World {
    let mut world = World::new(limits, Access::default()).await;
    world.answer_all();
    world
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
    let limits = Limits {
        body: 1000,
        ..Limits::default()
    };
    let world = limited(limits).await;
    let mut client = world.client().await;
    let fits = client
        .request("POST", "/whep/door", &[SDP], &"v".repeat(1000))
        .await;
    assert_eq!(fits.status, 201);
    let large = client
        .request("POST", "/whep/door", &[SDP], &"v".repeat(1001))
        .await;
    assert_eq!(large.status, 413);
    assert!(large.body.contains("limits.body"));
    // A body that is read to its end leaves the connection usable.
    let chunked = [SDP, "Transfer-Encoding: chunked"];
    client.send(text("POST", "/whep/door", &chunked, "")).await;
    client
        .send(format!("400\r\n{}\r\n0\r\n\r\n", "v".repeat(1024)))
        .await;
    assert_eq!(client.receive(false).await.status, 413);
    assert_eq!(client.get("/healthz").await.status, 200);
    // One that is announced as huge is not waited for.
    let huge = [SDP, "Content-Length: 1000000000"];
    client.send(text("POST", "/whep/door", &huge, "")).await;
    assert_eq!(client.receive(false).await.status, 413);
    assert!(client.is_closed().await);
    assert_eq!(world.counters().body_too_large, 3);
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let world = World::open().await;
    let mut client = world.client().await;
    let chunked = [SDP, "Transfer-Encoding: chunked"];
    client.send(text("POST", "/whep/door", &chunked, "")).await;
    let chunk = format!("4000\r\n{}\r\n", "v".repeat(0x4000));
    for _ in 0..64 {
        client.try_send(&chunk).await;
    }
    world.until(|counters| counters.body_too_large == 1).await;
}

#[tokio::test]
async fn a_refused_request_is_told_before_it_sends_its_body() {
    let mut world = World::new(Limits::default(), token()).await;
    world.answer_all();
    let expect = [SDP, "Expect: 100-continue", "Content-Length: 3"];
    let mut stranger = world.client().await;
    stranger.send(text("POST", "/whep/door", &expect, "")).await;
    assert_eq!(stranger.receive(false).await.status, 401);

    let bearer = format!("Authorization: Bearer {}", crate::TOKEN);
    let expect = [expect[0], expect[1], expect[2], &bearer];
    let mut viewer = world.client().await;
    viewer.send(text("POST", "/whep/door", &expect, "")).await;
    assert_eq!(viewer.receive(true).await.status, 100);
    viewer.send("v=0").await;
    assert_eq!(viewer.receive(false).await.status, 201);
}

#[tokio::test]
async fn a_head_over_its_bounds_is_refused() {
    let world = World::open().await;
    let many = "X: y\r\n".repeat(HEADERS + 1);
    let long = format!("X: {}\r\n", "y".repeat(HEAD_BYTES));
    for headers in [many, long] {
        let mut client = world.client().await;
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        client.try_send(head).await;
        assert_eq!(client.receive(false).await.status, 431);
    }
    world.until(|counters| counters.head_too_large == 2).await;
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let world = World::open().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut client = world.client().await;
        client.send(garbage).await;
        assert_eq!(client.receive(false).await.status, 400, "{garbage:?}");
    }
    world.until(|counters| counters.unreadable == 4).await;
    assert_eq!(world.client().await.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_cut_off() {
    let world = World::open().await;
    let mut client = world.client().await;
    client.send("GET /healthz HTTP/1.1\r\nHost: loc").await;
    world.until(|counters| counters.connections_open == 1).await;
    tokio::task::yield_now().await;
    skip(HEAD_TIME / 2).await;
    client.send("al").await;
    skip(HEAD_TIME / 2 + Duration::from_secs(1)).await;
    assert!(client.is_closed().await);
    assert_eq!(world.counters().head_too_slow, 1);
    assert_eq!(world.counters().connections_open, 0);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while_then_closed() {
    let world = World::open().await;
    let mut client = world.client().await;
    assert_eq!(client.get("/healthz").await.status, 200);
    skip(HEAD_TIME - Duration::from_secs(1)).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    skip(HEAD_TIME + Duration::from_secs(1)).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_that_dribbles_in_is_cut_off() {
    let world = World::open().await;
    let mut client = world.client().await;
    let headers = [SDP, "Content-Length: 100", "Expect: 100-continue"];
    client.send(text("POST", "/whep/door", &headers, "")).await;
    assert_eq!(client.receive(true).await.status, 100);
    client.send("v=0").await;
    skip(BODY_TIME + Duration::from_secs(1)).await;
    assert_eq!(client.receive(false).await.status, 408);
    assert_eq!(world.counters().body_too_slow, 1);
}

#[tokio::test]
async fn requests_over_the_rate_wait_their_turn() {
    let limits = Limits {
        requests: 5,
        ..Limits::default()
    };
    let world = limited(limits).await;
    let mut client = world.client().await;
    // No time passes during the burst: on a slow machine the bucket would fill as fast as it is
    // emptied. (A paused clock jumps where nobody has anything to do: so somebody has.)
    tokio::time::pause();
    let awake = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let mut refused = None;
    for count in 0..100 {
        let reply = client.get("/healthz").await;
        if reply.status == 429 {
            refused = Some((count, reply));
            break;
        }
    }
    awake.abort();
    tokio::time::resume();
    let (passed, reply) = refused.expect("the rate was never reached");
    assert!(passed >= 10, "{passed} of a burst of 10 passed");
    assert_eq!(reply.header("retry-after"), "1");
    assert!(reply.body.contains("limits.requests"));
    // Another connection of the same address shares the bucket.
    skip(Duration::from_secs(1)).await;
    let mut other = world.client().await;
    assert_eq!(other.get("/healthz").await.status, 200);
    assert!(world.counters().too_many_requests >= 1);
}

#[tokio::test]
async fn one_address_holds_half_of_the_connections_and_no_more() {
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let world = limited(limits).await;
    let mut first = world.client().await;
    let mut second = world.client().await;
    assert_eq!(first.get("/healthz").await.status, 200);
    assert_eq!(second.get("/healthz").await.status, 200);
    let mut third = world.client().await;
    let refused = third.receive(false).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert!(third.is_closed().await);
    assert_eq!(world.counters().connections_refused, 1);
    drop(first);
    world.until(|counters| counters.connections_open == 1).await;
    assert_eq!(world.client().await.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_loop_that_does_not_answer_costs_503_and_not_a_hung_client() {
    let mut world = World::new(Limits::default(), Access::default()).await;
    let mut client = world.client().await;
    client.send(text("GET", "/api/cameras", &[], "")).await;
    let stuck = world.next_call().await;
    skip(REPLY_TIME + Duration::from_secs(1)).await;
    let reply = client.receive(false).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert!(
        stuck.reply.is_closed(),
        "the loop can tell that nobody waits"
    );

    client.send(text("GET", "/api/cameras", &[], "")).await;
    drop(world.next_call().await);
    assert_eq!(client.receive(false).await.status, 503);
    assert_eq!(world.counters().replies_lost, 2);

    client.send(text("GET", "/api/cameras", &[], "")).await;
    let call = world.next_call().await;
    call.reply.send(Outcome::Cameras(Vec::new())).unwrap();
    assert_eq!(client.receive(false).await.status, 200);
}

#[tokio::test]
async fn a_full_channel_to_the_loop_is_said_at_once() {
    let limits = Limits {
        connections: 4 * CALLS,
        requests: 10_000,
        ..Limits::default()
    };
    let world = World::new(limits, Access::default()).await;
    let mut waiting = Vec::new();
    for _ in 0..CALLS {
        let mut client = world.client().await;
        client.send(text("GET", "/api/cameras", &[], "")).await;
        waiting.push(client);
    }
    let calls = world.calls.as_ref().unwrap();
    while calls.len() < CALLS {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.client().await.get("/api/cameras").await.status, 503);
    assert_eq!(world.counters().calls_refused, 1);
    // What needs no loop is still served.
    assert_eq!(world.client().await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_connection_ends_at_its_age_however_busy_it_is() {
    let world = World::open().await;
    let mut client = world.client().await;
    let step = HEAD_TIME / 2;
    let mut age = Duration::ZERO;
    while age + step < CONNECTION_AGE {
        assert_eq!(client.get("/healthz").await.status, 200, "at {age:?}");
        skip(step).await;
        age += step;
    }
    assert_eq!(world.counters().connections_aged, 0);
    assert_eq!(client.get("/healthz").await.status, 200);
    skip(step).await;
    assert!(client.is_closed().await);
    assert_eq!(world.counters().connections_aged, 1);
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_cut_in_the_end() {
    let world = World::open().await;
    let mut client = world.client().await;
    let many = text("GET", "/", &[], "").repeat(1000);
    while timeout(Duration::from_millis(200), client.try_send(&many))
        .await
        .is_ok()
    {}
    assert_eq!(world.counters().connections_open, 1);
    skip(CONNECTION_AGE).await;
    world.until(|counters| counters.connections_aged == 1).await;
    skip(DRAIN_TIME + Duration::from_secs(1)).await;
    world.until(|counters| counters.connections_open == 0).await;
}
