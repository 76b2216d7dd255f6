//! Renders `/metrics`: OpenMetrics text, every name beginning with `pinhole_`.
//!
//! In: a [`Snapshot`] of what the loop knows. Out: text.
//! Not here: counting (where it happens), serving (net::http).
//!
//! Labels are cameras and fixed words only: viewers come and go, and a label for each would grow
//! a monitoring server's memory for ever. `/api/sessions` tells of each viewer.

mod cameras;
mod out;
mod process;
mod sessions;
#[cfg(test)]
mod tests;
mod timings;
mod traffic;

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use self::out::Out;
pub use self::process::ProcessFacts;
use crate::gateway;
use crate::net::udp;
use crate::whep::status::{CameraStatus, HttpCounters, SessionStatus, Timings};

/// What one scrape tells.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub cameras: Vec<CameraStatus>,
    pub sessions: Vec<SessionStatus>,
    pub gateway: gateway::Counters,
    pub udp: udp::Counters,
    pub http: HttpCounters,
    /// Log lines that found the log writer behind, and were dropped.
    pub log_lines_lost: u64,
    /// Threads that hang in a camera's driver now.
    pub abandoned_threads: usize,
    /// Threads that open an encoder or let one go now.
    pub encoder_threads: usize,
    /// Streams that a camera's driver did not stop.
    pub abandoned_streams: usize,
    /// From [`Timings::scrape`].
    pub timings: Timings,
    pub process: ProcessFacts,
    /// Since start, by the monotonic clock.
    pub uptime: Duration,
}

/// The text of `/metrics`.
pub fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("pinhole");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::with_capacity(16 << 10);
    let encoded = text::encode(&mut text, &registry);
    encoded.expect("writing to a String does not fail");
    text
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauges("build_info", "This Pinhole.", [(version, 1.0)])?;
        let uptime = self.uptime.as_secs_f64();
        out.gauge("uptime_seconds", "Since start.", uptime)?;
        cameras::write(&mut out, &self.cameras)?;
        sessions::viewers(&mut out, &self.sessions)?;
        sessions::counted(&mut out, &self.gateway)?;
        traffic::media(&mut out, &self.udp)?;
        traffic::http(&mut out, &self.http)?;
        out.each(&[
            (
                "log_lines_lost",
                "Log lines that found the log writer behind.",
                self.log_lines_lost,
            ),
            (
                "abandoned_streams",
                "Streams that a camera's driver did not stop.",
                self.abandoned_streams as u64,
            ),
        ])?;
        out.gauge(
            "abandoned_threads",
            "Threads that hang in a camera's driver.",
            self.abandoned_threads as f64,
        )?;
        out.gauge(
            "encoder_threads",
            "Threads that open an encoder or let one go; for longer than seconds in a driver that hangs.",
            self.encoder_threads as f64,
        )?;
        timings::write(&mut out, &self.timings)?;
        timings::stages(&mut out, &self.cameras)?;
        process::write(&mut out, &self.process)
    }
}
