//! What an input receives: HDMI bridges and grabbers, whose pictures are as large as the source
//! sends them.
//!
//! In: an open node. Out: the input's signal with its timings, and that it has changed.
//! Not here: what to do about it (device, capture).
//!
//! As the kernel documentation wants it (userspace-api/media/v4l, "Digital Video (DV) Timings" and
//! `V4L2_EVENT_SOURCE_CHANGE`): ask for the timings that are received, set them, and start anew
//! when they change.
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;
use v4l::v4l_sys as raw;

use super::kernel::{ioctl, libc_int, zeroed};
use super::{MAX_ENTRIES, fd_of};

/// What is at the input.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// The node does not say: most cameras have no input in this sense.
    Untold,
    Here(Timings),
    /// There is an input, and why it gives no pictures: "no signal".
    Faulty(&'static str),
}

/// Size, blanking and clock of a digital video signal.
#[derive(Clone, Copy)]
pub struct Timings(raw::v4l2_dv_timings);

impl Timings {
    fn bt(self) -> raw::v4l2_bt_timings {
        let either = self.0.__bindgen_anon_1;
        // SAFETY: the kernel knows no other type (`V4L2_DV_BT_656_1120`); all of it are numbers.
        unsafe { either.bt }
    }

    /// Pictures per second; fields, where it is interlaced.
    fn fps(self) -> f64 {
        let bt = self.bt();
        let sum = |parts: [u32; 4]| parts.iter().map(|part| f64::from(*part)).sum::<f64>();
        let total = sum([bt.width, bt.hfrontporch, bt.hsync, bt.hbackporch])
            * sum([bt.height, bt.vfrontporch, bt.vsync, bt.vbackporch]);
        let fields = if bt.interlaced == 0 { 1.0 } else { 2.0 };
        if total > 0.0 {
            bt.pixelclock as f64 / total * fields
        } else {
            0.0
        }
    }
}

impl PartialEq for Timings {
    /// The same picture at the same pace, whatever else the standard's flags say. The clock of a
    /// source is measured, and a little off each time: 0.25 %, as the kernel's own matching.
    fn eq(&self, other: &Self) -> bool {
        let shape = |bt: raw::v4l2_bt_timings| (bt.width, bt.height, bt.interlaced);
        let (ours, theirs) = (self.fps(), other.fps());
        shape(self.bt()) == shape(other.bt()) && (ours - theirs).abs() <= ours * 0.0025
    }
}

impl fmt::Display for Timings {
    /// "1920x1080p60".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bt = self.bt();
        let (width, height) = (bt.width, bt.height);
        let scan = if bt.interlaced == 0 { 'p' } else { 'i' };
        let rate = format!("{:.2}", self.fps());
        let rate = rate.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{width}x{height}{scan}{rate}")
    }
}

impl fmt::Debug for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What the input of a node receives now (`VIDIOC_QUERY_DV_TIMINGS`).
pub fn signal(fd: impl AsFd) -> Signal {
    let mut timings: raw::v4l2_dv_timings = zeroed();
    // SAFETY: one struct, alive for the call.
    match unsafe { ioctl::query_dv_timings(fd_of(fd.as_fd()), &mut timings) } {
        Ok(_) if timings.type_ == raw::V4L2_DV_BT_656_1120 => Signal::Here(Timings(timings)),
        Err(Errno::ENOLINK) => Signal::Faulty("no signal"),
        Err(Errno::ENOLCK) => Signal::Faulty("an unstable signal"),
        Err(Errno::ERANGE) => Signal::Faulty("a signal that it cannot take"),
        Ok(_) | Err(_) => Signal::Untold,
    }
}

/// Has the node expect these timings; the picture format follows them.
///
/// # Errors
/// `EBUSY` while somebody streams, `EINVAL` where it cannot take them.
pub fn set_timings(fd: impl AsFd, timings: &Timings) -> nix::Result<()> {
    let mut timings = timings.0;
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::s_dv_timings(fd_of(fd.as_fd()), &mut timings) }.map(drop)
}

/// Asks to be told when size or signal of the input change.
///
/// # Errors
/// `EINVAL` or `ENOTTY` where the node has no such events.
pub fn watch_source(fd: impl AsFd) -> nix::Result<()> {
    let mut input: libc_int = 0;
    let mut wish: raw::v4l2_event_subscription = zeroed();
    wish.type_ = raw::V4L2_EVENT_SOURCE_CHANGE;
    // SAFETY: fills one int.
    if unsafe { ioctl::g_input(fd_of(fd.as_fd()), &mut input) }.is_ok() {
        wish.id = u32::try_from(input).unwrap_or(0);
    }
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::subscribe_event(fd_of(fd.as_fd()), &wish) }.map(drop)
}

/// Whether the source has changed since the last call. Call when an event waits: takes all that
/// do.
pub fn source_changed(fd: impl AsFd) -> bool {
    let mut has_changed = false;
    for _ in 0..MAX_ENTRIES {
        let mut event: raw::v4l2_event = zeroed();
        // SAFETY: one struct, alive for the call. Fails when there is no event (left).
        if unsafe { ioctl::dqevent(fd_of(fd.as_fd()), &mut event) }.is_err() {
            break;
        }
        if event.type_ == raw::V4L2_EVENT_SOURCE_CHANGE {
            // SAFETY: the member of this type; a number.
            let changes = unsafe { event.u.src_change.changes };
            has_changed |= changes & raw::V4L2_EVENT_SRC_CH_RESOLUTION != 0;
        }
    }
    has_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings(
        size: (u32, u32),
        blanking: (u32, u32),
        pixelclock: u64,
        interlaced: u32,
    ) -> Timings {
        let mut timings: raw::v4l2_dv_timings = zeroed();
        timings.__bindgen_anon_1.bt = raw::v4l2_bt_timings {
            width: size.0,
            height: size.1,
            hfrontporch: blanking.0,
            vsync: blanking.1,
            pixelclock,
            interlaced,
            ..Timings(zeroed()).bt()
        };
        Timings(timings)
    }

    #[test]
    fn timings_are_told_by_size_scan_and_rate() {
        // CEA-861: formats 4, 1, 5.
        let hd = timings((1280, 720), (370, 30), 74_250_000, 0);
        assert_eq!(hd.to_string(), "1280x720p60");
        let vga = timings((640, 480), (160, 45), 25_175_000, 0);
        assert_eq!(vga.to_string(), "640x480p59.94");
        let interlaced = timings((1920, 1080), (280, 45), 74_250_000, 1);
        assert_eq!(interlaced.to_string(), "1920x1080i60");
        assert_eq!(Timings(zeroed()).to_string(), "0x0p0");
    }

    #[test]
    fn what_has_no_input_says_nothing_of_it() {
        let null = super::super::open(std::path::Path::new("/dev/null")).expect("there");
        assert!(matches!(signal(&null), Signal::Untold));
        assert_eq!(watch_source(&null), Err(Errno::ENOTTY));
        assert!(!source_changed(&null));
    }
}
