//! What the kernel says of this process (proc(5)).

use std::fmt;
use std::fs;
use std::time::Duration;

use super::out::Out;

/// Facts of one moment; `None` where /proc does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Memory in RAM.
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    /// User and system time together.
    pub cpu: Option<Duration>,
}

impl ProcessFacts {
    /// Reads /proc/self: memory of the kernel, so that the loop may do it for a scrape.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fds = fs::read_dir("/proc/self/fd").ok();
        Self {
            resident_bytes: status_field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
            threads: status_field(&status, "Threads:"),
            // The directory itself is open while it is read.
            open_fds: fds.map(|entries| (entries.count() as u64).saturating_sub(1)),
            cpu: cpu_time(&stat),
        }
    }
}

pub(super) fn write(out: &mut Out<'_>, facts: &ProcessFacts) -> fmt::Result {
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Memory in RAM.",
            facts.resident_bytes,
        ),
        ("process_open_fds", "Open file descriptors.", facts.open_fds),
        ("process_threads", "Threads.", facts.threads),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            out.gauge(name, help, value as f64)?;
        }
    }
    match facts.cpu {
        Some(cpu) => out.counter(
            "process_cpu_seconds",
            "User and system time.",
            cpu.as_secs_f64(),
        ),
        None => Ok(()),
    }
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// utime and stime, fields 14 and 15. The second field, the name in parentheses, may hold spaces
/// and parentheses itself.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1000 / TICKS)))
}

/// Ticks per second in /proc (USER_HZ), 100 on every architecture that we build for.
const TICKS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_threads() {
        let facts = ProcessFacts::read();
        assert!(facts.resident_bytes.unwrap() > 100_000);
        assert!(facts.open_fds.unwrap() >= 3);
        assert!(facts.threads.unwrap() >= 1);
        assert!(facts.cpu.is_some());
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 123 45 0 0 20 0 1 0 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1680)));
        assert_eq!(cpu_time(""), None);
        assert_eq!(cpu_time("7 (x) S 1"), None);
    }
}
