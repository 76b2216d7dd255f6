//! The kernel's structs and calls as they are.
//!
//! In: nothing. Out: structs of zeroes, calls.
//! Not here: what they mean (the modules around).
#![allow(unsafe_code)]

use std::mem;

use v4l::v4l_sys as raw;

/// For the kernel's plain structs of numbers, arrays, unions and pointers alone.
pub(super) fn zeroed<T: Plain>() -> T {
    // SAFETY: `Plain` says so.
    unsafe { mem::zeroed() }
}

/// A kernel struct that is valid with all bytes zero.
pub(super) trait Plain {}

impl<T: Plain, const N: usize> Plain for [T; N] {}

macro_rules! plain {
    ($($name:ident = $wide:expr, $narrow:expr;)*) => {
        $(
            impl Plain for raw::$name {}
            // The kernel knows its calls by these sizes: another one is another call.
            #[cfg(target_pointer_width = "64")]
            const _: () = assert!(mem::size_of::<raw::$name>() == $wide);
            #[cfg(target_pointer_width = "32")]
            const _: () = {
                let (sizes, mut fits, mut n): (&[usize], bool, usize) = (&$narrow, false, 0);
                while n < sizes.len() {
                    fits |= mem::size_of::<raw::$name>() == sizes[n];
                    n += 1;
                }
                assert!(fits);
            };
        )*
    };
}

// Bytes with 64-bit and with 32-bit pointers. In 32 bits two sizes stand for 32- and 64-bit time,
// three where i386 packs 64-bit numbers more tightly than ARM as well.
plain! {
    v4l2_buffer = 88, [68, 80];
    v4l2_plane = 64, [60];
    v4l2_format = 208, [204];
    v4l2_pix_format = 48, [48];
    v4l2_pix_format_mplane = 192, [192];
    v4l2_plane_pix_format = 20, [20];
    v4l2_requestbuffers = 20, [20];
    v4l2_ext_control = 20, [20];
    v4l2_ext_controls = 32, [24];
    v4l2_query_ext_ctrl = 232, [232];
    v4l2_querymenu = 44, [44];
    v4l2_encoder_cmd = 40, [40];
    v4l2_event = 136, [120, 128, 136];
    v4l2_event_subscription = 32, [32];
    v4l2_selection = 64, [64];
    v4l2_dv_timings = 132, [132];
    v4l2_streamparm = 204, [204];
    v4l2_captureparm = 40, [40];
    v4l2_outputparm = 40, [40];
    v4l2_capability = 104, [104];
    v4l2_fmtdesc = 64, [64];
    v4l2_input = 80, [76, 80];
}

/// The calls themselves. nix gets the request type right on musl too.
pub(super) mod ioctl {
    use super::{libc_int, raw};
    use nix::{ioctl_read, ioctl_readwrite, ioctl_write_ptr};

    ioctl_read!(querycap, b'V', 0, raw::v4l2_capability);
    ioctl_readwrite!(enum_fmt, b'V', 2, raw::v4l2_fmtdesc);
    ioctl_readwrite!(g_fmt, b'V', 4, raw::v4l2_format);
    ioctl_readwrite!(s_fmt, b'V', 5, raw::v4l2_format);
    ioctl_readwrite!(reqbufs, b'V', 8, raw::v4l2_requestbuffers);
    ioctl_readwrite!(querybuf, b'V', 9, raw::v4l2_buffer);
    ioctl_readwrite!(qbuf, b'V', 15, raw::v4l2_buffer);
    ioctl_readwrite!(dqbuf, b'V', 17, raw::v4l2_buffer);
    ioctl_write_ptr!(streamon, b'V', 18, libc_int);
    ioctl_write_ptr!(streamoff, b'V', 19, libc_int);
    ioctl_readwrite!(s_parm, b'V', 22, raw::v4l2_streamparm);
    ioctl_readwrite!(enum_input, b'V', 26, raw::v4l2_input);
    ioctl_readwrite!(querymenu, b'V', 37, raw::v4l2_querymenu);
    ioctl_read!(g_input, b'V', 38, libc_int);
    ioctl_readwrite!(g_ext_ctrls, b'V', 71, raw::v4l2_ext_controls);
    ioctl_readwrite!(s_ext_ctrls, b'V', 72, raw::v4l2_ext_controls);
    ioctl_readwrite!(encoder_cmd, b'V', 77, raw::v4l2_encoder_cmd);
    ioctl_readwrite!(s_dv_timings, b'V', 87, raw::v4l2_dv_timings);
    ioctl_read!(dqevent, b'V', 89, raw::v4l2_event);
    ioctl_write_ptr!(subscribe_event, b'V', 90, raw::v4l2_event_subscription);
    ioctl_readwrite!(s_selection, b'V', 95, raw::v4l2_selection);
    ioctl_read!(query_dv_timings, b'V', 99, raw::v4l2_dv_timings);
    ioctl_readwrite!(query_ext_ctrl, b'V', 103, raw::v4l2_query_ext_ctrl);
}

#[allow(non_camel_case_types)]
pub(super) type libc_int = std::os::raw::c_int;
