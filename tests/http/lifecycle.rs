//! Connections and the process: keep-alive, clients that leave, shutdown.

use std::time::Duration;

use pinhole::config::{Access, Limits};
use pinhole::net::http::DRAIN_TIME;
use pinhole::whep::{Command, Outcome};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::text;
use crate::{PATIENCE, World, skip};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::open().await;
    let mut client = world.client().await;
    let both = text("GET", "/metrics", &[], "") + &text("GET", "/api/cameras", &[], "");
    client.send(both).await;
    assert!(client.receive(false).await.body.contains("EOF"));
    assert_eq!(client.receive(false).await.body, "[]");
}

#[tokio::test]
async fn a_client_that_wants_to_close_is_closed() {
    let world = World::open().await;
    let mut client = world.client().await;
    let reply = client
        .request("GET", "/healthz", &["Connection: close"], "")
        .await;
    assert_eq!(reply.status, 200);
    assert!(client.is_closed().await);
    let mut old = world.client().await;
    old.send("GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(old.receive(false).await.status, 200);
    assert!(old.is_closed().await);
}

#[tokio::test]
async fn the_loop_learns_that_a_client_left_before_its_answer() {
    let mut world = World::new(Limits::default(), Access::default()).await;
    let mut client = world.client().await;
    let sdp = ["Content-Type: application/sdp"];
    client.send(text("POST", "/whep/door", &sdp, "v=0")).await;
    let mut call = world.next_call().await;
    assert!(matches!(call.command, Command::Open { .. }));
    drop(client);
    timeout(PATIENCE, call.reply.closed()).await.unwrap();
    world.until(|counters| counters.connections_open == 0).await;
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_takes_nothing_new() {
    let mut world = World::new(Limits::default(), Access::default()).await;
    let mut busy = world.client().await;
    busy.send(text("GET", "/api/cameras", &[], "")).await;
    let call = world.next_call().await;
    let mut idle = world.client().await;
    world.until(|counters| counters.connections_open == 2).await;
    world.stop();
    assert!(
        idle.is_closed().await,
        "an idle connection is not waited for"
    );
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    call.reply.send(Outcome::Cameras(Vec::new())).unwrap();
    let reply = busy.receive(false).await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    assert!(busy.is_closed().await);
    timeout(PATIENCE, &mut world.serving)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(world.counters().connections_open, 0);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let mut world = World::new(Limits::default(), Access::default()).await;
    let mut slow = world.client().await;
    slow.send("POST /whep/door HTTP/1.1\r\nHost: localhost\r\n")
        .await;
    slow.send("Content-Type: application/sdp\r\nContent-Length: 9\r\n\r\nv=0")
        .await;
    world.until(|counters| counters.connections_open == 1).await;
    world.stop();
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    skip(DRAIN_TIME + Duration::from_secs(1)).await;
    timeout(PATIENCE, &mut world.serving)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(world.counters().connections_open, 0);
}
