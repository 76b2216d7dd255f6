//! The input that a camera or grabber takes its pictures from.
//!
//! In: an open node. Out: its name, and what the driver finds wrong with it.
//! Not here: what to do about it (signal).
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use v4l::v4l_sys as raw;

use super::kernel::{ioctl, libc_int, zeroed};
use super::{fd_of, text};

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub name: String,
    /// `V4L2_IN_ST_*`.
    pub status: u32,
    /// A digital one, as HDMI (`V4L2_IN_CAP_DV_TIMINGS`).
    pub is_digital: bool,
}

/// The number of the input in use. Some USB cameras are asked for it over their cable.
///
/// # Errors
/// `ENOTTY` where there are no inputs to choose from, `ENODEV` when the device is gone.
pub fn input_in_use(fd: impl AsFd) -> nix::Result<u32> {
    let mut number: libc_int = 0;
    // SAFETY: one number, alive for the call.
    unsafe { ioctl::g_input(fd_of(fd.as_fd()), &mut number) }?;
    Ok(number as u32)
}

/// Asks the driver about an input; a matter of microseconds, or of a word to the chip that it
/// drives.
///
/// # Errors
/// `EINVAL` where there is no such input, `ENODEV` when the device is gone.
pub fn input(fd: impl AsFd, number: u32) -> nix::Result<Input> {
    let mut input: raw::v4l2_input = zeroed();
    input.index = number;
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::enum_input(fd_of(fd.as_fd()), &mut input) }?;
    Ok(Input {
        name: text(&input.name),
        status: input.status,
        is_digital: input.capabilities & raw::V4L2_IN_CAP_DV_TIMINGS != 0,
    })
}
