//! Every pixel format that vivid has and Pinhole reads: captured through Pinhole's kernel layer,
//! decoded by its decoder, and held against the picture that vivid itself gives as I420.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinhole::media::pixel::{Colour, Layout, PixelFormat};
use pinhole::source::decode::{Decoder, PlaneRef, RawFrame};
use pinhole::source::v4l2::sys::{self, Buffers, Format, FourCc, Queue, formats, set_format};

use crate::machine::{load_vivid, quiet_picture};
use crate::picture::Picture;

/// Formats with less colour than 4:2:0 cannot come closer than the rounding of a conversion.
const CLOSE: f64 = 30.0;

/// All formats of a single-planar vivid.
pub fn single_planar() -> String {
    every_format(1)
}

/// All formats of a multi-planar one, those in two and three buffers among them.
pub fn multi_planar() -> String {
    every_format(2)
}

fn every_format(multiplanar: u8) -> String {
    load_vivid(&format!(
        "node_types=0x1 input_types=0x0 multiplanar={multiplanar}"
    ));
    quiet_picture(0);
    let reference = Picture::captured(0, 640, 360);
    let (queue, known) = known_formats();
    let mut worst = (f64::INFINITY, "");
    let mut names = Vec::new();
    let mut failed = Vec::new();
    for format in &known {
        let psnr = captured_as(*format, queue, (640, 360), 0).and_then(|picture| {
            let psnr = match format {
                // vivid's grey is not its luma: other weights, full range.
                PixelFormat::Grey => picture.luma_psnr(&Picture::captured_grey(0, 640, 360)),
                _ => picture.psnr(&reference),
            };
            if psnr < CLOSE {
                Err(format!("PSNR {psnr:.1} dB"))
            } else {
                Ok(psnr)
            }
        });
        match psnr {
            Ok(psnr) => {
                names.push(format.name());
                if psnr < worst.0 {
                    worst = (psnr, format.name());
                }
            }
            Err(reason) => failed.push(format!("{}: {reason}", format.name())),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {}: {}",
        failed.len(),
        known.len(),
        failed.join("; ")
    );
    let expected = if multiplanar == 1 { 16 } else { 26 };
    assert!(names.len() >= expected, "only {names:?}");
    format!(
        "{} formats, worst {:.1} dB ({}): {}",
        names.len(),
        worst.0,
        worst.1,
        names.join(" ")
    )
}

pub fn known_formats() -> (Queue, Vec<PixelFormat>) {
    let fd = sys::open(Path::new("/dev/video0")).unwrap();
    let queue = sys::capability(&fd)
        .unwrap()
        .camera_queue()
        .expect("a camera");
    let offered = formats(&fd, queue).into_iter();
    (
        queue,
        offered
            .filter_map(|entry| PixelFormat::from_fourcc(entry.fourcc.0))
            .collect(),
    )
}

/// Sets the format with so many bytes more than needed from row to row.
fn padded(
    fd: &OwnedFd,
    format: PixelFormat,
    queue: Queue,
    size: (u32, u32),
    padding: u32,
) -> Result<Format, String> {
    let set =
        |wish: &Format| set_format(fd, queue, wish).map_err(|errno| format!("S_FMT: {errno}"));
    let rows = |format: &Format| format.planes.first().map_or(0, |plane| plane.stride);
    let mut wish = Format::ask(FourCc(format.fourcc()), size, 0);
    let plain = rows(&set(&wish)?);
    wish.planes[0].stride = plain + padding;
    let mode = set(&wish)?;
    if mode.fourcc.0 != format.fourcc() || (mode.width, mode.height) != size {
        return Err(format!("S_FMT gave {mode:?}"));
    }
    if rows(&mode) != plain + padding {
        return Err(format!("no padding of {padding} bytes: {mode:?}"));
    }
    Ok(mode)
}

/// A picture through our own layers; `padding` bytes are asked for behind each row.
pub fn captured_as(
    format: PixelFormat,
    queue: Queue,
    size: (u32, u32),
    padding: u32,
) -> Result<Picture, String> {
    let said = |what: &'static str| move |errno| format!("{what}: {errno}");
    let fd = Arc::new(sys::open(Path::new("/dev/video0")).map_err(said("open"))?);
    let mode = padded(&fd, format, queue, size, padding)?;
    let mut buffers =
        Buffers::new(fd.clone(), queue, 3, mode.planes.len()).map_err(said("REQBUFS"))?;
    while let Some(index) = buffers.free() {
        buffers
            .queue(index, &[], Duration::ZERO)
            .map_err(said("QBUF"))?;
    }
    buffers.start().map_err(said("STREAMON"))?;
    let until = Instant::now() + Duration::from_secs(5);
    let frame = loop {
        sys::wait(&*fd, false, Duration::from_millis(500)).map_err(said("poll"))?;
        match buffers.dequeue().map_err(said("DQBUF"))? {
            Some(frame) => break frame,
            None if Instant::now() > until => return Err("no picture".to_owned()),
            None => {}
        }
    };
    let planes: Vec<PlaneRef<'_>> = frame
        .planes
        .iter()
        .zip(&mode.planes)
        .enumerate()
        .map(|(n, ((from, to), plane))| {
            let bytes = &buffers.bytes(frame.index, n).expect("it was given back")[*from..*to];
            PlaneRef {
                bytes,
                stride: plane.stride as usize,
            }
        })
        .collect();
    let colour = match format.layout() {
        Layout::Rgb { .. } => Colour::unsaid(format),
        _ => Colour::from_v4l2(format, mode.colorspace, 0, mode.quantization),
    };
    let raw = RawFrame {
        format,
        width: mode.width,
        height: mode.height,
        planes: &planes,
    };
    let mut decoder =
        Decoder::new(format, mode.width, mode.height, colour).map_err(|e| e.to_string())?;
    let decoded = decoder.decode(&raw).map_err(|e| e.to_string())?;
    let (width, height) = decoded.size();
    let [y, u, v] = decoded.planes();
    Ok(Picture::from_planes(
        width,
        height,
        [y.data, u.data, v.data],
        [y.stride, u.stride, v.stride],
    ))
}
