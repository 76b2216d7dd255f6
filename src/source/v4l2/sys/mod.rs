//! The kernel's video interface as safe calls: all of our `unsafe` for it.
//!
//! In: an open node. Out: what it can do, formats, mapped buffers, controls, signals; errors as
//! the kernel's own numbers ([`Errno`]).
//! Not here: what to do about them. Enumeration and plain capture go through the `v4l` crate
//! (device, stream); this is for what that crate lacks: multi-planar and memory-to-memory queues,
//! events, encoder commands, names that are not UTF-8. The structs are its generated ones, so
//! their layout follows the target's kernel headers; sizes are checked when this is compiled.
#![allow(unsafe_code)]

mod buffers;
mod controls;
mod formats;
mod input;
mod kernel;
mod mapping;
mod signal;
mod single;
mod uvc;

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use v4l::v4l_sys as raw;

pub use buffers::{Buffers, Dequeued};
pub use controls::{ControlInfo, control, control_info, controls, menu, set_control};
pub use formats::{Format, FormatEntry, FourCc, PlaneFormat, format, formats, set_format};
pub use input::{Input, input, input_in_use};
use kernel::{ioctl, libc_int, zeroed};
pub use signal::{Signal, Timings, set_timings, signal, source_changed, watch_source};
pub use single::{Node, SinglePlane, guarded};
pub use uvc::offer_key_frames;

/// Opens a node for reading and writing, without blocking, closed in child processes.
///
/// # Errors
/// As `open(2)`.
pub fn open(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty())
}

/// What a node is (`VIDIOC_QUERYCAP`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    pub driver: String,
    pub card: String,
    pub bus: String,
    /// `V4L2_CAP_*` of this node alone, not of the whole device.
    pub flags: u32,
}

impl Capability {
    /// Whether all of `flags` are there.
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// A memory-to-memory device: an encoder, decoder or converter, no camera.
    pub fn is_m2m(&self) -> bool {
        let both = raw::V4L2_CAP_VIDEO_CAPTURE | raw::V4L2_CAP_VIDEO_OUTPUT;
        let both_planes = raw::V4L2_CAP_VIDEO_CAPTURE_MPLANE | raw::V4L2_CAP_VIDEO_OUTPUT_MPLANE;
        self.has(raw::V4L2_CAP_VIDEO_M2M)
            || self.has(raw::V4L2_CAP_VIDEO_M2M_MPLANE)
            || self.has(both)
            || self.has(both_planes)
    }

    /// One step of a chain that a program must connect and set up (`V4L2_CAP_IO_MC`), or a
    /// processor of such pictures: libcamera does so. Alone it gives no pictures, whatever it
    /// lists. A Raspberry Pi has a dozen of them, with or without a camera.
    pub fn needs_libcamera(&self) -> bool {
        let is_processor = |name: &&str| self.driver.starts_with(*name);
        self.has(raw::V4L2_CAP_IO_MC) || PROCESSORS.iter().any(is_processor)
    }

    /// The queue that pictures of a camera come from. `None` for metadata, output and
    /// memory-to-memory nodes, for what cannot stream, and for what only libcamera can.
    pub fn camera_queue(&self) -> Option<Queue> {
        if self.needs_libcamera() || self.is_m2m() || !self.has(raw::V4L2_CAP_STREAMING) {
            None
        } else if self.has(raw::V4L2_CAP_VIDEO_CAPTURE) {
            Some(Queue::Capture)
        } else if self.has(raw::V4L2_CAP_VIDEO_CAPTURE_MPLANE) {
            Some(Queue::CaptureMplane)
        } else {
            None
        }
    }

    /// What goes in and what comes out of a memory-to-memory device.
    pub fn m2m_queues(&self) -> Option<(Queue, Queue)> {
        if !self.is_m2m() || !self.has(raw::V4L2_CAP_STREAMING) {
            None
        } else if self.has(raw::V4L2_CAP_VIDEO_M2M_MPLANE)
            || self.has(raw::V4L2_CAP_VIDEO_OUTPUT_MPLANE)
        {
            Some((Queue::OutputMplane, Queue::CaptureMplane))
        } else {
            Some((Queue::Output, Queue::Capture))
        }
    }
}

/// One queue of buffers of a node (`enum v4l2_buf_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Pictures from the device, one plane.
    Capture,
    /// Pictures to the device, one plane.
    Output,
    /// Pictures from the device, one or more planes.
    CaptureMplane,
    /// Pictures to the device, one or more planes.
    OutputMplane,
}

impl Queue {
    pub fn is_mplane(self) -> bool {
        matches!(self, Self::CaptureMplane | Self::OutputMplane)
    }

    fn raw(self) -> u32 {
        match self {
            Self::Capture => raw::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE,
            Self::Output => raw::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT,
            Self::CaptureMplane => raw::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
            Self::OutputMplane => raw::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE,
        }
    }

    /// Selections are asked of the single-planar type in either case (kernel documentation,
    /// VIDIOC_G_SELECTION).
    fn raw_selection(self) -> u32 {
        match self {
            Self::Capture | Self::CaptureMplane => Self::Capture.raw(),
            Self::Output | Self::OutputMplane => Self::Output.raw(),
        }
    }
}

/// Stops a queue. May be called from another thread on a duplicate of the node, to release one
/// that hangs: it then sees an error.
///
/// # Errors
/// `ENODEV` when the device is gone.
pub fn stream_off(fd: impl AsFd, queue: Queue) -> nix::Result<()> {
    let kind = queue.raw() as libc_int;
    // SAFETY: reads one int.
    unsafe { ioctl::streamoff(fd_of(fd.as_fd()), &kind) }.map(drop)
}

/// What a node is.
///
/// # Errors
/// `ENOTTY` for something that is no video node.
pub fn capability(fd: impl AsFd) -> nix::Result<Capability> {
    let mut answer: raw::v4l2_capability = zeroed();
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::querycap(fd_of(fd.as_fd()), &mut answer) }?;
    let has_own = answer.capabilities & raw::V4L2_CAP_DEVICE_CAPS != 0;
    Ok(Capability {
        driver: text(&answer.driver),
        card: text(&answer.card),
        bus: text(&answer.bus_info),
        flags: match has_own {
            true => answer.device_caps,
            false => answer.capabilities,
        },
    })
}

/// Asks for a time per frame (seconds as numerator and denominator); the answer is what it
/// became.
///
/// # Errors
/// `ENOTTY` or `EINVAL` where the rate cannot be set.
pub fn set_frame_time(
    fd: impl AsFd,
    queue: Queue,
    (numerator, denominator): (u32, u32),
) -> nix::Result<(u32, u32)> {
    let mut parm: raw::v4l2_streamparm = zeroed();
    parm.type_ = queue.raw();
    let time = raw::v4l2_fract {
        numerator,
        denominator,
    };
    let is_output = matches!(queue, Queue::Output | Queue::OutputMplane);
    if is_output {
        let mut output: raw::v4l2_outputparm = zeroed();
        output.timeperframe = time;
        parm.parm.output = output;
    } else {
        let mut capture: raw::v4l2_captureparm = zeroed();
        capture.timeperframe = time;
        parm.parm.capture = capture;
    }
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::s_parm(fd_of(fd.as_fd()), &mut parm) }?;
    // SAFETY: the kernel filled the member of this queue's type; all of it are numbers.
    let time = unsafe {
        match is_output {
            true => parm.parm.output.timeperframe,
            false => parm.parm.capture.timeperframe,
        }
    };
    Ok((time.numerator, time.denominator))
}

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub left: i32,
    pub top: i32,
    pub width: u32,
    pub height: u32,
}

/// Asks for the part of the picture that counts (`V4L2_SEL_TGT_CROP` of an output queue,
/// `V4L2_SEL_TGT_COMPOSE` of a capture queue); the answer is what it became.
///
/// # Errors
/// `ENOTTY` or `EINVAL` where there is no such selection.
pub fn set_selection(fd: impl AsFd, queue: Queue, wish: Rectangle) -> nix::Result<Rectangle> {
    let mut selection: raw::v4l2_selection = zeroed();
    selection.type_ = queue.raw_selection();
    selection.target = match queue {
        Queue::Output | Queue::OutputMplane => raw::V4L2_SEL_TGT_CROP,
        Queue::Capture | Queue::CaptureMplane => raw::V4L2_SEL_TGT_COMPOSE,
    };
    selection.r = raw::v4l2_rect {
        left: wish.left,
        top: wish.top,
        width: wish.width,
        height: wish.height,
    };
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::s_selection(fd_of(fd.as_fd()), &mut selection) }?;
    let r = selection.r;
    Ok(Rectangle {
        left: r.left,
        top: r.top,
        width: r.width,
        height: r.height,
    })
}

/// Tells a memory-to-memory encoder to finish what it has (`true`: `V4L2_ENC_CMD_STOP`) or to go
/// on after that (`false`: `V4L2_ENC_CMD_START`).
///
/// # Errors
/// `ENOTTY` where it has no such command, `EBUSY` while an earlier drain is under way.
pub fn encoder_drain(fd: impl AsFd, stop: bool) -> nix::Result<()> {
    let mut command: raw::v4l2_encoder_cmd = zeroed();
    command.cmd = match stop {
        true => raw::V4L2_ENC_CMD_STOP,
        false => raw::V4L2_ENC_CMD_START,
    };
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::encoder_cmd(fd_of(fd.as_fd()), &mut command) }.map(drop)
}

/// What a node is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A captured buffer waits.
    pub read: bool,
    /// An event waits.
    pub event: bool,
    /// The queue or the device has failed (`POLLERR`, `POLLHUP`).
    pub failed: bool,
}

/// Waits until the node is ready for something, `limit` at most.
///
/// # Errors
/// As `poll(2)`; a signal counts as nothing ready.
pub fn wait(fd: impl AsFd, limit: Duration) -> nix::Result<Ready> {
    let interest = PollFlags::POLLIN | PollFlags::POLLPRI;
    let mut entries = [PollFd::new(fd.as_fd(), interest)];
    let millis = limit.as_micros().div_ceil(1000).min(60_000) as u16;
    match nix::poll::poll(&mut entries, PollTimeout::from(millis)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno),
    }
    let is = |flags| entries[0].revents().is_some_and(|r| r.intersects(flags));
    Ok(Ready {
        read: is(PollFlags::POLLIN),
        event: is(PollFlags::POLLPRI),
        failed: is(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL),
    })
}

fn duration_of(time: &raw::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u32::try_from(time.tv_usec).unwrap_or(0).min(999_999);
    Duration::new(seconds, micros * 1000)
}

/// Up to the first zero; drivers cut names in the middle of a character.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.chars().filter(|c| !c.is_control()).collect()
}

fn fd_of(fd: impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

/// Drivers of image signal processors, some of whose nodes look like cameras.
const PROCESSORS: [&str; 2] = ["bcm2835-isp", "pispbe"];
/// Memory planes of a picture (`VIDEO_MAX_PLANES`).
pub const MAX_PLANES: usize = 8;
/// Formats, controls or menu words that are looked at, against drivers that never stop.
pub const MAX_ENTRIES: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(flags: u32) -> Capability {
        Capability {
            driver: String::new(),
            card: String::new(),
            bus: String::new(),
            flags,
        }
    }

    #[test]
    fn only_capture_nodes_that_stream_are_cameras() {
        // vivid, uvcvideo's picture node, its metadata node, the two kinds of encoders.
        assert_eq!(node(0x0520_0001).camera_queue(), Some(Queue::Capture));
        assert_eq!(node(0x0420_0001).camera_queue(), Some(Queue::Capture));
        assert_eq!(node(0x0520_1000).camera_queue(), Some(Queue::CaptureMplane));
        assert_eq!(node(0x04a0_0000).camera_queue(), None);
        assert_eq!(node(0x0420_8000).camera_queue(), None);
        assert_eq!(node(0x0420_4000).camera_queue(), None);
        assert_eq!(node(0x0100_0001).camera_queue(), None, "read() alone");
        // rp1-cfe of a Raspberry Pi 5, and the processor of the older ones.
        assert_eq!(node(0x2420_0001).camera_queue(), None);
        let processor = Capability {
            driver: "bcm2835-isp".to_owned(),
            ..node(0x0420_0001)
        };
        assert!(processor.camera_queue().is_none() && processor.needs_libcamera());
        assert!(!node(0x0420_0001).needs_libcamera());
        let single = Some((Queue::Output, Queue::Capture));
        let multi = Some((Queue::OutputMplane, Queue::CaptureMplane));
        assert_eq!(node(0x0420_8000).m2m_queues(), single);
        assert_eq!(node(0x0420_4000).m2m_queues(), multi);
        assert_eq!(node(0x0520_0001).m2m_queues(), None);
    }

    #[test]
    fn names_that_are_not_text_are_shown_all_the_same() {
        assert_eq!(text(b"Cam\xC3\0\0x"), "Cam\u{FFFD}");
        assert_eq!(text(b"a\nb"), "ab");
        assert_eq!(FourCc(*b"Y16 ").to_string(), "Y16");
        assert_eq!(FourCc([0; 4]).to_string(), "????");
    }

    #[test]
    fn what_is_no_video_node_says_so() {
        let null = open(Path::new("/dev/null")).expect("there");
        assert_eq!(capability(&null), Err(Errno::ENOTTY));
        assert!(formats(&null, Queue::Capture).is_empty());
        assert!(controls(&null).is_empty());
    }

    #[test]
    fn a_time_before_the_epoch_is_zero() {
        let time = raw::timeval {
            tv_sec: -1,
            tv_usec: 7_000_000,
        };
        assert_eq!(duration_of(&time), Duration::new(0, 999_999_000));
    }
}
