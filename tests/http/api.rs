//! What the API tells of cameras: a real gateway answers.

use std::time::{Duration, Instant};

use pinhole::config::{self, Access, Config, Limits};
use pinhole::gateway::{Completed, Gateway};
use pinhole::media::{CameraId, Stages};
use pinhole::session::{install_crypto, new_certificate};
use serde_json::{Value, json};

use crate::World;
use crate::client::text;

const DOOR: CameraId = CameraId(0);

/// A gateway with the camera `door`, which nobody has opened yet.
fn gateway() -> Gateway {
    install_crypto();
    let picture = config::Pattern {
        width: 640,
        height: 360,
        fps: 30,
        bitrate: 1_000_000,
    };
    let door = config::Camera::new("door".to_owned(), config::Source::Pattern(picture));
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
    let mut gateway = gateway();
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
