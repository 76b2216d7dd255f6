//! The options of openh264 that its safe wrapper does not reach: all of our `unsafe` for it.
//!
//! In: an encoder and a plain number. Out: done, or the code it refused with.
//! Not here: when and why (software).
#![allow(unsafe_code)]

use std::os::raw::{c_int, c_void};
use std::ptr;

use openh264::encoder::Encoder;
use openh264_sys2::{
    ENCODER_OPTION, ENCODER_OPTION_BITRATE, ENCODER_OPTION_FRAME_RATE,
    ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, ENCODER_OPTION_TRACE_LEVEL, SBitrateInfo, SEncParamExt,
    SM_FIXEDSLCNUM_SLICE, SPATIAL_LAYER_ALL, WELS_LOG_QUIET,
};

use super::EncodeError;

/// Silences the encoder. Works before its first picture, unlike every other option, and must
/// come before it: the wrapper silences only after initialising, which itself may write to
/// stderr.
pub(super) fn silence(encoder: &mut Encoder) -> Result<(), EncodeError> {
    let mut level = WELS_LOG_QUIET as c_int;
    set(
        encoder,
        ENCODER_OPTION_TRACE_LEVEL,
        "trace level",
        &mut level,
    )
}

/// Target bits per second. Only after the first picture.
pub(super) fn set_bitrate(encoder: &mut Encoder, bps: i32) -> Result<(), EncodeError> {
    let mut info = bitrate_info(bps);
    set(encoder, ENCODER_OPTION_BITRATE, "bit rate", &mut info)
}

/// Pictures per second. Only after the first picture.
pub(super) fn set_frame_rate(encoder: &mut Encoder, mut fps: f32) -> Result<(), EncodeError> {
    set(encoder, ENCODER_OPTION_FRAME_RATE, "frame rate", &mut fps)
}

/// Cuts every picture into `count` slices, each coded by one of `threads` threads. Only after the
/// first picture; the next one is a key frame.
pub(super) fn set_slices(
    encoder: &mut Encoder,
    count: u16,
    threads: u16,
) -> Result<(), EncodeError> {
    let mut params = SEncParamExt::default();
    // SAFETY: as in `set`; here the option's one struct (SEncParamExt) is written.
    let code = unsafe {
        encoder.raw_api().get_option(
            ENCODER_OPTION_SVC_ENCODE_PARAM_EXT,
            ptr::from_mut(&mut params).cast::<c_void>(),
        )
    };
    if code != 0 {
        let option = "parameters";
        return Err(EncodeError::Option { option, code });
    }
    params.iMultipleThreadIdc = threads;
    let slices = &mut params.sSpatialLayers[0].sSliceArgument;
    (slices.uiSliceMode, slices.uiSliceNum) = (SM_FIXEDSLCNUM_SLICE, u32::from(count));
    set(
        encoder,
        ENCODER_OPTION_SVC_ENCODE_PARAM_EXT,
        "slices",
        &mut params,
    )
}

fn bitrate_info(bps: i32) -> SBitrateInfo {
    SBitrateInfo {
        iLayer: SPATIAL_LAYER_ALL,
        iBitrate: bps,
    }
}

/// `T` must be the type that the header names for `option` (codec_app_def.h, ENCODER_OPTION).
fn set<T>(
    encoder: &mut Encoder,
    option: ENCODER_OPTION,
    name: &'static str,
    value: &mut T,
) -> Result<(), EncodeError> {
    // SAFETY: `raw_api` asks us to leave alone what the wrapper relies on: it reads none of these
    // options back. `set_option` reads one value of the option's type, synchronously: each caller
    // above passes that type (int for the trace level, SBitrateInfo for rates, float for frames),
    // alive for the call and not kept after it. `&mut Encoder` excludes a call from elsewhere.
    let code = unsafe {
        encoder
            .raw_api()
            .set_option(option, ptr::from_mut(value).cast::<c_void>())
    };
    if code == 0 {
        Ok(())
    } else {
        Err(EncodeError::Option { option: name, code })
    }
}
