//! What systemd is told: that we serve, that the loop turns, that we end (sd_notify(3)).
//!
//! In: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of the unit. Out: datagrams, none of
//! which ever waits. Without a `NOTIFY_SOCKET` all of it does nothing.
//! Not here: any other thread than the loop's: the watchdog is fed by what it watches.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

/// The way to the service manager.
#[derive(Debug, Default)]
pub(super) struct Notify(Option<UnixDatagram>);

impl Notify {
    pub(super) fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self(Some(socket)),
            Err(error) => {
                warn!(%error, ?name, "systemd cannot be told anything (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    /// HTTP and media ports are open.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// Told to end.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, words: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(words.as_bytes())
        {
            debug!(%error, words, "systemd was not told"); // its queue is full: it is told again
        }
    }
}

/// `@` begins an abstract name.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// `WatchdogSec` of the unit: it restarts us when we are not heard for so long.
#[derive(Debug)]
pub(super) struct Watchdog {
    notify: Notify,
    /// Half of the unit's time; `None` where nobody watches.
    every: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(super) fn from_env(notify: Notify, now: Instant) -> Self {
        let every = period(
            env::var("WATCHDOG_USEC").ok().as_deref(),
            env::var("WATCHDOG_PID").ok().as_deref(),
            std::process::id(),
        );
        Self {
            notify,
            every,
            next: now,
        }
    }

    pub(super) fn notify(&self) -> &Notify {
        &self.notify
    }

    /// To be called in every turn.
    pub(super) fn feed(&mut self, now: Instant) {
        if let Some(every) = self.every
            && self.next <= now
        {
            self.next = now + every;
            self.notify.say("WATCHDOG=1");
        }
    }
}

/// How often to be heard (sd_watchdog_enabled(3): half of the time-out). `None` where nobody
/// listens, or listens to another process.
fn period(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service manager that listens, and what we speak to it by.
    fn manager() -> (UnixDatagram, Notify) {
        let (theirs, ours) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        (theirs, Notify(Some(ours)))
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut words = [0; 64];
        std::iter::from_fn(|| {
            let length = manager.recv(&mut words).ok()?;
            Some(String::from_utf8_lossy(&words[..length]).into_owned())
        })
        .collect()
    }

    #[test]
    fn the_watchdog_is_fed_twice_within_its_time_however_fast_the_loop_turns() {
        let (manager, notify) = manager();
        let start = Instant::now();
        let mut watchdog = Watchdog {
            notify,
            every: period(Some("30000000"), None, 7),
            next: start,
        };
        for ms in 0..60_000 {
            watchdog.feed(start + Duration::from_millis(ms));
        }
        assert_eq!(heard(&manager), ["WATCHDOG=1"; 4]);
    }

    #[test]
    fn a_manager_that_does_not_read_stops_nothing() {
        let (manager, notify) = manager();
        for _ in 0..100_000 {
            notify.ready();
        }
        assert!(!heard(&manager).is_empty());
        drop(manager);
        notify.stopping();
    }

    #[test]
    fn a_watchdog_for_somebody_else_is_not_fed() {
        assert_eq!(period(Some("1000000"), Some("8"), 7), None);
        let half_a_second = Some(Duration::from_millis(500));
        assert_eq!(period(Some("1000000"), Some("7"), 7), half_a_second);
        assert_eq!(period(None, None, 7), None);
        assert_eq!(period(Some("0"), None, 7), None);
        assert_eq!(period(Some("soon"), None, 7), None);
    }

    #[test]
    fn both_kinds_of_socket_names_are_understood() {
        let name = format!("pinhole-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        Notify(Some(connect(OsStr::new(&format!("@{name}"))).unwrap())).ready();
        assert_eq!(heard(&manager), ["READY=1"]);

        let path = env::temp_dir().join(name);
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        Notify(Some(connect(path.as_os_str()).unwrap())).stopping();
        std::fs::remove_file(path).unwrap();
        assert_eq!(heard(&manager), ["STOPPING=1"]);
    }
}
