//! What `uvcvideo` does only when it is told how: key frames on demand of USB cameras that code.
//!
//! In: an open node. Out: the node has V4L2's control for it, where the camera can do it.
//! Not here: using that control (controls).
//!
//! Such cameras have the "picture type" control of the USB Video Class H.264 Payload 1.0 (section
//! 3.3.9) in an extension unit. The driver knows no extension unit, but lets a program say which
//! part of one is which V4L2 control (kernel documentation, userspace-api/media/drivers/uvcvideo);
//! from then on it is the same as of any other driver.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::AsFd;

use nix::errno::Errno;
use v4l::v4l_sys as raw;

use super::fd_of;

/// `struct uvc_xu_control_mapping`, of a header that the bindings do not read.
#[repr(C)]
struct Mapping {
    id: u32,
    name: [u8; 32],
    entity: [u8; 16],
    selector: u8,
    size: u8,
    offset: u8,
    v4l2_type: u32,
    data_type: u32,
    menu_info: *const c_void,
    menu_count: u32,
    reserved: [u32; 4],
}

// The kernel knows its calls by these sizes.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Mapping>() == 96);
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<Mapping>() == 88);

nix::ioctl_readwrite!(ctrl_map, b'u', 0x20, Mapping);

/// Gives the node `V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME`: 1 is the order. Nothing happens where it
/// has it.
///
/// # Errors
/// `ENOENT`: the camera cannot do it. `ENOTTY`: this is no USB camera.
pub fn offer_key_frames(fd: impl AsFd) -> nix::Result<()> {
    let mut mapping = Mapping {
        id: raw::V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME,
        name: [0; 32], // the kernel has one
        entity: H264_UNIT,
        selector: PICTURE_TYPE,
        size: 16,
        offset: 16,
        // Of a button the driver sends all bits, and no kind of picture has all bits.
        v4l2_type: raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN,
        data_type: UNSIGNED,
        menu_info: std::ptr::null(),
        menu_count: 0,
        reserved: [0; 4],
    };
    // SAFETY: one struct, alive for the call; its pointer is for menus, of which it has none.
    match unsafe { ctrl_map(fd_of(fd.as_fd()), &mut mapping) } {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The extension unit's GUID, `A29E7641-DE04-47E3-8B2B-F4341AFF003B`, as USB orders its bytes.
const H264_UNIT: [u8; 16] = [
    0x41, 0x76, 0x9e, 0xa2, 0x04, 0xde, 0xe3, 0x47, 0x8b, 0x2b, 0xf4, 0x34, 0x1a, 0xff, 0x00, 0x3b,
];
/// Its control: 16 bits that name a layer (0: the only one), then 16 of a kind, of which 1 is an
/// IDR picture.
const PICTURE_TYPE: u8 = 9;
/// `UVC_CTRL_DATA_TYPE_UNSIGNED`.
const UNSIGNED: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_usb_camera_says_so() {
        let null = super::super::open(std::path::Path::new("/dev/null")).expect("there");
        assert_eq!(offer_key_frames(&null), Err(Errno::ENOTTY));
    }
}
