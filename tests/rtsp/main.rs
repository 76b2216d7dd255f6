//! RTSP cameras, real ones and one that misbehaves on command, through `source::start`.
//!
//! Tests that need a tool which is not there say "skipped: ..." and pass, or fail where
//! `PINHOLE_REQUIRE_ALL=1`. All traffic stays on 127.0.0.1.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, not only tests"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "foreign enums, and events of no interest"
)]

mod fault_camera;
mod faults;
mod gst;
mod h264;
mod servers;
mod vlc;
mod watch;
