//! What a failure means: why the run ended, what the operator reads, and how soon it is worth
//! trying again.
//!
//! In: retina's errors. Out: an [`End`], or "go on".
//! Not here: counting (tolerance), waiting (supervise).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::scrub::Scrub;
use crate::media::DownReason;

/// How soon a failed camera is worth another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// No TCP connection: look often and cheaply whether the port answers again.
    Probe,
    /// It answered, then something went wrong.
    Soon,
    /// It is there and in somebody's hands; tried as [`Pace::Soon`].
    Held,
    /// It answers with nothing that we can use; somebody must change a setting.
    Slow,
    /// It refuses our password; every attempt brings the account closer to being locked.
    Costly,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub reason: DownReason,
    /// For a person; scrubbed.
    pub detail: String,
    pub pace: Pace,
}

impl End {
    pub(in crate::source) fn new(reason: DownReason, detail: impl Into<String>) -> Self {
        let pace = match reason {
            DownReason::Unauthorized => Pace::Costly,
            DownReason::Unsupported => Pace::Slow,
            DownReason::Unreachable
            | DownReason::Stalled
            | DownReason::Errors
            | DownReason::Ended
            | DownReason::NoSignal
            | DownReason::Internal => Pace::Soon,
        };
        Self {
            reason,
            detail: detail.into(),
            pace,
        }
    }

    pub(super) fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// A request (`DESCRIBE`, `SETUP`, `PLAY`) failed.
    pub(super) fn of_request(method: &str, error: &retina::Error, scrub: &Scrub) -> Self {
        Self::of_response(method, error.status_code(), &error.to_string(), scrub)
    }

    fn of_response(method: &str, status: Option<u16>, text: &str, scrub: &Scrub) -> Self {
        let line = scrub.line(text);
        match status {
            Some(401) if text.contains("no credentials") => Self::new(
                DownReason::Unauthorized,
                "the camera asks for a user name and a password: none are configured",
            ),
            Some(401) => Self::new(
                DownReason::Unauthorized,
                "the camera refuses the user name or the password (401)",
            ),
            Some(403) => Self::new(
                DownReason::Unauthorized,
                format!("the camera forbids this stream to this user (403 to {method})"),
            ),
            // A relay says 404 until its publisher is there, so it is tried again soon.
            Some(404) => Self::new(
                DownReason::Unsupported,
                format!("the camera knows no such stream (404 to {method}): check the path"),
            )
            .at_pace(Pace::Soon),
            Some(status) if (300..600).contains(&status) => Self::new(
                DownReason::Unreachable,
                format!("the camera refuses {method}: {line}"),
            ),
            // A 200 whose content is of no use (no SDP, odd Transport header).
            Some(_) => Self::new(
                DownReason::Unsupported,
                format!("the camera's answer to {method} is of no use: {line}"),
            )
            .at_pace(Pace::Soon),
            None if text.starts_with(FRAMING) && !text.contains("at EOF") => Self::new(
                DownReason::Unsupported,
                format!("the camera's answer to {method} is not RTSP: {line}"),
            )
            .at_pace(Pace::Soon),
            None => Self::new(DownReason::Unreachable, format!("{method}: {line}")),
        }
    }
}

/// What an error in a running stream means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// One bad packet; the stream can be polled on.
    Packet,
    /// The rest of a fragmented picture whose head was lost to an error just before: no error of
    /// its own. A 30-packet picture with one bad packet is one error, not thirty.
    Tail,
    /// The connection is of no more use.
    Fatal(End),
}

/// Sorts an error of a running stream.
///
/// retina's errors cannot be inspected, only read. The words are held by tests against the real
/// library; an unknown one counts as a packet error, and so ends the run by its number.
pub(super) fn of_stream(error: &retina::Error, scrub: &Scrub) -> Fault {
    of_text(&error.to_string(), scrub)
}

fn of_text(text: &str, scrub: &Scrub) -> Fault {
    if text.starts_with(TAIL) {
        return Fault::Tail;
    }
    let reason = if text.starts_with(FRAMING) {
        if text.contains("at EOF") {
            DownReason::Ended
        } else {
            DownReason::Errors
        }
    } else if FATAL.iter().any(|head| text.starts_with(head)) {
        DownReason::Unreachable
    } else {
        return Fault::Packet;
    };
    Fault::Fatal(End::new(reason, scrub.line(text)))
}

/// Does this failed SETUP mean "not over this transport"? 461 says so (RFC 2326 section 11.3.15);
/// cameras that know only one transport also answer 400, 406, 451, 500 or 501, or agree and then
/// name the other one.
pub(super) fn is_transport_refused(error: &retina::Error) -> bool {
    match error.status_code() {
        Some(400 | 406 | 451 | 461 | 500 | 501) => true,
        Some(200) => {
            let text = error.to_string();
            text.contains("interleaved parameter") || text.contains("server_port parameter")
        }
        _ => false,
    }
}

const FRAMING: &str = "RTSP framing error";
const TAIL: &str = "FU-A has start bit unset while no frag in progress";
const FATAL: [&str; 5] = [
    "Error reading from RTSP peer",
    "Error writing to RTSP peer",
    "Error receiving UDP packet",
    "Failed precondition",
    "Internal error",
];

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::config::{Rtsp, Transport};

    fn scrub() -> Scrub {
        Scrub::new(&Rtsp {
            url: Url::parse("rtsp://h/").unwrap(),
            credentials: None,
            transport: Transport::Auto,
        })
    }

    #[test]
    fn a_refused_password_is_costly_and_a_refused_request_is_not() {
        let scrub = scrub();
        let of = |status, text| End::of_response("DESCRIBE", status, text, &scrub);
        let end = of(Some(401), "Received Unauthorized after trying digest auth");
        assert_eq!(
            (end.reason, end.pace),
            (DownReason::Unauthorized, Pace::Costly)
        );
        let end = of(Some(404), "404 Not Found");
        assert_eq!(
            (end.reason, end.pace),
            (DownReason::Unsupported, Pace::Soon)
        );
        let end = of(Some(503), "503 Service Unavailable");
        assert_eq!(
            (end.reason, end.pace),
            (DownReason::Unreachable, Pace::Soon)
        );
        let end = of(None, "RTSP framing error: Invalid RTSP message");
        assert_eq!(
            (end.reason, end.pace),
            (DownReason::Unsupported, Pace::Soon)
        );
        let end = of(None, "Error reading from RTSP peer: reset");
        assert_eq!(
            (end.reason, end.pace),
            (DownReason::Unreachable, Pace::Soon)
        );
    }

    #[test]
    fn a_bad_packet_is_tolerated_and_a_dead_connection_is_not() {
        let scrub = scrub();
        assert_eq!(of_text("Empty NAL\n\nconn: x", &scrub), Fault::Packet);
        assert_eq!(of_text("words nobody knows", &scrub), Fault::Packet);
        assert_eq!(of_text(TAIL, &scrub), Fault::Tail);
        let reason = |text| match of_text(text, &scrub) {
            Fault::Fatal(end) => Some(end.reason),
            Fault::Packet | Fault::Tail => None,
        };
        assert_eq!(
            reason("Error reading from RTSP peer: x"),
            Some(DownReason::Unreachable)
        );
        assert_eq!(
            reason("RTSP framing error: Invalid"),
            Some(DownReason::Errors)
        );
        assert_eq!(
            reason("RTSP framing error: Incomplete RTSP message at EOF (x)"),
            Some(DownReason::Ended)
        );
    }
}
