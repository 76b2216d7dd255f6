//! One run of an RTSP camera: DESCRIBE, SETUP of its H.264 stream alone, PLAY, access units.
//!
//! In: a camera, what is known about its transport. Out: [`SourceEvent`]s while it plays, and how
//! the run ended, with the session still open so that the end is told before it is let go.
//! Not here: when to try again (supervise).
//!
//! What retina (the RTSP client below this) does not do, and what follows from it:
//! - It has no time-outs: every step here has a named one.
//! - It sends no RTCP: a camera cannot be asked for a key frame, both abilities are false.
//! - Over UDP it has no reorder buffer. A packet that comes late counts twice: the gap before it
//!   breaks the picture, the packet itself is thrown away, and the stream then waits for the next
//!   key frame. On a LAN packets of one flow do not overtake each other; elsewhere every
//!   overtaking costs up to one GOP. Hence TCP first.
//! - It keeps one SPS and one PPS. Sets in the stream replace those of the SDP; both are written
//!   in front of each IDR.
//! - It has no bound on the size of one message or picture: they grow until a time-out of ours
//!   ends the run, at most link rate times the longest of them.

pub mod connect;
mod feed;
mod gate;
mod scrub;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use retina::client::{
    Credentials, Demuxed, Described, PlayOptions, Session, SessionGroup, SessionOptions,
    SetupOptions, TcpTransportOptions, TeardownPolicy, Transport, UdpTransportOptions,
    UnknownRtcpSsrcPolicy,
};
use retina::codec::FrameFormat;
use tokio::time::{Instant, timeout};

use self::feed::Feed;
use self::scrub::Scrub;
use self::verdict::{End, is_transport_refused};
use super::EventSender;
use crate::config::{self, Rtsp};
use crate::media::{Abilities, CameraId, DownReason, SourceEvent};

/// Connection, DESCRIBE and its authentication. Cameras that wake an encoder first need seconds.
pub const DESCRIBE_LIMIT: Duration = Duration::from_secs(10);

/// One SETUP.
pub const SETUP_LIMIT: Duration = Duration::from_secs(5);

/// PLAY: some servers answer it only after their pipeline runs.
pub const PLAY_LIMIT: Duration = Duration::from_secs(10);

/// The first picture may take this long, however short the camera's `stall`.
pub const FIRST_PICTURE_LIMIT: Duration = Duration::from_secs(5);

/// Pictures come, but no key frame: nothing can be shown. A new session usually begins with one.
/// Twice the longest key-frame interval that cameras offer (some "smart" codecs: 30 s).
pub const KEY_FRAME_LIMIT: Duration = Duration::from_secs(60);

/// How long a TEARDOWN may delay what comes next (closing, the next attempt).
pub const TEARDOWN_LIMIT: Duration = Duration::from_secs(1);

/// Which of the two a session uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Tcp,
    Udp,
}

/// What one run needs.
pub(crate) struct Run {
    pub(crate) id: CameraId,
    pub(crate) camera: config::Camera,
    pub(crate) rtsp: Rtsp,
    /// Where to connect to: the camera's URL, or that of the address that answered.
    pub(crate) url: url::Url,
    /// The transport that worked last time, if any.
    pub(crate) known: Option<Wire>,
    /// Follows this run's TEARDOWN.
    pub(crate) group: Arc<SessionGroup>,
    pub(crate) teardown: TeardownPolicy,
    pub(crate) events: EventSender,
}

/// How a run ended.
pub(crate) struct Finished {
    pub(crate) end: End,
    /// From the first picture handed on to the end.
    pub(crate) played: Duration,
    /// The transport that is known to work, if any.
    pub(crate) known: Option<Wire>,
    /// The session, if there still is one: to be dropped (which sends the TEARDOWN) only after
    /// the end was told.
    pub(crate) session: Option<Box<dyn Send>>,
}

impl Finished {
    pub(crate) fn before_play(end: End, known: Option<Wire>) -> Self {
        Self {
            end,
            played: Duration::ZERO,
            known,
            session: None,
        }
    }
}

impl Run {
    /// Runs until the camera, an error or a limit ends it.
    pub(crate) async fn run(self) -> Finished {
        let scrub = Scrub::new(&self.rtsp);
        let mut session = match self.describe(&scrub).await {
            Ok(session) => session,
            Err(end) => return Finished::before_play(end, self.known),
        };
        let (stream, wire) = match self.setup(&mut session, &scrub).await {
            Ok(chosen) => chosen,
            Err(end) => {
                return Finished {
                    session: Some(Box::new(session)),
                    ..Finished::before_play(end, self.known)
                };
            }
        };
        let demuxed = match play(session, &scrub).await {
            Ok(demuxed) => demuxed,
            Err(end) => return Finished::before_play(end, None),
        };
        let _ = self.say(SourceEvent::Playing(Abilities::default())).await;
        let note = scrub.line(&describe_stream(&demuxed, stream, wire));
        let _ = self.say(SourceEvent::Note(note)).await;
        self.feed(demuxed, wire, scrub).await
    }

    async fn describe(&self, scrub: &Scrub) -> Result<Session<Described>, End> {
        let credentials = self.rtsp.credentials.as_ref().map(|c| Credentials {
            username: c.username.clone(),
            password: c.password.expose().to_owned(),
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent(USER_AGENT.to_owned())
            .session_group(self.group.clone())
            .teardown(self.teardown);
        match timeout(DESCRIBE_LIMIT, Session::describe(self.url.clone(), options)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(End::of_request("DESCRIBE", &error, scrub)),
            Err(_) => Err(silent("DESCRIBE", DESCRIBE_LIMIT)),
        }
    }

    /// Sets up the first H.264 stream, over the transport that is configured or works.
    async fn setup(
        &self,
        session: &mut Session<Described>,
        scrub: &Scrub,
    ) -> Result<(usize, Wire), End> {
        let stream = h264_stream(session, scrub)?;
        let wires: &[Wire] = match (self.rtsp.transport, self.known) {
            (config::Transport::Tcp, _) => &[Wire::Tcp],
            (config::Transport::Udp, _) => &[Wire::Udp],
            (config::Transport::Auto, Some(Wire::Udp)) => &[Wire::Udp, Wire::Tcp],
            (config::Transport::Auto, _) => &[Wire::Tcp, Wire::Udp],
        };
        let mut end = silent("SETUP", SETUP_LIMIT);
        for &wire in wires {
            let options = SetupOptions::default()
                .transport(wire.transport())
                // Annex B, SPS and PPS in front of each key frame.
                .frame_format(FrameFormat::SIMPLE);
            match timeout(SETUP_LIMIT, session.setup(stream, options)).await {
                Ok(Ok(())) => return Ok((stream, wire)),
                Ok(Err(error)) if is_transport_refused(&error) => {
                    end = self.refused(wire, &error, scrub);
                }
                Ok(Err(error)) => return Err(End::of_request("SETUP", &error, scrub)),
                Err(_) => return Err(silent("SETUP", SETUP_LIMIT)),
            }
        }
        Err(end)
    }

    /// The camera refuses `wire`, and no other is left to try.
    fn refused(&self, wire: Wire, error: &retina::Error, scrub: &Scrub) -> End {
        let configured = match self.rtsp.transport {
            config::Transport::Auto => None,
            config::Transport::Tcp => Some("tcp"),
            config::Transport::Udp => Some("udp"),
        };
        match (error.status_code(), configured) {
            (Some(461), Some(word)) => End::new(
                DownReason::Unsupported,
                format!(
                    "the camera refuses {wire} (461): transport is \"{word}\", \"auto\" would try the other"
                ),
            ),
            (Some(461), None) => End::new(
                DownReason::Unsupported,
                "the camera refuses TCP and UDP (461)",
            ),
            _ => End::of_request("SETUP", error, scrub),
        }
    }

    /// Hands pictures on until something ends it.
    async fn feed(self, demuxed: Demuxed, wire: Wire, scrub: Scrub) -> Finished {
        let mut demuxed = Box::new(demuxed);
        let mut feed = Feed::new(&self.camera, self.id, self.events, scrub);
        let end = feed.run(&mut demuxed).await;
        let played = feed.first_handed_on.map_or(Duration::ZERO, |first| {
            Instant::now().saturating_duration_since(first)
        });
        Finished {
            end,
            played,
            // Where nothing came through, the next run begins with TCP again.
            known: feed.first_handed_on.map(|_| wire),
            session: Some(demuxed),
        }
    }

    async fn say(&self, event: SourceEvent) -> Result<(), ()> {
        self.events.send((self.id, event)).await.map_err(|_| ())
    }
}

impl Wire {
    fn transport(self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp(TcpTransportOptions::default()),
            Self::Udp => Transport::Udp(UdpTransportOptions::default()),
        }
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// The first H.264 stream; what is offered instead where there is none.
fn h264_stream(session: &Session<Described>, scrub: &Scrub) -> Result<usize, End> {
    let streams = session.streams();
    let is_h264 = |s: &retina::client::Stream| s.media() == "video" && s.encoding_name() == "h264";
    if let Some(found) = streams.iter().position(is_h264) {
        return Ok(found);
    }
    let offered = streams
        .iter()
        .take(MAX_NAMED)
        .map(|s| format!("{}/{}", s.media(), s.encoding_name()))
        .collect::<Vec<_>>()
        .join(", ");
    let offered = scrub.line(&offered);
    let has_video = streams.iter().any(|s| s.media() == "video");
    let detail = match (streams.is_empty(), has_video) {
        (true, _) => "the camera offers no streams at all: check the path of its URL".to_owned(),
        (false, true) => format!(
            "the camera offers {offered}, and only H.264 video can be used: choose H.264 in its \
             settings, or the path of a stream that has it"
        ),
        (false, false) => {
            format!("the camera offers {offered} and no video: check the path of its URL")
        }
    };
    Err(End::new(DownReason::Unsupported, detail))
}

async fn play(session: Session<Described>, scrub: &Scrub) -> Result<Demuxed, End> {
    // enforce_timestamps_with_max_jump_secs stays unset: it takes B-frames for errors.
    // A sender report must not say whose packets count: some cameras send it first, and with
    // another SSRC than their pictures have, all of which would then be refused.
    let options = PlayOptions::default().unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
    match timeout(PLAY_LIMIT, session.play(options)).await {
        Ok(Ok(playing)) => playing.demuxed().map_err(|error| {
            End::new(
                DownReason::Unsupported,
                format!(
                    "its H.264 stream cannot be read: {}",
                    scrub.line(&error.to_string())
                ),
            )
        }),
        Ok(Err(error)) => Err(End::of_request("PLAY", &error, scrub)),
        Err(_) => Err(silent("PLAY", PLAY_LIMIT)),
    }
}

fn silent(method: &str, limit: Duration) -> End {
    End::new(
        DownReason::Unreachable,
        format!("no answer to {method} within {limit:?}"),
    )
}

fn describe_stream(demuxed: &Demuxed, stream: usize, wire: Wire) -> String {
    let mut note = format!("H.264 over RTSP/{wire}");
    let parameters = demuxed.streams().get(stream).and_then(|s| s.parameters());
    if let Some(retina::codec::ParametersRef::Video(video)) = parameters {
        let (width, height) = video.pixel_dimensions();
        note += &format!(", {} {width}x{height}", video.rfc6381_codec());
    }
    let ignored = demuxed.streams().len().saturating_sub(1);
    if ignored > 0 {
        note += &format!(", {ignored} more not used");
    }
    if let Some(tool) = demuxed.tool() {
        note += &format!(", server \"{}\"", &**tool);
    }
    note
}

const USER_AGENT: &str = concat!("pinhole/", env!("CARGO_PKG_VERSION"));

/// Streams named when none can be used.
const MAX_NAMED: usize = 8;
