//! How hard the machine works for one camera, told when it changes and from time to time.
//!
//! In: overload's findings, the encoder's name, `/sys`. Out: [`Load`] reports.
//! Not here: when to step (overload).

use std::fs;
use std::time::{Duration, Instant};

use super::overload::{Overload, Step};
use crate::media::{Load, Strain};

/// Decides when a report is due.
#[derive(Debug, Default)]
pub struct Reporter {
    encoder: String,
    told: Option<(Instant, Option<Strain>, Step)>,
    is_news: bool,
}

impl Reporter {
    /// Another encoder codes, for a reason: as [`super::News::Chosen`] says it.
    pub fn set_encoder(&mut self, said: String) {
        self.encoder = said;
        self.is_news = true;
    }

    /// A report, when anything changed or the last one is old.
    pub fn poll(&mut self, now: Instant, overload: &Overload) -> Option<Load> {
        let step = overload.step();
        let strain = overload.strain();
        let is_same = |&(at, had, was): &(Instant, Option<Strain>, Step)| {
            now.saturating_duration_since(at) < EVERY && (had, was) == (strain, step)
        };
        if !self.is_news && self.told.as_ref().is_some_and(is_same) {
            return None;
        }
        self.is_news = false;
        self.told = Some((now, strain, step));
        let machine = Machine::read();
        Some(Load {
            encoder: self.encoder.clone(),
            strain,
            fps: step.fps,
            size: step.size,
            cost: overload.mean(),
            skipped: overload.skipped(),
            interval: Duration::from_secs(1) / step.fps.max(1),
            cpu_mhz: machine.mhz,
            cpu_max_mhz: machine.max_mhz,
            celsius: machine.celsius,
        })
    }
}

/// What the kernel says of the processor; boards slow it down when it is hot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Machine {
    mhz: Option<u32>,
    max_mhz: Option<u32>,
    celsius: Option<f32>,
}

impl Machine {
    /// Reads a few small files of `/sys`, which never wait for a disk.
    fn read() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
        let mhz = |name| {
            let kilohertz = number(&format!("{CPU}/{name}"))?;
            u32::try_from(kilohertz / 1000).ok()
        };
        let zones = (0..MAX_ZONES).filter_map(|n| number(&format!("{THERMAL}{n}/temp")));
        // Zones without a sensor answer with zero or nonsense.
        let sane = zones.filter(|millis| (1000..200_000).contains(millis));
        Self {
            mhz: mhz("scaling_cur_freq"),
            max_mhz: mhz("cpuinfo_max_freq"),
            celsius: sane.max().map(|millis| millis as f32 / 1000.0),
        }
    }
}

const CPU: &str = "/sys/devices/system/cpu/cpu0/cpufreq";
const THERMAL: &str = "/sys/class/thermal/thermal_zone";
const MAX_ZONES: u32 = 16;
/// Without a change.
const EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::overload::Cost;
    use super::*;

    #[test]
    fn changes_are_told_at_once_and_the_rest_every_five_seconds() {
        let mut reporter = Reporter::default();
        reporter.set_encoder("openh264: as configured".to_owned());
        let mut overload = Overload::new(Step {
            fps: 30,
            size: (640, 480),
        });
        let start = Instant::now();
        let first = reporter.poll(start, &overload).expect("news");
        assert_eq!(first.encoder, "openh264: as configured");
        assert_eq!(
            (first.fps, first.size, first.strain),
            (30, (640, 480), None)
        );
        let second = start + Duration::from_secs(1);
        assert!(reporter.poll(second, &overload).is_none());
        reporter.set_encoder("other".to_owned());
        assert!(reporter.poll(second, &overload).is_some());
        let mut now = second;
        while overload
            .push_picture(now, Cost::coding(Duration::from_millis(40)))
            .is_none()
        {
            now += Duration::from_millis(40);
        }
        let slower = reporter.poll(now, &overload).expect("a step");
        assert_eq!((slower.fps, slower.strain), (20, Some(Strain::Cost)));
        assert_eq!(slower.cost, Duration::from_millis(40));
        assert!(
            reporter
                .poll(now + Duration::from_secs(4), &overload)
                .is_none()
        );
        assert!(
            reporter
                .poll(now + Duration::from_secs(5), &overload)
                .is_some()
        );
    }
}
