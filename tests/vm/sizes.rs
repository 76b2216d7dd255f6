//! Sizes: large ones, and those whose rows the driver pads or whose sides are no multiple of 16.
//!
//! In: vivid's webcam (sizes of a list) and its HDMI input (any size up to 1280x720). Out: pictures held against
//! what vivid itself gives as I420.

use std::time::Instant;

use pinhole::media::pixel::PixelFormat;

use crate::formats::{captured_as, known_formats};
use crate::machine::{control, load_vivid, one_vivid, quiet_picture};
use crate::picture::Picture;
use crate::watch::Watch;

/// As in formats.
const CLOSE: f64 = 30.0;

/// Captured, coded and decoded again. Not 3840x2160: to code one takes five seconds here; `large`
/// captures it, and tests/encode codes as many pixels.
pub fn sizes() -> String {
    one_vivid();
    let mut told = Vec::new();
    let all = [
        (320, 180),
        (640, 360),
        (640, 480),
        (1280, 720),
        (1920, 1080),
    ];
    for (width, height) in all {
        let reference = reference(width, height);
        let lines = format!(
            "source = \"v4l2:/dev/video0\"\nsize = \"{width}x{height}\"\nencoder = \"software\""
        );
        let start = Instant::now();
        let mut watch = Watch::open(&lines);
        watch.key_frame();
        let took = start.elapsed();
        let picture = watch.picture_after(2);
        assert_eq!((picture.width, picture.height), (width, height));
        let psnr = picture.psnr(&reference);
        assert!(psnr >= CLOSE, "{width}x{height}: PSNR {psnr:.1} dB");
        told.push(format!(
            "{width}x{height} {psnr:.1} dB, first picture {:.2} s",
            took.as_secs_f32()
        ));
        watch.close();
    }
    told.join("; ")
}

/// Captured and decoded. One format of each layout: these are many bytes.
const LAYOUTS: [&str; 6] = ["YUYV", "NV12", "YU12", "422P", "GREY", "RGB3"];

fn layouts() -> Vec<PixelFormat> {
    let (_, known) = known_formats();
    let picked = known
        .into_iter()
        .filter(|format| LAYOUTS.contains(&format.name()));
    let picked: Vec<_> = picked.collect();
    assert_eq!(picked.len(), LAYOUTS.len(), "{picked:?}");
    picked
}

/// What vivid gives as I420 in the very colours of our streams, so that nothing is converted on
/// the way: HD's from 720 rows on.
fn reference(width: usize, height: usize) -> Picture {
    let rec_709 = u8::from(height >= 720); // else SMPTE 170M
    control(0, &format!("colorspace={rec_709}"));
    Picture::captured(0, width, height)
}

/// The worst PSNR of all layouts at one size.
fn compare(size: (u32, u32), padding: u32) -> f64 {
    let (queue, _) = known_formats();
    let (width, height) = (size.0 as usize, size.1 as usize);
    let reference = reference(width, height);
    let grey = Picture::captured_grey(0, width, height);
    let mut worst = f64::INFINITY;
    for format in layouts() {
        let picture = captured_as(format, queue, size, padding)
            .unwrap_or_else(|why| panic!("{} {size:?} + {padding}: {why}", format.name()));
        // Our pictures have even sides.
        let psnr = match format {
            PixelFormat::Grey => picture.luma_psnr(&grey.cropped(picture.width, picture.height)),
            _ => picture.psnr(&reference.cropped(picture.width, picture.height)),
        };
        let name = format.name();
        assert!(
            psnr >= CLOSE,
            "{name} {size:?} + {padding}: PSNR {psnr:.1} dB"
        );
        worst = worst.min(psnr);
    }
    worst
}

pub fn large() -> String {
    one_vivid();
    let mut told = Vec::new();
    for size in [(1920, 1080), (3840, 2160)] {
        let worst = compare(size, 0);
        told.push(format!("{}x{}, worst {worst:.1} dB", size.0, size.1));
    }
    format!("{} in {}", told.join("; "), LAYOUTS.join(" "))
}

pub fn odd() -> String {
    load_vivid("node_types=0x1 input_types=0x3");
    quiet_picture(0);
    let mut told = Vec::new();
    for (size, padding) in [
        ((1276, 720), 84),
        ((1092, 614), 0),
        ((652, 362), 52),
        ((644, 362), 0),
        ((324, 242), 128),
    ] {
        let worst = compare(size, padding);
        let (width, height) = size;
        told.push(format!("{width}x{height} + {padding}: {worst:.1} dB"));
    }
    format!("worst of {}: {}", LAYOUTS.join(" "), told.join("; "))
}
