//! Everything across cameras and viewers, in simulated time: the real gateway, viewers that are a
//! second str0m each, a seeded lossy link between them. No clock is read and nothing sleeps, so
//! minutes pass in milliseconds. Cameras, links and garbage follow a printed seed; ICE, DTLS and
//! SSRCs are random inside str0m, so two runs differ by a few datagrams: bounds must hold for all.
#![allow(clippy::wildcard_enum_match_arm, clippy::unwrap_used)] // a test panics at what it does not expect
#![allow(clippy::print_stdout)] // seeds and figures

mod camera;
mod link;
mod peer;
mod world;

mod cameras;
mod ice;
mod join;
mod loss;
mod memory;
mod offers;
mod rsa;
mod soak;
mod storm;
mod whep;

use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
