//! Controls: numbers, flags, menus and buttons of a node.
//!
//! In: an open node, ids, values. Out: descriptions, values.
//! Not here: what was written in the configuration (control).
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use v4l::v4l_sys as raw;

use super::kernel::{ioctl, zeroed};
use super::{MAX_ENTRIES, fd_of, text};

/// Sets a control that holds a number, a flag or the index of a menu; a button is pressed by any
/// value.
///
/// # Errors
/// `EINVAL` where there is no such control, `ERANGE` for a value that it does not take, `EBUSY`
/// while it is in use, `EACCES` for one that can only be read.
pub fn set_control(fd: impl AsFd, id: u32, value: i64) -> nix::Result<()> {
    control_call(fd.as_fd(), id, value, true).map(drop)
}

/// The value of such a control.
///
/// # Errors
/// As [`set_control`].
pub fn control(fd: impl AsFd, id: u32) -> nix::Result<i64> {
    control_call(fd.as_fd(), id, 0, false)
}

fn control_call(fd: BorrowedFd<'_>, id: u32, value: i64, set: bool) -> nix::Result<i64> {
    let is_wide = control_info(fd, id)?.kind == raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64;
    let mut item: raw::v4l2_ext_control = zeroed();
    item.id = id;
    if is_wide {
        item.__bindgen_anon_1.value64 = value;
    } else {
        // A bitmask of 32 bits may have its top bit set.
        let narrow = i32::try_from(value).or_else(|_| u32::try_from(value).map(|v| v as i32));
        item.__bindgen_anon_1.value = narrow.map_err(|_| Errno::ERANGE)?;
    }
    let mut list: raw::v4l2_ext_controls = zeroed();
    // 0 (V4L2_CTRL_WHICH_CUR_VAL) lets controls of any class pass.
    list.count = 1;
    list.controls = &raw mut item;
    // SAFETY: the list and the one item that it points to are alive for the call.
    unsafe {
        match set {
            true => ioctl::s_ext_ctrls(fd_of(fd), &mut list)?,
            false => ioctl::g_ext_ctrls(fd_of(fd), &mut list)?,
        }
    };
    // SAFETY: the member that the control's type uses; both are numbers.
    Ok(unsafe {
        match is_wide {
            true => item.__bindgen_anon_1.value64,
            false => i64::from(item.__bindgen_anon_1.value),
        }
    })
}

/// One control as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlInfo {
    pub id: u32,
    /// As the driver writes it: "Power Line Frequency".
    pub name: String,
    /// `enum v4l2_ctrl_type`.
    pub kind: u32,
    pub min: i64,
    pub max: i64,
    pub step: u64,
    pub default: i64,
    /// `V4L2_CTRL_FLAG_*`.
    pub flags: u32,
}

/// Describes one control.
///
/// # Errors
/// `EINVAL` where there is no such control.
pub fn control_info(fd: impl AsFd, id: u32) -> nix::Result<ControlInfo> {
    let mut query: raw::v4l2_query_ext_ctrl = zeroed();
    query.id = id;
    // SAFETY: one struct, alive for the call.
    unsafe { ioctl::query_ext_ctrl(fd_of(fd.as_fd()), &mut query) }?;
    Ok(ControlInfo {
        id: query.id,
        name: text(&query.name.map(|c| c as u8)),
        kind: query.type_,
        min: query.minimum,
        max: query.maximum,
        step: query.step,
        default: query.default_value,
        flags: query.flags,
    })
}

/// All controls of a node (no compound ones), [`MAX_ENTRIES`] at most.
pub fn controls(fd: impl AsFd) -> Vec<ControlInfo> {
    let mut found: Vec<ControlInfo> = Vec::new();
    let mut id = 0;
    while let Ok(info) = control_info(fd.as_fd(), id | raw::V4L2_CTRL_FLAG_NEXT_CTRL) {
        if info.id <= id || found.len() >= MAX_ENTRIES as usize {
            break; // a driver that does not count upward would keep us for ever
        }
        id = info.id;
        found.push(info);
    }
    found
}

/// The words (or numbers) of a menu control, each with its index; gaps are left out.
pub fn menu(fd: impl AsFd, info: &ControlInfo) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let last = info
        .max
        .min(info.min.saturating_add(i64::from(MAX_ENTRIES)));
    for index in info.min.max(0)..=last {
        let mut query: raw::v4l2_querymenu = zeroed();
        (query.id, query.index) = (info.id, index as u32);
        // SAFETY: one struct, alive for the call.
        if unsafe { ioctl::querymenu(fd_of(fd.as_fd()), &mut query) }.is_err() {
            continue;
        }
        let is_number = info.kind == raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU;
        // SAFETY: the member that the control's type uses; both hold plain bytes.
        let (value, name) = unsafe { (query.__bindgen_anon_1.value, query.__bindgen_anon_1.name) };
        let word = match is_number {
            true => value.to_string(),
            false => text(&name),
        };
        found.push((index as u32, word));
    }
    found
}
