//! Grabbers with nothing at their input: many go on delivering noise, blue or the last picture,
//! and only their driver knows.
//!
//! In: an open node. Out: what is missing, for a person; an HDMI input that follows its source.
//! Not here: cameras that fall silent (capture).

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use v4l::v4l_sys as raw;

use super::refusal::refused;
use super::shared::Shared;
use super::sys::{self, Input, Node, Signal};
use crate::source::rtsp::verdict::End;

/// What an input lacks; `None` where all is well or the driver does not say.
pub(super) fn missing(fd: impl AsFd, input: u32) -> Option<String> {
    let input = sys::input(fd, input).ok()?;
    let what = what(&input)?;
    Some(match input.name.is_empty() {
        true => what.to_owned(),
        false => format!("{what} at the input \"{}\"", input.name),
    })
}

/// As [`missing`], after having waited for what is missing.
pub(super) fn still_missing(fd: impl AsFd, input: u32, shared: &Shared) -> Option<String> {
    let until = Instant::now() + WAIT;
    loop {
        shared.beat("waiting for a signal");
        let missing = missing(fd.as_fd(), input)?;
        if Instant::now() >= until || shared.is_stopped() {
            return Some(missing);
        }
        thread::sleep(LOOK);
    }
}

/// Has an HDMI input expect what it receives, and tells what that is.
pub(super) fn follow(node: &Node, path: &Path) -> Result<Signal, End> {
    // Before it is asked for: no change falls between the two. Most cameras have no such events.
    let _ = sys::watch_source(node.fd());
    let signal = sys::signal(node.fd());
    if let Signal::Here(timings) = &signal {
        let set = sys::set_timings(node.fd(), timings);
        set.map_err(|errno| refused(path, "setting the timings", errno))?;
    }
    Ok(signal)
}

/// What is received, for a person.
pub(super) fn note(signal: &Signal) -> Option<String> {
    match signal {
        Signal::Untold => None,
        Signal::Faulty(fault) => Some(format!("there is {fault} at the input")),
        Signal::Here(timings) => Some(format!("the input receives {timings}")),
    }
}

/// What the source has changed to since it was `followed`. Drivers tell of changes that are none,
/// and of ours, too.
pub(super) fn change(fd: impl AsFd, followed: &Signal) -> Option<String> {
    match (sys::signal(fd), followed) {
        (Signal::Here(now), Signal::Here(before)) if now == *before => None,
        (Signal::Here(now), _) => Some(now.to_string()),
        (Signal::Untold, _) => Some("another format".to_owned()),
        // Nothing to open it for. It tells again when there is a signal.
        (Signal::Faulty(_), _) => None,
    }
}

/// What is wrong with the digital signal that the node receives, for a person.
pub(super) fn fault(fd: impl AsFd) -> Option<String> {
    match sys::signal(fd) {
        Signal::Faulty(fault) => Some(format!("{fault} at the input")),
        Signal::Here(_) | Signal::Untold => None,
    }
}

/// Of the flags those that no picture survives. Analogue decoders set the others, loss of colour
/// or of line lock, in passing and with pictures that can well be seen.
fn what(input: &Input) -> Option<&'static str> {
    let unlocked = match input.is_digital {
        true => raw::V4L2_IN_ST_NO_SYNC | raw::V4L2_IN_ST_NO_H_LOCK,
        false => raw::V4L2_IN_ST_NO_SYNC,
    };
    let names = [
        (raw::V4L2_IN_ST_NO_POWER, "no power"),
        (raw::V4L2_IN_ST_NO_SIGNAL, "no signal"),
        (raw::V4L2_IN_ST_NO_CARRIER, "no signal"),
        (unlocked, "a signal that cannot be locked on to"),
    ];
    let hit = names.iter().find(|(flags, _)| input.status & flags != 0);
    hit.map(|(_, name)| *name)
}

/// Between two looks while a camera runs; a signal that is missing is told so late at most.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// As long as the longest pause between two attempts, so that a signal is hardly ever missed.
const WAIT: Duration = Duration::from_secs(10);
/// A viewer sees a signal that is back so much later.
const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: u32, is_digital: bool) -> Option<&'static str> {
        what(&Input {
            name: "HDMI".to_owned(),
            status,
            is_digital,
        })
    }

    #[test]
    fn flags_of_a_lost_picture_count_and_flags_of_a_bad_one_do_not() {
        let unlocked = Some("a signal that cannot be locked on to");
        for is_digital in [false, true] {
            assert_eq!(found(0, is_digital), None);
            let none = raw::V4L2_IN_ST_NO_SIGNAL | raw::V4L2_IN_ST_NO_SYNC;
            assert_eq!(found(none, is_digital), Some("no signal"));
            let power = raw::V4L2_IN_ST_NO_POWER | none;
            assert_eq!(found(power, is_digital), Some("no power"));
            assert_eq!(found(raw::V4L2_IN_ST_NO_SYNC, is_digital), unlocked);
            let passing = raw::V4L2_IN_ST_NO_COLOR | raw::V4L2_IN_ST_HFLIP;
            assert_eq!(found(passing, is_digital), None);
        }
        assert_eq!(found(raw::V4L2_IN_ST_NO_H_LOCK, true), unlocked);
        assert_eq!(found(raw::V4L2_IN_ST_NO_H_LOCK, false), None);
    }

    #[test]
    fn a_node_without_inputs_lacks_nothing() {
        let null = sys::open(Path::new("/dev/null")).expect("there");
        assert!(sys::input_in_use(&null).is_err());
        assert_eq!(missing(&null, 0), None);
    }
}
