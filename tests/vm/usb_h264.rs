//! A USB camera that codes H.264 itself, through the real `uvcvideo`: passed on untouched, begun
//! at key frames, asked for them where it can be asked.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pinhole::media::h264::{nal_type, nal_type_of, nal_units};
use pinhole::media::{AccessUnit, Demand, SourceEvent};
use pinhole::source::encode::{Coded, Encoder, Picture, Settings, Software};
use pinhole::source::pattern::{Moment, Painter};

use crate::Case;
use crate::gateway::{Gateway, URL};
use crate::usb::{CAMERA, plug_with};
use crate::usb_camera::UsbCamera;
use crate::usb_descriptors::Offer;
use crate::viewer::Viewer;
use crate::watch::{LIMIT, Watch};

pub fn cases() -> Vec<Case> {
    vec![
        Case("H.264 of a camera is passed on as it is", passed_on),
        Case(
            "a camera with the control for it codes a key frame when asked",
            forced,
        ),
        Case("a lost picture is followed by a key frame", lost),
        Case(
            "who joins between two key frames sees the last one at once",
            joins_late,
        ),
    ]
}

const FPS: u64 = 15;
/// Pictures from key frame to key frame: ten seconds.
const GROUP: usize = 150;

/// Two groups of pictures; parameter sets stand before the first one alone, as many cameras have
/// it.
fn clip() -> Vec<Vec<u8>> {
    let settings = Settings {
        width: 640,
        height: 480,
        fps: FPS as u32,
        ceiling: 1_000_000,
    };
    let mut encoder = Software::open(&settings).unwrap();
    let mut painter = Painter::new(640, 480, "usb", "H.264");
    let mut clip = Vec::new();
    for number in 0.. {
        let elapsed = Duration::from_secs(number) / FPS as u32;
        painter.draw(&Moment {
            number,
            elapsed,
            wall: elapsed,
        });
        if clip.len() % GROUP == 0 {
            encoder.force_key_frame();
        }
        let picture: Picture<'_> = painter
            .picture(number as i64 * 6000, Instant::now())
            .unwrap();
        let Coded::Unit(unit) = encoder.encode(&picture).unwrap() else {
            continue; // rate control left it out: nothing refers to it
        };
        let is_key_frame = clip.len() % GROUP == 0;
        assert_eq!(unit.is_key_frame, is_key_frame);
        let is_kept = |nal: &&[u8]| clip.is_empty() || !is_parameter_set(nal);
        let nals = nal_units(&unit.data).filter(is_kept);
        let whole = nals.flat_map(|nal| [&[0, 0, 0, 1], nal].concat()).collect();
        clip.push(whole);
        if clip.len() == 2 * GROUP {
            break;
        }
    }
    clip
}

fn is_parameter_set(nal: &[u8]) -> bool {
    matches!(nal_type_of(nal), nal_type::SPS | nal_type::PPS)
}

fn plug(obeys: bool) -> (UsbCamera, Vec<Vec<u8>>) {
    // To code it takes seconds here.
    static CLIP: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let clip = CLIP.get_or_init(clip).clone();
    (plug_with(clip.clone(), Offer::H264 { obeys }), clip)
}

/// The camera plays; whether it says that it can be asked for key frames.
fn playing() -> (Watch, bool) {
    let mut watch = Watch::open(CAMERA);
    let can_force = watch.until("Playing", |event| match event {
        SourceEvent::Playing(abilities) => {
            assert!(!abilities.can_change_rate, "nothing is encoded here");
            Some(abilities.can_force_key_frame)
        }
        _ => None,
    });
    (watch, can_force)
}

fn picture_of(unit: &AccessUnit) -> Vec<&[u8]> {
    let nals = nal_units(&unit.data);
    nals.filter(|nal| !is_parameter_set(nal)).collect()
}

/// Pictures in a row that must come as they were sent, a key frame amid them.
const UNBROKEN: usize = GROUP + 20;

fn passed_on() -> String {
    let (_camera, clip) = plug(false);
    let (mut watch, can_force) = playing();
    assert!(!can_force, "this one has no control for it");
    let mut key_frames = 0;
    let mut last: Option<usize> = None;
    let (mut unbroken, mut losses) = (0, 0);
    let mut can_decode = false;
    let until = Instant::now() + LIMIT * 2;
    while unbroken < UNBROKEN {
        assert!(Instant::now() < until, "{losses} losses: {}", watch.tail());
        let unit = watch.unit();
        let kinds: Vec<u8> = nal_units(&unit.data).map(nal_type_of).collect();
        if unit.is_key_frame {
            key_frames += 1;
            let expected = [nal_type::SPS, nal_type::PPS, nal_type::IDR];
            assert_eq!(kinds, expected, "a key frame tells how to decode it");
        }
        let here = clip.iter().position(|picture| {
            let nals = nal_units(picture).filter(|nal| !is_parameter_set(nal));
            nals.collect::<Vec<_>>() == picture_of(&unit)
        });
        let here = here.expect("bit for bit what the camera sent");
        // Where the machine stood still, uvcvideo had no room for a picture: that must be told.
        let follows = last.is_some_and(|last| here == (last + 1) % clip.len());
        if !follows {
            assert_eq!(unit.after_loss, last.is_some(), "{last:?}, then {here}");
            losses += u32::from(unit.after_loss);
            (unbroken, can_decode) = (0, false);
        }
        unbroken += 1;
        last = Some(here);
        can_decode |= unit.is_key_frame;
        if can_decode {
            watch.decode(&unit);
        }
    }
    assert!(key_frames >= 2);
    assert_eq!((watch.errors, watch.downs), (0, 0), "{}", watch.tail());
    assert!(
        watch.said().contains("coded by the camera"),
        "{}",
        watch.tail()
    );
    watch.close();
    format!(
        "{UNBROKEN} pictures in a row as they were sent, {key_frames} key frames with SPS and PPS, \
         {losses} losses before, each told"
    )
}

fn forced() -> String {
    let (camera, _) = plug(true);
    let (mut watch, can_force) = playing();
    assert!(
        can_force,
        "uvcvideo was not told of the control: {}",
        watch.tail()
    );
    watch.key_frame();
    let before = camera.key_frames().0;
    let mut worst = 0;
    let wishes = 5;
    for _ in 0..wishes {
        watch.unit();
        watch.unit();
        watch.drain();
        let (asked, seen) = (camera.key_frames().0, watch.units);
        watch.demand(Demand::KeyFrame);
        // One of its own may come before it is asked.
        while camera.key_frames().0 == asked {
            watch.key_frame();
        }
        worst = worst.max(watch.units - seen);
    }
    assert!(worst < 25, "only the {worst}. picture was one");
    let asked = camera.key_frames().0 - before;
    assert_eq!(asked, wishes, "{}", watch.tail());
    watch.close();
    format!(
        "{wishes} of {wishes} asked for by the control, at worst the {worst}. picture after the wish"
    )
}

fn lost() -> String {
    let (camera, _) = plug(true);
    let _gateway = Gateway::start(CAMERA);
    let mut viewer = Viewer::join(URL).unwrap();
    let limit = Duration::from_secs(60);
    viewer.watch(limit, |v| v.pictures.len() > 3).unwrap();
    let (before, _) = camera.key_frames();
    camera.fail_next();
    viewer
        .watch(limit, |_| camera.key_frames().0 > before)
        .unwrap();
    let asked = camera.key_frames().0 - before;
    assert!(asked > 0, "nobody asked for a key frame");
    let enough = viewer.pictures.len() + 10;
    viewer.watch(limit, |v| v.pictures.len() > enough).unwrap();
    assert!(viewer.pictures.len() > enough, "no picture after it");
    assert_eq!(viewer.undecodable, 0, "shown what refers to the lost one");
    viewer.leave().unwrap();
    format!("asked {asked} time(s) for a key frame after the gap, nothing undecodable sent")
}

/// Both watch until it is so: one whose datagrams nobody reads is given up by the gateway.
fn watch_both(
    early: &mut Viewer,
    late: &mut Viewer,
    limit: Duration,
    is_enough: impl Fn(&Viewer) -> bool,
) {
    let until = Instant::now() + limit;
    let turn = Duration::from_millis(20);
    while !is_enough(late) {
        assert!(Instant::now() < until, "{} pictures", late.pictures.len());
        early.watch(turn, |_| false).unwrap();
        late.watch(turn, &is_enough).unwrap();
    }
}

/// Judged by what the camera sent: no key frame of its own came to the newcomer's help.
fn joins_late() -> String {
    let (camera, _) = plug(false);
    let _gateway = Gateway::start(CAMERA);
    let mut early = Viewer::join(URL).unwrap();
    let limit = Duration::from_secs(60);
    early.watch(limit, |v| v.pictures.len() > 3).unwrap();
    let (mut late, before, joined) = joined_early_in_a_group(&camera, &mut early);
    watch_both(&mut early, &mut late, limit, |v| !v.pictures.is_empty());
    let (asked, after) = camera.key_frames();
    let first = joined.elapsed();
    assert_eq!(
        (asked, after),
        (0, before),
        "it waited for the camera's next key frame"
    );
    watch_both(&mut early, &mut late, limit, |v| {
        v.pictures.len() > GROUP + 10
    });
    assert_eq!(late.undecodable, 0);
    late.leave().unwrap();
    early.leave().unwrap();
    format!(
        "first picture {} ms after the join, 5 pictures into a group of {GROUP}, none undecodable",
        first.as_millis()
    )
}

/// Somebody who joined in a fresh group, so that its end is far; the key frames sent until then,
/// and when it was. Where the machine stood still for so long that the group was over before the
/// answer came, the next one will do.
fn joined_early_in_a_group(camera: &UsbCamera, early: &mut Viewer) -> (Viewer, u32, Instant) {
    let limit = Duration::from_secs(60);
    for _ in 0..4 {
        let (_, sent) = camera.key_frames();
        early
            .watch(limit, |_| camera.key_frames().1 > sent)
            .unwrap();
        let seen = early.pictures.len();
        early.watch(limit, |v| v.pictures.len() > seen + 5).unwrap();
        let (_, before) = camera.key_frames();
        let joined = Instant::now();
        let late = Viewer::join(URL).unwrap();
        if camera.key_frames().1 == before {
            return (late, before, joined);
        }
        late.leave().unwrap();
    }
    panic!("no join was answered within a group of ten seconds");
}
