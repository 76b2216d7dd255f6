//! A USB camera through the real `uvcvideo`: Motion JPEG, cables, and what bad ones send.
//!
//! The machine has no udev, so the cases lay the stable link (`/dev/v4l/by-id`) themselves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use pinhole::media::{DownReason, SourceEvent};

use crate::Case;
use crate::devices;
use crate::machine::{Holds, eventually, load_vivid, shell, unload};
use crate::usb_camera::UsbCamera;
use crate::usb_descriptors::Offer;
use crate::usb_h264;
use crate::watch::Watch;

/// What udev would call it.
pub const NAME: &str = "usb-Pinhole_Software_Camera_0001-video-index0";
const LINK: &str = "/dev/v4l/by-id/usb-Pinhole_Software_Camera_0001-video-index0";

/// The same camera by its stable name.
pub const CAMERA: &str = "source = \"v4l2:usb-Pinhole_Software_Camera_0001-video-index0\"\n\
    size = \"640x480\"\nfps = 15\nencoder = \"software\"";

/// From the node's return to the picture.
const BACK: Duration = Duration::from_secs(2);

pub fn cases() -> Vec<Case> {
    vec![
        Case("the camera itself works, without Pinhole", itself),
        Case(
            "devices: cameras and the encoder are listed, metadata and decoders are not",
            devices::listed,
        ),
        Case(
            "a JPEG camera plays, and its metadata node is no camera",
            plays,
        ),
        Case("unplugged, and plugged in again as another node", replug),
        Case("controls are set again after a replug", controls),
        Case("frozen: stalled, and back", frozen),
        Case("each truncated JPEG is counted", truncated),
        Case("an error bit is tolerated", error_bit),
        Case("one that ignores the agreed rate is held to it", hasty),
    ]
    .into_iter()
    .chain(usb_h264::cases())
    .collect()
}

/// The pictures that run.sh laid beside this program.
fn pictures() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir("frames")
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn plug() -> UsbCamera {
    plug_with(pictures(), Offer::Jpeg)
}

/// Plugs the camera in and does what udev would do: gives its capture node the stable name.
pub fn plug_with(pictures: Vec<Vec<u8>>, offer: Offer) -> UsbCamera {
    plug_to(Damaged::Dropped, pictures, offer)
}

/// What uvcvideo does with a picture that the camera marks as faulty. It holds for cameras that
/// are plugged in afterwards, and so it is said for each.
#[derive(Clone, Copy)]
enum Damaged {
    Dropped = 0,
    HandedOn = 1,
}

fn plug_to(damaged: Damaged, pictures: Vec<Vec<u8>>, offer: Offer) -> UsbCamera {
    shell(&format!(
        "modprobe vhci-hcd && modprobe uvcvideo && echo {} >/sys/module/uvcvideo/parameters/nodrop",
        damaged as u8
    ));
    let camera = UsbCamera::plug(pictures, offer);
    let mut found = String::new();
    let until = Instant::now() + Duration::from_secs(10);
    while found.is_empty() {
        assert!(Instant::now() < until, "uvcvideo made no node");
        std::thread::sleep(Duration::from_millis(20));
        found = capture_node().unwrap_or_default();
    }
    fs::create_dir_all("/dev/v4l/by-id").unwrap();
    let _ = fs::remove_file(LINK);
    symlink(format!("../../{found}"), LINK).unwrap();
    camera
}

/// `videoN` of our camera with index 0: index 1 carries metadata.
fn capture_node() -> Option<String> {
    let mut nodes = fs::read_dir("/sys/class/video4linux")
        .ok()?
        .filter_map(Result::ok);
    let node = nodes.find(|node| {
        let fact = |name| fs::read_to_string(node.path().join(name)).unwrap_or_default();
        fact("name").starts_with("Software Camera") && fact("index").trim() == "0"
    })?;
    Path::new("/dev")
        .join(node.file_name())
        .exists()
        .then(|| node.file_name().into_string().unwrap())
}

/// Its node, or why the kernel took it away.
fn plugged_in() -> String {
    capture_node().unwrap_or_else(|| panic!("it is gone: {}", shell("dmesg | tail -n 6")))
}

fn unplug(camera: UsbCamera) {
    camera.unplug();
    let _ = fs::remove_file(LINK);
    eventually("the node is gone", || capture_node().is_none());
}

fn playing() -> Watch {
    let mut watch = Watch::open(CAMERA);
    watch.key_frame();
    watch
}

/// Tells a broken test camera from a broken Pinhole.
fn itself() -> String {
    let _camera = plug_with(pictures(), Offer::JpegAndRaw);
    let mut told = Vec::new();
    for format in ["MJPG", "YUYV"] {
        let start = Instant::now();
        let device = plugged_in();
        shell(&format!(
            "v4l2-ctl -d /dev/{device} --set-fmt-video=width=640,height=480,pixelformat={format} \
             --stream-mmap --stream-count=30 --stream-to=/tmp/usb"
        ));
        let per_second = 30.0 / start.elapsed().as_secs_f32();
        let bytes = fs::metadata("/tmp/usb").unwrap().len() / 30;
        told.push(format!(
            "{format} {per_second:.1} per second, {bytes} bytes each"
        ));
    }
    let device = plugged_in();
    let modes = shell(&format!("v4l2-ctl -d /dev/{device} --get-ctrl=brightness"));
    assert_eq!(modes.trim(), "brightness: 0");
    told.join("; ")
}

fn plays() -> String {
    let camera = plug();
    let start = Instant::now();
    let mut watch = playing();
    let first = start.elapsed();
    let (units, errors, _) = watch.during(Duration::from_secs(3));
    let picture = watch.picture_after(0);
    assert_eq!((picture.width, picture.height), (640, 480));
    assert_eq!(errors, 0, "{}", watch.tail());
    assert!(watch.said().contains("MJPG"), "{}", watch.tail());
    watch.close();
    assert!(camera.commits() >= 1);
    format!(
        "first picture {:.2} s, {units} in 3 s of 15 per second",
        first.as_secs_f32()
    )
}

fn replug() -> String {
    let camera = plug();
    let mut watch = playing();
    let before = fs::read_link(LINK).unwrap();
    let mut again = None;
    let mut returned = Instant::now();
    let ride = watch.ride_out(
        || unplug(camera),
        || {
            // Somebody else takes the number meanwhile: once nobody holds the old node open.
            eventually("the old node is let go", || Holds::ours().cameras == 0);
            load_vivid("node_types=0x1 input_types=0x0");
            again = Some(plug());
            returned = Instant::now();
        },
    );
    let after = fs::read_link(LINK).unwrap();
    assert_ne!(before, after, "the node number did not change");
    let words = format!(
        "{}; {} became {}",
        ride.within(BACK).words(),
        before.display(),
        after.display()
    );
    watch.close();
    unload("vivid");
    words
}

fn controls() -> String {
    let camera = plug();
    let mut watch = Watch::open(&format!("{CAMERA}\ncontrols = {{ brightness = 23 }}"));
    watch.key_frame();
    assert_eq!(camera.brightness().0, 23);
    let mut again = None;
    watch.ride_out(|| unplug(camera), || again = Some(plug()));
    let (value, times) = again.as_ref().unwrap().brightness();
    assert_eq!(value, 23);
    watch.close();
    format!("brightness {value} set at the first open, and {times} time(s) after the replug")
}

fn frozen() -> String {
    let camera = plug();
    let mut watch = Watch::open(&format!("{CAMERA}\nstall = \"1s\""));
    watch.key_frame();
    let ride = watch.ride_out(|| camera.freeze(true), || camera.freeze(false));
    assert_eq!(ride.reason, DownReason::Stalled, "{}", ride.detail);
    ride.within(BACK).words()
}

/// Plays so slowly that no picture is left out unread because a newer one waits.
fn playing_slowly() -> Watch {
    let mut watch = Watch::open(&CAMERA.replace("fps = 15", "fps = 5"));
    watch.key_frame();
    watch
}

/// Does `spoil` until it was counted five times; the stream must go on without a restart.
fn tolerated(camera: &UsbCamera, words: &str, spoil: impl Fn(&UsbCamera)) -> String {
    let mut watch = playing_slowly();
    let mut spoilt = 0;
    for n in 1..=5 {
        let detail = loop {
            spoilt += 1;
            assert!(spoilt < 50, "{} counted: {}", n - 1, watch.tail());
            spoil(camera);
            if let Some(detail) = error_within(&mut watch, Duration::from_secs(2)) {
                break detail;
            }
        };
        assert!(detail.contains(words), "{detail}");
        watch.unit();
        // One that was given up waiting for may be counted yet.
        let counted = watch.errors;
        assert!((n..=spoilt).contains(&counted), "{counted} of {spoilt}");
        assert_eq!(watch.downs, 0, "{}", watch.tail());
    }
    watch.picture_after(1);
    // More than five where the machine is so busy that one waited behind a newer picture.
    let counted = watch.errors;
    format!("{spoilt} sent, {counted} counted, each followed by a good picture, no restart")
}

fn error_within(watch: &mut Watch, limit: Duration) -> Option<String> {
    let until = Instant::now() + limit;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if let SourceEvent::Error { detail, .. } = watch.next_within(left)? {
            return Some(detail);
        }
    }
    None
}

/// uvcvideo hands these on without a word: only the decoder can notice.
fn truncated() -> String {
    tolerated(&plug(), "cut off", UsbCamera::truncate_next)
}

fn error_bit() -> String {
    let camera = plug_to(Damaged::HandedOn, pictures(), Offer::Jpeg);
    let flagged = tolerated(&camera, "damaged", UsbCamera::fail_next);
    camera.unplug();
    let camera = plug();
    let mut watch = playing_slowly();
    for _ in 0..5 {
        camera.fail_next();
        (0..3).for_each(|_| drop(watch.unit()));
    }
    watch.during(Duration::from_millis(1500)); // what was lost is told once a second
    assert_eq!((watch.errors, watch.downs), (0, 0), "{}", watch.tail());
    let lost = watch.left_out.lost;
    assert!(lost >= 5, "{lost} of 5 were dropped: {}", watch.tail());
    watch.close();
    format!("flagged by the driver: {flagged}; dropped by it: the picture goes on without {lost}")
}

fn hasty() -> String {
    let camera = plug();
    camera.ignore_rate();
    let mut watch = playing_slowly();
    let first = watch.unit();
    let n = 60;
    let last = (0..n).map(|_| watch.unit()).last().unwrap();
    let rate = f64::from(n) * 90_000.0 / (last.ticks - first.ticks) as f64;
    // A camera's clock may be 5 % fast; one picture of 60 more or less is chance.
    assert!(rate <= 5.3, "{rate:.2} per second of 5");
    // A machine that cannot do five is told of elsewhere.
    let is_slow = watch.said().contains("strain: Some");
    assert!(
        is_slow || rate >= 4.7,
        "{rate:.2} per second: {}",
        watch.tail()
    );
    watch.close();
    format!("{rate:.2} per second of 5 agreed and 30 sent, too slow for it: {is_slow}")
}
