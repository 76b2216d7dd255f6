//! The log: lines for an operator on standard error, written by a thread of their own through a
//! bounded channel, so that a blocked terminal or journal never stops the loop. What does not fit
//! is lost and counted.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Lines that may wait to be written; further ones are dropped and counted.
const MAX_WAITING_LINES: usize = 1024;

/// Keeps the log alive; flushes it (for a bounded time) when dropped.
pub struct Log {
    lost: LostLines,
    _worker: WorkerGuard,
}

/// Counts the lines that were dropped because writing them would have blocked.
#[derive(Clone, Debug)]
pub struct LostLines(ErrorCounter);

impl LostLines {
    /// Of no log at all.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        let (writer, _worker) = tracing_appender::non_blocking(std::io::sink());
        Self(writer.error_counter())
    }

    /// Lines lost so far.
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

impl Log {
    /// The counter of this log.
    pub fn lost_lines(&self) -> LostLines {
        self.lost.clone()
    }
}

/// Starts the log. `filter` is `error`, `warn`, `info`, `debug`, `trace`, or per room
/// (`info,pinhole::gateway=debug`).
///
/// # Errors
///
/// A filter that cannot be read, in words.
pub fn start(filter: &str) -> Result<Log, String> {
    // str0m says much at info that only its authors need. What retina says (by the log crate) is
    // not heard at all: its errors come back to us as such.
    let filter = format!("warn,pinhole={filter}");
    let filter: Targets = filter.parse().map_err(|e: ParseError| e.to_string())?;
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let lost = LostLines(writer.error_counter());
    // journald stamps each line itself and shows no colours.
    let is_journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stderr(&stream));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(is_terminal && !is_journal)
        .with_target(false);
    let log = tracing_subscriber::registry().with(filter);
    if is_journal {
        log.with(lines.without_time()).init();
    } else {
        log.with(lines).init();
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(Log {
        lost,
        _worker: worker,
    })
}

/// Whether this stream (device and inode, as in `JOURNAL_STREAM`) is our standard error. The
/// variable alone says nothing: it is handed down, also to a program whose output goes elsewhere
/// (systemd.exec(5)).
fn is_stderr(stream: &str) -> bool {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    let facts = stderr.and_then(|stderr| File::from(stderr).metadata());
    facts.is_ok_and(|facts| stream == format!("{}:{}", facts.dev(), facts.ino()))
}

/// A panic is caught where it costs only one viewer or camera; here it gets its line. A library's
/// message may hold a dump of what a peer sent, so only the beginning of its first line is shown.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let first_line = message.lines().next().unwrap_or_default();
    let shown: String = first_line.chars().take(MAX_PANIC_MESSAGE).collect();
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, "panic: {shown}");
}

/// Characters of a panic's message that are logged.
const MAX_PANIC_MESSAGE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_standard_error_is_counts_as_the_journal() {
        let own = std::fs::metadata("/proc/self/fd/2").unwrap();
        assert!(is_stderr(&format!("{}:{}", own.dev(), own.ino())));
        assert!(!is_stderr(&format!("{}:{}", own.dev(), own.ino() + 1)));
        assert!(!is_stderr(""));
    }
}
