//! What a scrape reads, line by line.

use super::*;
use crate::media::Stages;
use crate::whep::status::{ErrorCounts, LoadStatus, StageTimings};

const MILLI: Duration = Duration::from_millis(1);

fn camera(name: &str) -> CameraStatus {
    CameraStatus {
        name: name.to_owned(),
        state: "down",
        since_ms: 1500,
        reason: Some("stalled"),
        detail: None,
        retry_in_ms: None,
        last_picture_ms: None,
        codec: None,
        profile_level: None,
        width: None,
        height: None,
        fps: 12.5,
        bitrate: 2_000_000,
        key_frame_interval_ms: None,
        has_b_frames: false,
        can_force_key_frame: false,
        viewers: 3,
        restarts: 7,
        errors: ErrorCounts {
            loss: 9,
            lost: 40,
            fallback: 1,
            ..ErrorCounts::default()
        },
        gops_cut: 5,
        load: None,
        stages: StageTimings::default(),
        notes: Vec::new(),
    }
}

#[test]
fn an_overloaded_camera_is_told_with_its_cause() {
    let load = LoadStatus {
        encoder: "openh264: as configured".to_owned(),
        overloaded: true,
        overload_cause: Some("cost"),
        fps: 20,
        width: 1280,
        height: 720,
        encode_ms: 41.5,
        interval_ms: 50.0,
        skipped_percent: 0,
        cpu_mhz: Some(600),
        cpu_max_mhz: Some(1500),
        temperature_c: None,
    };
    let snapshot = Snapshot {
        cameras: vec![
            CameraStatus {
                load: Some(load),
                ..camera("door")
            },
            camera("yard"),
        ],
        ..Snapshot::default()
    };
    let text = render(snapshot);
    for line in [
        "pinhole_camera_overloaded{camera=\"door\"} 1.0",
        "pinhole_camera_coding_seconds{camera=\"door\"} 0.0415",
        "pinhole_camera_coding_interval_seconds{camera=\"door\"} 0.05",
        "pinhole_camera_coding_cpu_hertz{camera=\"door\"} 600000000.0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(
        !text.contains("overloaded{camera=\"yard\"}"),
        "not encoded here"
    );
    assert!(!text.contains("celsius{"), "nobody measured it");
}

fn viewer(state: &'static str, queued_bytes: usize) -> SessionStatus {
    SessionStatus {
        viewer: 1,
        camera: "door".to_owned(),
        peer: "192.0.2.1:5".to_owned(),
        state,
        since_ms: 0,
        age_ms: 0,
        first_picture_ms: None,
        round_trip_ms: Some(20.0),
        loss: None,
        bitrate: 1_000_000,
        packets: 0,
        repairs: 0,
        queued_bytes,
        skips: 0,
        key_frame_requests: 0,
    }
}

fn text() -> String {
    let mut timings = Timings::default();
    timings.turn.record(Duration::from_micros(300));
    let mut door = camera("door");
    let before = Stages {
        encode: Duration::from_millis(4),
        ..Stages::default()
    };
    door.stages.record(before, Duration::from_micros(50));
    let mut http = HttpCounters::default();
    http.on_response(429);
    let gateway = gateway::Counters {
        sessions_lost: 2,
        held_by_egress: 4,
        ..gateway::Counters::default()
    };
    render(Snapshot {
        cameras: vec![door, camera("yard")],
        sessions: vec![viewer("playing", 10), viewer("playing", 30)],
        gateway,
        http,
        timings,
        process: ProcessFacts {
            open_fds: Some(12),
            cpu: Some(Duration::from_millis(1250)),
            ..ProcessFacts::default()
        },
        uptime: Duration::from_secs(60),
        ..Snapshot::default()
    })
}

#[test]
fn an_operator_finds_what_was_counted() {
    let text = text();
    for line in [
        "pinhole_uptime_seconds 60.0",
        "pinhole_camera_state{camera=\"door\",state=\"down\"} 1.0",
        "pinhole_camera_state{camera=\"door\",state=\"playing\"} 0.0",
        "pinhole_camera_state_seconds{camera=\"yard\"} 1.5",
        "pinhole_camera_restarts_total{camera=\"door\"} 7",
        "pinhole_camera_errors_total{camera=\"door\",kind=\"loss\"} 9",
        "pinhole_camera_errors_total{camera=\"door\",kind=\"lost\"} 40",
        "pinhole_camera_errors_total{camera=\"yard\",kind=\"fallback\"} 1",
        "pinhole_camera_gops_cut_total{camera=\"yard\"} 5",
        "pinhole_viewers_held_back_total{reason=\"egress\"} 4",
        "pinhole_viewers{state=\"playing\"} 2.0",
        "pinhole_viewers_queued_bytes_max 30.0",
        "pinhole_viewers_round_trip_seconds_max 0.02",
        "pinhole_sessions_ended_total{reason=\"lost\"} 2",
        "pinhole_http_responses_total{class=\"4xx\"} 1",
        "pinhole_http_refused_total{reason=\"requests\"} 1",
        "pinhole_loop_turn_seconds_bucket{le=\"0.0005\"} 1",
        "pinhole_loop_turn_seconds_bucket{le=\"0.0002\"} 0",
        "pinhole_loop_turn_longest_seconds 0.0003",
        "pinhole_stage_seconds_count{camera=\"door\",stage=\"encode\"} 1",
        "pinhole_stage_seconds_bucket{le=\"+Inf\",camera=\"door\",stage=\"encode\"} 1",
        "pinhole_stage_seconds_count{camera=\"door\",stage=\"packetize\"} 1",
        "pinhole_process_open_fds 12.0",
        "pinhole_process_cpu_seconds_total 1.25",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(
        !text.contains("pinhole_process_threads"),
        "unknown facts are left out"
    );
    assert!(
        !text.contains("stage=\"decode\""),
        "a stage it does not have"
    );
    assert!(!text.contains("yard\",stage"), "no picture yet");
}

#[test]
fn every_name_is_ours_and_told_once() {
    let text = text();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert!(names.iter().all(|name| name.starts_with("pinhole_")));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn viewers_add_no_lines() {
    let lines = |viewers| {
        let snapshot = Snapshot {
            sessions: vec![viewer("playing", 1); viewers],
            ..Snapshot::default()
        };
        render(snapshot).lines().count()
    };
    assert_eq!(lines(0), lines(64));
}

#[test]
fn a_scrape_of_64_cameras_stays_small() {
    let snapshot = Snapshot {
        cameras: (0..64)
            .map(|n| {
                let mut camera = camera(&format!("camera-{n}"));
                camera.stages.record(Stages::default(), MILLI);
                camera.stages.sent.record(MILLI);
                camera
            })
            .collect(),
        sessions: vec![viewer("playing", 1); 64],
        ..Snapshot::default()
    };
    let start = std::time::Instant::now();
    let text = render(snapshot);
    println!(
        "64 cameras: {} kB in {:?}",
        text.len() >> 10,
        start.elapsed()
    );
    assert!(text.len() < 512 << 10);
}
