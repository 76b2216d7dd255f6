//! Cameras of this machine: V4L2 devices.
//!
//! In: a device by its stable name, a wished mode, controls, demands. Out: source events.
//! Not here: pixels (decode), coding (encode).

pub mod sys;
