//! What the camera of `usb_camera` says about itself: USB 2.0 chapter 9, USB Video Class 1.1.
//!
//! In: control requests. Out: descriptors, stream parameters.
//! Not here: transfers (usb_camera).

use std::time::Duration;

/// Requests (UVC 1.0, table A-8).
pub const SET_CUR: u8 = 0x01;
pub const GET_CUR: u8 = 0x81;
pub const GET_MIN: u8 = 0x82;
pub const GET_MAX: u8 = 0x83;
pub const GET_RES: u8 = 0x84;
pub const GET_LEN: u8 = 0x85;
pub const GET_INFO: u8 = 0x86;
pub const GET_DEF: u8 = 0x87;

pub const VS_PROBE: u8 = 1;
pub const VS_COMMIT: u8 = 2;
pub const PU_BRIGHTNESS: u8 = 2;
pub const PROCESSING_UNIT: u8 = 2;

/// The extension unit of cameras that code H.264, and its control for key frames (USB Video Class
/// H.264 Payload 1.0, section 3.3.9).
pub const H264_UNIT: u8 = 4;
pub const PICTURE_TYPE: u8 = 9;
pub const PICTURE_TYPE_LENGTH: usize = 4;
/// The kind of picture that it asks for.
pub const IDR: u8 = 1;

/// Bytes of a probe or commit block in UVC 1.1 (table 4-75).
pub const PROBE_LENGTH: usize = 34;
/// Bytes of one payload, header included: what the driver puts into one transfer.
pub const MAX_PAYLOAD: usize = 16_384;

const WIDTH: u16 = 640;
const HEIGHT: u16 = 480;
const FRAME_BYTES: u32 = 640 * 480 * 2;
/// In units of 100 ns: 30, 15 and 5 pictures per second.
const INTERVALS: [u32; 3] = [333_333, 666_666, 2_000_000];

/// What the camera has in its list of formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Jpeg,
    /// YUYV too.
    JpegAndRaw,
    /// With or without the control for key frames.
    H264 {
        obeys: bool,
    },
}

/// The number of JPEG, or H.264, in that list.
const CODED: u8 = 1;
const YUYV: u8 = 2;

/// The eight bytes that begin a control transfer.
pub struct Setup {
    pub is_class: bool,
    pub request: u8,
    pub selector: u8,
    pub index: u8,
    pub interface: u8,
    pub unit: u8,
    pub length: usize,
}

impl Setup {
    pub fn read(bytes: &[u8]) -> Self {
        Self {
            is_class: bytes[0] & 0x60 == 0x20,
            request: bytes[1],
            index: bytes[2],
            selector: bytes[3],
            interface: bytes[4],
            unit: bytes[5],
            length: usize::from(u16::from_le_bytes([bytes[6], bytes[7]])),
        }
    }
}

/// Standard requests (USB 2.0, 9.4): descriptors, and those that every device must take.
pub fn standard(setup: &Setup, offer: Offer) -> Option<Vec<u8>> {
    const GET_STATUS: u8 = 0;
    const GET_DESCRIPTOR: u8 = 6;
    const GET_CONFIGURATION: u8 = 8;
    const GET_INTERFACE: u8 = 10;
    match setup.request {
        GET_STATUS => Some(vec![0, 0]),
        GET_CONFIGURATION => Some(vec![1]),
        GET_INTERFACE => Some(vec![0]),
        // The descriptor's type stands where a class request has its selector.
        GET_DESCRIPTOR => match setup.selector {
            1 => Some(device()),
            2 => Some(configuration(offer)),
            3 => string(setup.index),
            _ => None,
        },
        _ => Some(Vec::new()),
    }
}

/// A probe block with every field that the host left open or got wrong filled in.
pub fn completed(asked: &[u8]) -> [u8; PROBE_LENGTH] {
    let mut block = [0; PROBE_LENGTH];
    let known = asked.len().min(PROBE_LENGTH);
    block[..known].copy_from_slice(&asked[..known]);
    block[2] = block[2].clamp(CODED, YUYV);
    block[3] = 1;
    let wished = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    let interval = INTERVALS.into_iter().find(|i| *i >= wished);
    let interval = interval.unwrap_or(INTERVALS[INTERVALS.len() - 1]);
    block[4..8].copy_from_slice(&interval.to_le_bytes());
    block[18..22].copy_from_slice(&FRAME_BYTES.to_le_bytes());
    block[22..26].copy_from_slice(&(MAX_PAYLOAD as u32).to_le_bytes());
    block
}

/// The time between two pictures that the block agrees on.
pub fn interval(block: &[u8; PROBE_LENGTH]) -> Duration {
    let ticks = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    Duration::from_nanos(u64::from(ticks) * 100)
}

/// The block chooses JPEG or H.264, not YUYV.
pub fn is_coded(block: &[u8; PROBE_LENGTH]) -> bool {
    block[2] == CODED
}

fn device() -> Vec<u8> {
    let [vendor, product] = [0x1209_u16, 0x0001].map(u16::to_le_bytes); // pid.codes, for tests
    let mut d = vec![18, 1, 0x00, 0x02, 0xef, 2, 1, 64];
    d.extend(vendor.into_iter().chain(product));
    d.extend([0x00, 0x01, 1, 2, 3, 1]);
    d
}

fn string(index: u8) -> Option<Vec<u8>> {
    let text = match index {
        0 => return Some(vec![4, 3, 0x09, 0x04]),
        1 => "Pinhole",
        2 => "Software Camera",
        3 => "0001",
        _ => return None,
    };
    let mut d = vec![2 + 2 * text.len() as u8, 3];
    d.extend(text.bytes().flat_map(|b| [b, 0]));
    Some(d)
}

fn configuration(offer: Offer) -> Vec<u8> {
    let mut body = vec![8, 0x0b, 0, 2, 0x0e, 3, 0, 0]; // both interfaces are one video function
    body.extend(control_interface(offer));
    body.extend(streaming_interface(offer));
    let total = (9 + body.len() as u16).to_le_bytes();
    let mut d = vec![9, 2, total[0], total[1], 2, 1, 0, 0x80, 250];
    d.append(&mut body);
    d
}

fn control_interface(offer: Offer) -> Vec<u8> {
    let mut units = vec![
        18, 0x24, 2, 1, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0,
    ]; // camera
    units.extend([11, 0x24, 5, PROCESSING_UNIT, 1, 0, 0, 2, 0x01, 0x00, 0]); // brightness
    let mut last = PROCESSING_UNIT;
    if offer == (Offer::H264 { obeys: true }) {
        units.extend([27, 0x24, 6, H264_UNIT]);
        units.extend(b"\x41\x76\x9e\xa2\x04\xde\xe3\x47\x8b\x2b\xf4\x34\x1a\xff\x00\x3b"); // its GUID
        units.extend([1, 1, last, 2, 0x00, 0x01, 0]); // one control, one source: bit 8
        last = H264_UNIT;
    }
    units.extend([9, 0x24, 3, 3, 0x01, 0x01, 0, last, 0]); // to the host
    let total = (13 + units.len() as u16).to_le_bytes();
    let clock = 48_000_000_u32.to_le_bytes();
    let mut d = vec![9, 4, 0, 0, 0, 0x0e, 1, 0, 0];
    d.extend([13, 0x24, 1, 0x10, 0x01, total[0], total[1]]);
    d.extend(clock.into_iter().chain([1, 1]));
    d.append(&mut units);
    d
}

fn streaming_interface(offer: Offer) -> Vec<u8> {
    let mut formats = Vec::new();
    if let Offer::H264 { .. } = offer {
        formats.extend([28, 0x24, 0x10, CODED, 1]); // frame-based
        formats.extend(b"H264\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"); // its GUID
        formats.extend([16, 1, 0, 0, 0, 0, 1]);
        formats.extend(coded_frame());
    } else {
        formats.extend([11, 0x24, 6, CODED, 1, 0, 1, 0, 0, 0, 0]);
        formats.extend(frame(7));
    }
    let has_raw = offer == Offer::JpegAndRaw;
    if has_raw {
        formats.extend([27, 0x24, 4, YUYV, 1]);
        formats.extend(b"YUY2\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"); // its GUID
        formats.extend([16, 1, 0, 0, 0, 0]);
        formats.extend(frame(5));
    }
    let count = 1 + u8::from(has_raw);
    let head = 13 + count;
    let total = (u16::from(head) + formats.len() as u16).to_le_bytes();
    let mut d = vec![9, 4, 1, 0, 1, 0x0e, 2, 0, 0];
    d.extend([
        head, 0x24, 1, count, total[0], total[1], 0x81, 0, 3, 0, 0, 0, 1,
    ]);
    d.resize(d.len() + usize::from(count), 0); // no control of any format
    d.append(&mut formats);
    d.extend([7, 5, 0x81, 2, 0x00, 0x02, 0]); // bulk, 512 bytes
    d
}

/// As [`frame`], where pictures have no size in bytes of their own.
fn coded_frame() -> Vec<u8> {
    let mut d = vec![26 + 4 * INTERVALS.len() as u8, 0x24, 0x11, 1, 0];
    d.extend(WIDTH.to_le_bytes().into_iter().chain(HEIGHT.to_le_bytes()));
    for word in [100_000, 4_000_000, INTERVALS[0]] {
        d.extend(u32::to_le_bytes(word));
    }
    d.push(INTERVALS.len() as u8);
    d.extend([0, 0, 0, 0]); // bytes from row to row: none
    d.extend(INTERVALS.into_iter().flat_map(u32::to_le_bytes));
    d
}

fn frame(subtype: u8) -> Vec<u8> {
    let mut d = vec![26 + 4 * INTERVALS.len() as u8, 0x24, subtype, 1, 0];
    d.extend(WIDTH.to_le_bytes().into_iter().chain(HEIGHT.to_le_bytes()));
    for word in [
        FRAME_BYTES * 8 * 5,
        FRAME_BYTES * 8 * 30,
        FRAME_BYTES,
        INTERVALS[0],
    ] {
        d.extend(word.to_le_bytes());
    }
    d.push(INTERVALS.len() as u8);
    d.extend(INTERVALS.into_iter().flat_map(u32::to_le_bytes));
    d
}
