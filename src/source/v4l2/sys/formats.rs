//! Picture formats of a queue.
//!
//! In: an open node. Out: the formats it lists, the one that is set.
//! Not here: which of them we can use (mode).
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;

use v4l::v4l_sys as raw;

use super::kernel::{ioctl, zeroed};
use super::{MAX_ENTRIES, MAX_PLANES, Queue, fd_of, text};

/// A pixel format by its four characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    pub const fn new(name: &[u8; 4]) -> Self {
        Self(*name)
    }

    pub(super) fn from_raw(code: u32) -> Self {
        Self(code.to_le_bytes())
    }

    fn raw(self) -> u32 {
        u32::from_le_bytes(self.0)
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some names end in blanks ("Y16 "); a set top bit says big-endian.
        let shown = |b: &u8| match char::from(b & 0x7F) {
            c if c.is_ascii_graphic() || c == ' ' => c,
            _ => '?',
        };
        let text: String = self.0.iter().map(shown).collect();
        f.write_str(text.trim_end())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Layout of one plane in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneFormat {
    /// Bytes from one row to the next; 0 for coded pictures.
    pub stride: u32,
    /// Bytes of the whole plane.
    pub size: u32,
}

/// A picture format of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub fourcc: FourCc,
    pub width: u32,
    pub height: u32,
    /// 1 to [`MAX_PLANES`] memory planes; "NV12" has one, "NM12" two.
    pub planes: Vec<PlaneFormat>,
    /// `enum v4l2_field`: 1 is progressive.
    pub field: u32,
    /// `enum v4l2_quantization`: 1 is full range.
    pub quantization: u32,
    /// `enum v4l2_colorspace`.
    pub colorspace: u32,
    /// `enum v4l2_ycbcr_encoding`.
    pub encoding: u32,
}

impl Format {
    /// What to ask for: the driver fills in strides and sizes. `coded_size` (bytes of a coded
    /// picture) is for compressed formats, 0 lets the driver choose.
    pub fn ask(fourcc: FourCc, (width, height): (u32, u32), coded_size: u32) -> Self {
        Self {
            fourcc,
            width,
            height,
            planes: vec![PlaneFormat {
                stride: 0,
                size: coded_size,
            }],
            field: raw::v4l2_field_V4L2_FIELD_ANY,
            quantization: 0,
            colorspace: 0,
            encoding: 0,
        }
    }
}

/// One entry of a queue's list of formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatEntry {
    pub fourcc: FourCc,
    pub description: String,
    pub is_compressed: bool,
}

/// The formats of a queue, [`MAX_ENTRIES`] at most. A queue that is not there has none.
pub fn formats(fd: impl AsFd, queue: Queue) -> Vec<FormatEntry> {
    let mut found = Vec::new();
    for index in 0..MAX_ENTRIES {
        let mut entry: raw::v4l2_fmtdesc = zeroed();
        (entry.index, entry.type_) = (index, queue.raw());
        // SAFETY: one struct, alive for the call.
        if unsafe { ioctl::enum_fmt(fd_of(fd.as_fd()), &mut entry) }.is_err() {
            break;
        }
        found.push(FormatEntry {
            fourcc: FourCc::from_raw(entry.pixelformat),
            description: text(&entry.description),
            is_compressed: entry.flags & raw::V4L2_FMT_FLAG_COMPRESSED != 0,
        });
    }
    found
}

/// The format that is set.
///
/// # Errors
/// `EINVAL` for a queue that the node has not.
pub fn format(fd: impl AsFd, queue: Queue) -> nix::Result<Format> {
    let mut format: raw::v4l2_format = zeroed();
    format.type_ = queue.raw();
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::g_fmt(fd_of(fd.as_fd()), &mut format) }?;
    Ok(read_format(&format, queue))
}

/// Sets a format; the answer is what the driver made of it.
///
/// # Errors
/// `EBUSY` when buffers are allocated or somebody else streams.
pub fn set_format(fd: impl AsFd, queue: Queue, wish: &Format) -> nix::Result<Format> {
    let mut format: raw::v4l2_format = zeroed();
    format.type_ = queue.raw();
    if queue.is_mplane() {
        let mut pix: raw::v4l2_pix_format_mplane = zeroed();
        (pix.width, pix.height) = (wish.width, wish.height);
        (pix.pixelformat, pix.field) = (wish.fourcc.raw(), wish.field);
        pix.colorspace = wish.colorspace;
        pix.quantization = wish.quantization as u8;
        pix.num_planes = wish.planes.len().min(MAX_PLANES) as u8;
        for (n, plane) in wish.planes.iter().enumerate().take(MAX_PLANES) {
            let mut layout: raw::v4l2_plane_pix_format = zeroed();
            (layout.bytesperline, layout.sizeimage) = (plane.stride, plane.size);
            pix.plane_fmt[n] = layout;
        }
        format.fmt.pix_mp = pix;
    } else {
        let plane = wish.planes.first().copied().unwrap_or_default();
        let mut pix: raw::v4l2_pix_format = zeroed();
        (pix.width, pix.height) = (wish.width, wish.height);
        (pix.pixelformat, pix.field) = (wish.fourcc.raw(), wish.field);
        (pix.bytesperline, pix.sizeimage) = (plane.stride, plane.size);
        (pix.colorspace, pix.quantization) = (wish.colorspace, wish.quantization);
        format.fmt.pix = pix;
    }
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::s_fmt(fd_of(fd.as_fd()), &mut format) }?;
    Ok(read_format(&format, queue))
}

fn read_format(format: &raw::v4l2_format, queue: Queue) -> Format {
    if queue.is_mplane() {
        // SAFETY: the kernel filled the member of this queue's type; all of it are numbers.
        let pix = unsafe { format.fmt.pix_mp };
        let layouts = pix.plane_fmt; // a copy: the struct is packed
        let count = usize::from(pix.num_planes).clamp(1, MAX_PLANES);
        let planes = layouts.iter().take(count).map(|plane| PlaneFormat {
            stride: plane.bytesperline,
            size: plane.sizeimage,
        });
        return Format {
            fourcc: FourCc::from_raw(pix.pixelformat),
            width: pix.width,
            height: pix.height,
            planes: planes.collect(),
            field: pix.field,
            quantization: u32::from(pix.quantization),
            colorspace: pix.colorspace,
            // SAFETY: both members of this union are one number.
            encoding: u32::from(unsafe { pix.__bindgen_anon_1.ycbcr_enc }),
        };
    }
    // SAFETY: as above.
    let pix = unsafe { format.fmt.pix };
    Format {
        fourcc: FourCc::from_raw(pix.pixelformat),
        width: pix.width,
        height: pix.height,
        planes: vec![PlaneFormat {
            stride: pix.bytesperline,
            size: pix.sizeimage,
        }],
        field: pix.field,
        quantization: pix.quantization,
        colorspace: pix.colorspace,
        // SAFETY: both members of this union are one number.
        encoding: unsafe { pix.__bindgen_anon_1.ycbcr_enc },
    }
}
