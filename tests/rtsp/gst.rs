//! Against GStreamer's RTSP server.

use std::time::{Duration, Instant};

use pinhole::config::Transport;
use pinhole::media::{Demand, DownReason};

use crate::h264;
use crate::servers::{Cable, Server, free_port};
use crate::watch::{Watch, camera, with_credentials, with_transport};

/// Plays a second of video and checks what every unit promises.
async fn plays(watch: &mut Watch) {
    let units = watch.units(25).await;
    assert!(units[0].is_key_frame, "the first unit is a key frame");
    assert!(!units[0].after_loss);
    for pair in units.windows(2) {
        let step = pair[1].ticks - pair[0].ticks;
        assert!((1..90_000).contains(&step), "ticks advance by {step}");
        assert!(pair[1].received >= pair[0].received);
    }
    for unit in &units {
        let kinds: Vec<u8> = h264::nals(&unit.data).iter().map(|n| n[0] & 0x1f).collect();
        assert_eq!(unit.is_key_frame, kinds.contains(&5), "{kinds:?}");
        assert_eq!(unit.is_key_frame, kinds.starts_with(&[7, 8]), "{kinds:?}");
    }
}

#[tokio::test]
async fn plays_over_tcp() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    let camera = with_transport(camera(&server.at("h264")), Transport::Tcp);
    let mut watch = Watch::open(&camera);
    assert!(watch.note().await.contains("RTSP/TCP"));
    plays(&mut watch).await;
}

#[tokio::test]
async fn plays_over_udp() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    let camera = with_transport(camera(&server.at("h264")), Transport::Udp);
    let mut watch = Watch::open(&camera);
    assert!(watch.note().await.contains("RTSP/UDP"));
    plays(&mut watch).await;
}

#[tokio::test]
async fn a_camera_that_speaks_only_udp_is_found_out() {
    let Some(server) = Server::gst(&["--transport", "udp"]) else {
        return;
    };
    let mut watch = Watch::open(&camera(&server.at("h264")));
    assert!(watch.note().await.contains("RTSP/UDP"));
    plays(&mut watch).await;
}

#[tokio::test]
async fn parameter_sets_of_the_sdp_alone_stand_before_each_key_frame() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    let mut watch = Watch::open(&camera(&server.at("sdp")));
    let note = watch.note().await;
    assert!(
        note.contains("320x240") && note.contains("avc1.42"),
        "{note}"
    );
    plays(&mut watch).await;
}

#[tokio::test]
async fn opus_beside_the_video_does_not_spoil_it() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    let mut watch = Watch::open(&camera(&server.at("opus")));
    assert!(watch.note().await.contains("1 more not used"));
    plays(&mut watch).await;
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    for (path, offered) in [("h265", "video/h265"), ("audio", "audio/opus")] {
        let down = Watch::open(&camera(&server.at(path))).down().await;
        assert_eq!(down.reason, DownReason::Unsupported);
        assert!(down.detail.contains(offered), "{}", down.detail);
        assert!(
            down.retry_in > Duration::from_secs(5),
            "{:?}",
            down.retry_in
        );
    }
    let down = Watch::open(&camera(&server.at("nothing"))).down().await;
    assert!(down.detail.contains("404"), "{}", down.detail);
}

#[tokio::test]
async fn the_right_password_plays() {
    for auth in ["digest", "basic"] {
        let arguments = [
            "--auth",
            auth,
            "--user",
            "keeper",
            "--password",
            "s3cret pass",
        ];
        let Some(server) = Server::gst(&arguments) else {
            return;
        };
        let camera = with_credentials(camera(&server.at("h264")), "keeper", "s3cret pass");
        let mut watch = Watch::open(&camera);
        plays(&mut watch).await;
        assert!(!watch.log.contains("s3cret"), "{}", watch.log);
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it_and_seldom_tried_again() {
    let arguments = ["--user", "keeper", "--password", "s3cret"];
    let Some(server) = Server::gst(&arguments) else {
        return;
    };
    let wrong = with_credentials(camera(&server.at("h264")), "keeper", "wr0ng");
    let mut watch = Watch::open(&wrong);
    let down = watch.down().await;
    assert_eq!(down.reason, DownReason::Unauthorized);
    assert!(
        down.retry_in > Duration::from_secs(20),
        "{:?}",
        down.retry_in
    );

    // Asking again does not bring the account closer to being locked.
    watch.handle.demand(Demand::Close);
    watch.closed().await;
    watch.handle.demand(Demand::Open);
    let again = watch.down().await;
    assert_eq!(again.reason, DownReason::Unauthorized);
    assert!(again.retry_in <= down.retry_in);
    assert_eq!(watch.log.matches("Opening").count(), 1, "{}", watch.log);
    assert!(
        !watch.log.contains("wr0ng") && !watch.log.contains("keeper"),
        "{}",
        watch.log
    );

    let down = Watch::open(&camera(&server.at("h264"))).down().await;
    assert_eq!(down.reason, DownReason::Unauthorized);
    assert!(
        down.detail.contains("none are configured"),
        "{}",
        down.detail
    );
}

#[tokio::test]
async fn a_camera_that_is_down_at_start_is_seen_when_it_comes() {
    let port = free_port();
    let mut watch = Watch::open(&camera(&format!("rtsp://127.0.0.1:{port}/h264")));
    let down = watch.down().await;
    assert_eq!(down.reason, DownReason::Unreachable);
    watch.down().await;
    let Some(_server) = Server::gst(&["--port", &port.to_string()]) else {
        return;
    };
    let listening = Instant::now();
    watch.unit().await;
    println!(
        "first picture {:?} after the port opened",
        listening.elapsed()
    );
    assert!(listening.elapsed() < RETURN_LIMIT);
    plays_on(&mut watch).await;
}

#[tokio::test]
async fn a_camera_that_was_killed_is_seen_within_a_second_of_its_return() {
    let port = free_port().to_string();
    let Some(server) = Server::gst(&["--port", &port]) else {
        return;
    };
    let mut watch = Watch::open(&camera(&server.at("h264")));
    plays(&mut watch).await;
    drop(server);
    let gone = watch.down().await;
    assert!(
        matches!(gone.reason, DownReason::Ended | DownReason::Unreachable),
        "{gone:?}"
    );
    while watch.down().await.retry_in < Duration::from_secs(2) {}
    let Some(_server) = Server::gst(&["--port", &port]) else {
        return;
    };
    let back = Instant::now();
    let first = watch.unit().await;
    println!(
        "first picture {:?} after the camera's return",
        back.elapsed()
    );
    assert!(first.is_key_frame);
    assert!(back.elapsed() < RETURN_LIMIT);
    plays_on(&mut watch).await;
}

#[tokio::test]
async fn a_camera_that_froze_is_stalled_and_plays_again_when_it_thaws() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    let mut camera = camera(&server.at("h264"));
    camera.stall = Duration::from_secs(1);
    let mut watch = Watch::open(&camera);
    plays(&mut watch).await;
    server.signal("STOP");
    let down = watch.down().await;
    assert_eq!(down.reason, DownReason::Stalled);
    assert!(down.detail.contains("1s"), "{}", down.detail);
    server.signal("CONT");
    let thawed = Instant::now();
    watch.unit().await;
    println!("first picture {:?} after the thaw", thawed.elapsed());
    plays_on(&mut watch).await;
}

#[tokio::test]
async fn a_camera_whose_cable_was_out_is_seen_within_a_second_of_its_return() {
    let Some(cable) = Cable::new() else { return };
    let far = ["--address", Cable::CAMERA];
    let Some(server) = Server::gst_by(&cable.prefix(), &far) else {
        return;
    };
    let mut camera = camera(&server.at("h264"));
    camera.stall = Duration::from_secs(1);
    let mut watch = Watch::open(&camera);
    plays(&mut watch).await;
    cable.plug(false);
    assert_eq!(watch.down().await.reason, DownReason::Stalled);
    let mut away = watch.down().await;
    while away.retry_in < Duration::from_secs(3) {
        assert_eq!(away.reason, DownReason::Unreachable);
        away = watch.down().await;
    }
    cable.plug(true);
    let back = Instant::now();
    assert!(watch.unit().await.is_key_frame);
    println!(
        "first picture {:?} after the cable was plugged in",
        back.elapsed()
    );
    assert!(back.elapsed() < RETURN_LIMIT);
    plays_on(&mut watch).await;
}

#[tokio::test]
async fn b_frames_pass_with_their_own_times() {
    let Some(server) = Server::gst(&[]) else {
        return;
    };
    let mut watch = Watch::open(&camera(&server.at("main")));
    let units = watch.units(50).await;
    assert!(units.windows(2).any(|pair| pair[1].ticks < pair[0].ticks));
    assert_eq!(watch.errors, 0, "{}", watch.log);
}

/// After a return: pictures follow each other.
async fn plays_on(watch: &mut Watch) {
    let errors = watch.errors;
    watch.units(10).await;
    assert_eq!(watch.errors, errors, "{}", watch.log);
}

/// Three times the budget of one second: the machine is shared.
const RETURN_LIMIT: Duration = Duration::from_secs(3);
