//! A machine that is too slow, for real: this one is emulated, and another program wants the
//! processor that codes.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Case;
use crate::gateway::{Gateway, URL};
use crate::machine::{load_vivid, one_vivid, quiet_picture, shell};
use crate::viewer::Viewer;

pub fn cases() -> Vec<Case> {
    vec![
        Case(
            "too slow: fewer pictures, then smaller ones, and nobody loses the session",
            too_slow,
        ),
        Case("what took the processor stops: up again", recovers),
    ]
}

/// Every wait is for something that must happen; how soon depends on who else uses the host.
const LIMIT: Duration = Duration::from_secs(180);

fn number(camera: &Value, key: &str) -> u64 {
    camera["load"][key].as_u64().unwrap_or(0)
}

fn encode_ms(camera: &Value) -> f64 {
    camera["load"]["encode_ms"].as_f64().unwrap_or(0.0)
}

fn is_overloaded(camera: &Value) -> bool {
    camera["load"]["overloaded"] == Value::Bool(true)
}

/// Watches until the camera is as `is_so` wants it.
fn watch_until(
    what: &str,
    gateway: &Gateway,
    viewer: &mut Viewer,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let found = watch_for(LIMIT, gateway, viewer, is_so);
    found.unwrap_or_else(|camera| panic!("not {what}: {camera}"))
}

/// The camera as wanted, or as it was in the end.
fn watch_for(
    limit: Duration,
    gateway: &Gateway,
    viewer: &mut Viewer,
    is_so: impl Fn(&Value) -> bool,
) -> Result<Value, Value> {
    let until = Instant::now() + limit;
    loop {
        viewer.watch(Duration::from_millis(500), |_| false).unwrap();
        let camera = gateway.camera();
        if is_so(&camera) {
            return Ok(camera);
        }
        if Instant::now() > until {
            return Err(camera);
        }
    }
}

/// Of niceness.
const STEPS: [i32; 4] = [-5, -8, -11, -14];

/// Takes more and more of the coder's processor, up these steps, until the camera is as
/// `is_so` wants it: what that takes differs from host to host, and too much would be a coder that
/// hangs.
fn pressed(
    what: &str,
    steps: &[i32],
    gateway: &Gateway,
    viewer: &mut Viewer,
    is_so: impl Fn(&Value) -> bool,
) -> (Value, Greedy) {
    let mut greedy = Greedy::start(steps[0]);
    let mut more = steps[1..].iter();
    let until = Instant::now() + LIMIT + LIMIT / 2;
    loop {
        let camera = match watch_for(Duration::from_secs(12), gateway, viewer, &is_so) {
            Ok(camera) => return (camera, greedy),
            Err(camera) => camera,
        };
        assert!(Instant::now() < until, "not {what}: {camera}");
        // So slow that only time is needed. Ten seconds for a picture count as a hang.
        if encode_ms(&camera) > 2500.0 {
            continue;
        }
        if let Some(niceness) = more.next() {
            drop(greedy);
            greedy = Greedy::start(*niceness);
        }
    }
}

fn too_slow() -> String {
    load_vivid("node_types=0x1 input_types=0x3");
    quiet_picture(0);
    // Noise: nothing is cheaper for having been there before.
    shell("v4l2-ctl -d 0 -c test_pattern=21");
    let gateway = Gateway::start(
        "source = \"v4l2:/dev/video0\"\nsize = \"1280x720\"\nfps = 30\nencoder = \"software\"",
    );
    let mut viewer = Viewer::join(URL).unwrap();
    viewer.watch(LIMIT, |v| !v.pictures.is_empty()).unwrap();
    assert_eq!(viewer.size, (1280, 720));
    pin(gateway.process());
    // This machine may be too slow as it is; where its host is quick, it is made so.
    let (slower, greedy) = pressed("overloaded", &STEPS, &gateway, &mut viewer, is_overloaded);
    // First fewer, of the same size.
    let (fps, width) = (number(&slower, "fps"), number(&slower, "width"));
    assert!(fps < 30 && width == 1280, "{slower}");
    let time = slower["load"]["interval_ms"].as_f64().unwrap();
    let cost = encode_ms(&slower);
    assert!(cost > 0.0 && time > 0.0, "{slower}");
    assert!((gateway.metric("camera_overloaded") - 1.0).abs() < 0.1);
    assert!(gateway.metric("camera_coding_seconds") > 0.0);
    drop(greedy);
    let is_smaller = |camera: &Value| (1..1280).contains(&number(camera, "width"));
    let (smaller, greedy) = pressed("smaller", &STEPS[1..], &gateway, &mut viewer, is_smaller);
    drop(greedy); // half a minute in a row must be cheap before it codes more again
    assert_eq!(number(&smaller, "fps"), 10, "size goes last: {smaller}");
    let undecodable = viewer.undecodable;
    let now = viewer.pictures.len();
    viewer
        .watch(LIMIT, |v| v.pictures.len() > now + 20 && v.size.0 < 1280)
        .unwrap();
    assert!(viewer.pictures.len() > now + 20, "no pictures any more");
    assert!(viewer.size.0 < 1280, "{:?}", viewer.size);
    let camera = gateway.camera();
    assert_eq!(camera["state"], "playing", "{camera}");
    assert_eq!(camera["restarts"], 0, "{camera}");
    assert_eq!(camera["errors"]["encode"], 0, "{camera}");
    assert!(is_overloaded(&camera), "{camera}");
    assert!(gateway.log().contains("overloaded"), "{}", gateway.log());
    let (seen, size) = (viewer.pictures.len(), viewer.size);
    viewer.leave().unwrap();
    format!(
        "30 to {fps} fps at {cost:.0} of {time:.0} ms, then {}x{} at {} fps; the same viewer decoded \
         {seen} pictures, the last of {}x{}, {undecodable} undecodable, no restart",
        number(&smaller, "width"),
        number(&smaller, "height"),
        number(&smaller, "fps"),
        size.0,
        size.1
    )
}

/// Another program that takes a whole processor, before everybody else; killed when dropped.
struct Greedy(Child);

impl Greedy {
    /// On the first processor alone.
    fn start(niceness: i32) -> Self {
        let spin = "while :; do :; done";
        let command = format!("exec nice -n {niceness} taskset 1 sh -c '{spin}'");
        Self(Command::new("sh").args(["-c", &command]).spawn().unwrap())
    }

    fn stop(&self) {
        shell(&format!("kill -STOP {}", self.0.id()));
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps what captures and codes on the first processor. The encoder's threads have the name of
/// the one that made them.
fn pin(process: u32) {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let is_coder = |task: &fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.trim() == "v4l2 cam")
    };
    let coders: Vec<_> = tasks.filter_map(Result::ok).filter(is_coder).collect();
    assert!(!coders.is_empty(), "no thread captures");
    for coder in coders {
        let coder = coder.file_name().into_string().unwrap();
        shell(&format!("taskset -p 1 {coder}"));
    }
}

/// Pictures so cheap that each is coded in one go, whoever else wants the processor: on a quick
/// host what they cost tells nothing, and that nobody comes for them in time does.
fn recovers() -> String {
    one_vivid();
    let gateway = Gateway::start(
        "source = \"v4l2:/dev/video0\"\nsize = \"320x180\"\nfps = 15\nencoder = \"software\"",
    );
    let mut viewer = Viewer::join(URL).unwrap();
    viewer.watch(LIMIT, |v| v.pictures.len() > 40).unwrap();
    let is_measured = |camera: &Value| encode_ms(camera) > 0.0;
    let before = watch_until("measured", &gateway, &mut viewer, is_measured);
    assert!(
        !is_overloaded(&before) && number(&before, "fps") == 15,
        "{before}"
    );
    pin(gateway.process());
    let greedy = Greedy::start(-20);
    let begun = Instant::now();
    let slow = watch_until("overloaded", &gateway, &mut viewer, is_overloaded);
    let told = begun.elapsed();
    let cause = slow["load"]["overload_cause"].clone();
    assert!(cause == "starved" || cause == "cost", "{slow}");
    greedy.stop();
    let stopped = Instant::now();
    // Half a minute in a row must be cheap, on a host that may have other work: hence so small a
    // picture, and so much time.
    let is_whole = |camera: &Value| !is_overloaded(camera) && number(camera, "fps") == 15;
    let after = watch_for(Duration::from_secs(600), &gateway, &mut viewer, is_whole)
        .unwrap_or_else(|camera| panic!("not whole again: {camera}"));
    let took = stopped.elapsed();
    // Not at the first quiet moment: a board whose load swings would swing with it.
    assert!(took > Duration::from_secs(25), "{took:?}");
    assert_eq!(
        (number(&after, "width"), number(&after, "height")),
        (320, 180)
    );
    let now = viewer.pictures.len();
    viewer
        .watch(LIMIT, |v| v.pictures.len() > now + 20)
        .unwrap();
    assert_eq!(gateway.camera()["restarts"], 0);
    viewer.leave().unwrap();
    format!(
        "{} ms a picture; {} fps after {:.0} s of the load, for {cause}, 15 again {:.0} s after \
         its end, {} ms a picture then",
        encode_ms(&before),
        number(&slow, "fps"),
        told.as_secs_f32(),
        took.as_secs_f32(),
        encode_ms(&after)
    )
}
