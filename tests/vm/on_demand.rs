//! The whole program on a real driver: viewers come and go, and the camera is open exactly while
//! somebody watches.

use std::time::{Duration, Instant};

use crate::Case;
use crate::gateway::{Gateway, URL};
use crate::machine::{eventually, one_vivid};
use crate::viewer::Viewer;

pub fn cases() -> Vec<Case> {
    vec![
        Case(
            "closed until somebody watches, closed after",
            opens_and_closes,
        ),
        Case("50 joins and leaves leave no device open", joins_and_leaves),
    ]
}

const CAMERA: &str = "source = \"v4l2:/dev/video0\"\nsize = \"320x180\"\n\
    encoder = \"software\"\non_demand = true\nlinger = \"0s\"";

fn start() -> Gateway {
    one_vivid();
    Gateway::start(CAMERA)
}

fn opens_and_closes() -> String {
    let gateway = start();
    assert_eq!(gateway.holds().cameras, 0);
    let start = Instant::now();
    let mut viewer = Viewer::join(URL).unwrap();
    viewer
        .watch(Duration::from_secs(20), |v| v.pictures.len() > 3)
        .unwrap();
    let first = *viewer.pictures.first().expect("a picture came") - start;
    assert_eq!(gateway.holds().cameras, 1);
    viewer.leave().unwrap();
    let left = Instant::now();
    eventually("the camera is closed", || gateway.holds().cameras == 0);
    format!(
        "first picture {} ms after the join, closed {} ms after the leave",
        first.as_millis(),
        left.elapsed().as_millis()
    )
}

/// Stays of different lengths: gone before the camera opens, while it opens, after pictures.
fn joins_and_leaves() -> String {
    let gateway = start();
    let settle = || eventually("the camera is closed", || gateway.holds().cameras == 0);
    let mut before = None;
    let mut seen = 0;
    for n in 0..50_u64 {
        let mut viewer = Viewer::join(URL).unwrap_or_else(|error| panic!("join {n}: {error}"));
        let stay = Duration::from_millis(n % 5 * 60);
        let wants_picture = n % 5 == 4;
        if wants_picture {
            viewer
                .watch(Duration::from_secs(20), |v| !v.pictures.is_empty())
                .unwrap();
            assert!(!viewer.pictures.is_empty(), "join {n} saw nothing");
            seen += 1;
        } else {
            viewer.watch(stay, |_| false).unwrap();
        }
        assert!(gateway.holds().cameras <= 1, "join {n}");
        viewer
            .leave()
            .unwrap_or_else(|error| panic!("leave {n}: {error}"));
        if n == 9 {
            settle();
            before = Some(gateway.holds());
        }
    }
    settle();
    // The runtime keeps an idle thread of its own for ten seconds.
    let before = before.unwrap();
    eventually("the threads are those of before", || {
        gateway.holds().threads <= before.threads
    });
    let after = gateway.holds();
    assert!(after.files <= before.files, "{before:?}, then {after:?}");
    assert!(
        after.memory_kib <= before.memory_kib + 4096,
        "{before:?}, then {after:?}"
    );
    format!("{seen} of the 50 stayed for a picture; no device open; {before}, then {after}")
}
