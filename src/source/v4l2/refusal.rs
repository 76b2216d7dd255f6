//! What the kernel's errors mean to whoever runs the cameras, and when another try makes sense.
//!
//! In: an error, what was being done. Out: the end of a run.
//! Not here: errors that a run survives (capture).

use std::path::Path;

use nix::errno::Errno;

use super::names::Names;
use crate::config::DeviceName;
use crate::media::DownReason;
use crate::source::rtsp::verdict::{End, Pace};

/// Another try of the same would end the same.
pub(super) fn unsupported(detail: String) -> End {
    End {
        reason: DownReason::Unsupported,
        detail,
        pace: Pace::Slow,
    }
}

/// Nothing goes by this name now.
pub(super) fn absent(device: &DeviceName, names: &Names) -> End {
    let known = names.known();
    let known = match known.is_empty() {
        true => "there is no camera at all".to_owned(),
        false => format!("there are {}", known.join(", ")),
    };
    End {
        reason: DownReason::Unreachable,
        detail: format!("{device} is not plugged in; {known}"),
        pace: Pace::Probe,
    }
}

/// Why the kernel refused, in words that say what to do.
#[allow(clippy::wildcard_enum_match_arm)] // the kernel's errors
pub(super) fn refused(path: &Path, doing: &str, errno: Errno) -> End {
    let path = path.display();
    let (reason, pace, detail) = match errno {
        Errno::ENODEV | Errno::ENXIO | Errno::ENOENT => (
            DownReason::Unreachable,
            Pace::Probe,
            format!("{path} is gone"),
        ),
        Errno::EACCES => (
            DownReason::Unreachable,
            Pace::Soon,
            format!("{path}: permission denied; the user must be in the group \"video\""),
        ),
        // No mode of a file gives this one: it is what a control group's list of devices says.
        Errno::EPERM => (
            DownReason::Unreachable,
            Pace::Soon,
            format!(
                "{path}: refused by the sandbox of the service or container; systemd's unit needs \
                 DeviceAllow=char-video4linux, and videodev loaded when it starts (else restart it)"
            ),
        ),
        Errno::EBUSY => (
            DownReason::Unreachable,
            Pace::Held,
            format!("{path} is in use by another program"),
        ),
        Errno::ENOSPC => (
            DownReason::Unreachable,
            Pace::Soon,
            format!("{path}: the USB bus has no room left; take a smaller size or rate"),
        ),
        other => (
            DownReason::Errors,
            Pace::Soon,
            format!("{path}: {doing}: {} ({other:?})", other.desc()),
        ),
    };
    End {
        reason,
        detail,
        pace,
    }
}

/// Why the driver ended a run.
#[allow(clippy::wildcard_enum_match_arm)] // the kernel's errors
pub(super) fn stopped(errno: Errno) -> End {
    let (reason, pace, detail) = match errno {
        Errno::ENODEV | Errno::ENXIO => (
            DownReason::Unreachable,
            Pace::Probe,
            "the camera was unplugged".to_owned(),
        ),
        other => (
            DownReason::Errors,
            Pace::Soon,
            format!("the driver stopped: {} ({other:?})", other.desc()),
        ),
    };
    End {
        reason,
        detail,
        pace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whether_the_group_or_the_sandbox_is_to_blame() {
        let told = |errno| refused(Path::new("/dev/video0"), "opening", errno).detail;
        assert!(told(Errno::EACCES).contains("group \"video\""));
        assert!(told(Errno::EPERM).contains("DeviceAllow"));
        assert!(!told(Errno::EPERM).contains("group"));
    }
}
