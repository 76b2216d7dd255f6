//! What the API tells of cameras: a real gateway answers.

use std::time::{Duration, Instant};

use pinhole::config::{self, Access, Config, Limits};
use pinhole::gateway::{Completed, Gateway};
use pinhole::media::{Abilities, AccessUnit, CameraId, Codec, DownReason, SourceEvent, Stages};
use pinhole::session::{install_crypto, new_certificate};
use serde_json::{Value, json};

use crate::World;
use crate::client::text;

const DOOR: CameraId = CameraId(0);

/// A gateway with the camera `door`, which nobody has opened yet.
fn gateway(on_demand: bool) -> Gateway {
    install_crypto();
    let picture = config::Pattern {
        width: 640,
        height: 360,
        fps: 30,
        bitrate: 1_000_000,
    };
    let mut door = config::Camera::new("door".to_owned(), config::Source::Pattern(picture));
    door.on_demand = on_demand;
    let config = Config {
        cameras: vec![door],
        ..Config::default()
    };
    Gateway::new(config, new_certificate().unwrap(), [7; 32], Instant::now())
}

/// Asks over HTTP.
async fn ask(gateway: &mut Gateway, uri: &str) -> (u16, Value) {
    let mut world = World::new(Limits::default(), Access::default()).await;
    let mut client = world.client().await;
    client.send(text("GET", uri, &[], "")).await;
    let call = world.next_call().await;
    let outcome = gateway.handle_command(Instant::now(), call.command, &[]);
    call.reply.send(outcome).unwrap();
    let reply = client.receive(false).await;
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

#[tokio::test]
async fn a_camera_tells_how_long_its_pictures_take_in_each_stage() {
    let mut gateway = gateway(false);
    let (_, cameras) = ask(&mut gateway, "/api/cameras").await;
    assert_eq!(cameras[0]["stages"], json!({}), "no picture yet");
    let before = Stages {
        encode: Duration::from_millis(8),
        ..Stages::default()
    };
    gateway.handle_timing(DOOR, before, Duration::from_micros(30));
    let received = Instant::now();
    let completed = Completed {
        camera: DOOR,
        received,
    };
    gateway.handle_completed(received + Duration::from_millis(3), completed);
    let (status, cameras) = ask(&mut gateway, "/api/cameras").await;
    assert_eq!(status, 200);
    let told = json!({
        "encode": { "count": 1, "p50_ms": 8.0, "p99_ms": 8.0, "max_ms": 8.0 },
        "packetize": { "count": 1, "p50_ms": 0.03, "p99_ms": 0.03, "max_ms": 0.03 },
        "sent": { "count": 1, "p50_ms": 3.0, "p99_ms": 3.0, "max_ms": 3.0 },
    });
    assert_eq!(cameras[0]["stages"], told);
}

/// A key frame with its parameter sets, as the hub wants it.
fn key_frame() -> SourceEvent {
    let sps = [
        0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5,
    ];
    let pps = [0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
    let idr = [0, 0, 0, 1, 0x65, 0x88, 0x84];
    SourceEvent::Unit(AccessUnit {
        codec: Codec::H264,
        data: [&sps[..], &pps, &idr].concat().into(),
        is_key_frame: true,
        ticks: 0,
        received: Instant::now(),
        after_loss: false,
        stages: Stages::default(),
    })
}

/// What `/healthz?strict` says after each of these.
async fn strict_after(on_demand: bool, events: Vec<SourceEvent>) -> Vec<(u16, Value)> {
    let mut gateway = gateway(on_demand);
    let mut said = vec![ask(&mut gateway, "/healthz?strict").await];
    for event in events {
        gateway.handle_source(Instant::now(), DOOR, event);
        said.push(ask(&mut gateway, "/healthz?strict").await);
    }
    said.into_iter()
        .map(|(status, health)| (status, health["down"][0]["state"].clone()))
        .collect()
}

fn down() -> SourceEvent {
    SourceEvent::Down {
        reason: DownReason::Unreachable,
        detail: String::new(),
        retry_at: None,
    }
}

#[tokio::test]
async fn a_camera_that_never_played_is_not_up() {
    let playing = || SourceEvent::Playing(Abilities::default());
    let said = strict_after(
        false,
        vec![
            SourceEvent::Opening,
            playing(),
            key_frame(),
            down(),
            SourceEvent::Opening,
            playing(),
            key_frame(),
        ],
    );
    let bad = |state: &str| (503, json!(state));
    let good = (200, Value::Null);
    let expected = [
        bad("idle"),
        bad("opening"),
        bad("waiting"),
        good.clone(),
        bad("down"),
        bad("down"),
        bad("waiting"),
        good,
    ];
    assert_eq!(said.await, expected);
}

#[tokio::test]
async fn a_camera_that_sleeps_until_someone_watches_is_in_order() {
    let playing = || SourceEvent::Playing(Abilities::default());
    let said = strict_after(
        true,
        vec![
            SourceEvent::Opening,
            playing(),
            key_frame(),
            SourceEvent::Closed,
            SourceEvent::Opening,
            down(),
            SourceEvent::Closed,
            SourceEvent::Opening,
        ],
    );
    let statuses: Vec<u16> = said.await.iter().map(|said| said.0).collect();
    // Idle; then never yet seen to play; then as good as it was; then not; idle; not yet again.
    let expected = [200, 503, 503, 200, 200, 200, 503, 200, 503];
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn strict_health_names_the_camera_and_why() {
    let mut gateway = gateway(false);
    gateway.handle_source(Instant::now(), DOOR, down());
    let (status, health) = ask(&mut gateway, "/healthz?strict").await;
    assert_eq!(status, 503);
    let door = json!({ "name": "door", "state": "down", "reason": "unreachable" });
    let expected = json!({ "cameras": 1, "cameras_down": 1, "viewers": 0, "down": [door] });
    assert_eq!(health, expected);
    assert_eq!(ask(&mut gateway, "/healthz").await.0, 200);
}
