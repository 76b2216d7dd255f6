//! A playing session: frames out of retina, access units into the channel.
//!
//! In: what retina yields. Out: units, tolerated errors, and at last why it ended.
//! Not here: requests (the parent), waiting and retrying (supervise).

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use retina::client::Demuxed;
use retina::codec::{CodecItem, VideoFrame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::gate::{Gate, Head, Passage};
use super::scrub::Scrub;
use super::verdict::{End, Fault, of_stream};
use super::{FIRST_PICTURE_LIMIT, KEY_FRAME_LIMIT};
use crate::config;
use crate::media::{AccessUnit, CameraId, Codec, DownReason, ErrorKind, SourceEvent, Stages};
use crate::source::EventSender;
use crate::source::tolerance::{Tolerance, Verdict};

/// The state of one playing session.
pub(super) struct Feed {
    id: CameraId,
    events: EventSender,
    scrub: Scrub,
    stall: Duration,
    gate: Gate,
    tolerance: Tolerance,
    /// The last item was an error: what follows may be the rest of the same picture.
    in_error: bool,
    /// Units that found the channel full since the last one that did not.
    dropped: u64,
    /// A picture came, whole or not: the camera is alive.
    last_picture: Instant,
    /// Since when the gate waits for a key frame.
    holding_since: Instant,
    pub(super) first_handed_on: Option<Instant>,
}

impl Feed {
    pub(super) fn new(
        camera: &config::Camera,
        id: CameraId,
        events: EventSender,
        scrub: Scrub,
    ) -> Self {
        let now = Instant::now();
        Self {
            id,
            events,
            scrub,
            stall: camera.stall,
            gate: Gate::new(),
            tolerance: Tolerance::new(camera.max_errors),
            in_error: false,
            dropped: 0,
            last_picture: now + FIRST_PICTURE_LIMIT.saturating_sub(camera.stall),
            holding_since: now,
            first_handed_on: None,
        }
    }

    /// Runs until the camera, an error or a limit ends it.
    pub(super) async fn run(&mut self, demuxed: &mut Demuxed) -> End {
        loop {
            let limit = self.limit();
            let Ok(item) = timeout_at(limit, demuxed.next()).await else {
                return self.late();
            };
            let step = match item {
                None if self.in_error => Err(End::new(
                    DownReason::Errors,
                    "the stream could not go on after an error",
                )),
                None => Err(End::new(DownReason::Ended, "the camera ended the stream")),
                Some(Ok(CodecItem::VideoFrame(frame))) => self.on_frame(frame).await,
                Some(Ok(_)) => Ok(()), // sender reports; no other stream is set up
                Some(Err(error)) => self.on_error(&error).await,
            };
            if let Err(end) = step {
                return end;
            }
            // A camera that sends faster than it is read must not keep the loop to itself.
            tokio::task::yield_now().await;
        }
    }

    /// Until when something must have happened.
    fn limit(&self) -> Instant {
        let picture = self.last_picture + self.stall;
        if self.gate.is_holding() {
            picture.min(self.holding_since + KEY_FRAME_LIMIT)
        } else {
            picture
        }
    }

    /// Nothing happened by then.
    fn late(&self) -> End {
        let detail = if Instant::now() < self.last_picture + self.stall {
            format!("pictures came, but no key frame within {KEY_FRAME_LIMIT:?}")
        } else {
            let limit = match self.first_handed_on {
                Some(_) => self.stall,
                None => self.stall.max(FIRST_PICTURE_LIMIT),
            };
            format!("no picture within {limit:?}")
        };
        End::new(DownReason::Stalled, detail)
    }

    async fn on_frame(&mut self, frame: VideoFrame) -> Result<(), End> {
        self.last_picture = Instant::now();
        self.in_error = false;
        if frame.loss() > 0 {
            self.hold();
            let detail = format!("{} packets never came", frame.loss());
            self.say_error(ErrorKind::Loss, detail).await?;
        }
        let ticks = ticks_90k(frame.timestamp());
        // When the picture's last packet was read from the socket.
        let received = frame.end_ctx().received();
        let is_entry = frame.is_random_access_point();
        // The length is exact, so the vector becomes the shared bytes without a copy.
        let data = Bytes::from(frame.into_data());
        let head = if is_entry {
            Head::read(&data)
        } else {
            Head::default()
        };
        if head.is_idr && !head.has_parameters {
            self.hold();
            let detail = "a key frame came before any SPS and PPS".to_owned();
            return self.count(ErrorKind::Picture, detail).await;
        }
        let is_key_frame = head.is_idr && (head.is_whole || !self.gate.is_holding());
        match self.gate.judge(is_key_frame) {
            Passage::Hold => Ok(()),
            Passage::HandOn { after_loss } => {
                self.hand_on(AccessUnit {
                    codec: Codec::H264,
                    data,
                    is_key_frame,
                    ticks,
                    received,
                    after_loss,
                    stages: Stages::default(),
                })
                .await
            }
        }
    }

    /// Puts a unit into the channel, or drops it (and what refers to it) where the loop is behind.
    async fn hand_on(&mut self, unit: AccessUnit) -> Result<(), End> {
        if self.dropped > 0 {
            let detail = format!("{} pictures dropped: the loop was behind", self.dropped);
            self.say_error(ErrorKind::Loss, detail).await?;
            self.dropped = 0;
        }
        match self.events.try_send((self.id, SourceEvent::Unit(unit))) {
            Ok(()) => {
                self.gate.handed_on();
                self.tolerance.on_handed_on();
                self.first_handed_on.get_or_insert_with(Instant::now);
            }
            Err(TrySendError::Full(_)) => {
                self.dropped += 1;
                self.hold();
            }
            Err(TrySendError::Closed(_)) => return Err(nobody_listens()),
        }
        Ok(())
    }

    async fn on_error(&mut self, error: &retina::Error) -> Result<(), End> {
        self.hold();
        let was_in_error = std::mem::replace(&mut self.in_error, true);
        match of_stream(error, &self.scrub) {
            Fault::Fatal(end) => Err(end),
            Fault::Tail if was_in_error => Ok(()),
            Fault::Tail | Fault::Packet => {
                let detail = self.scrub.line(&error.to_string());
                self.count(ErrorKind::Packet, detail).await
            }
        }
    }

    /// Tells an error that counts, and ends the run with the last one tolerated.
    async fn count(&mut self, kind: ErrorKind, detail: String) -> Result<(), End> {
        let verdict = self.tolerance.on_error();
        self.say_error(kind, detail.clone()).await?;
        match verdict {
            Verdict::Tolerated(_) => Ok(()),
            Verdict::TooMany(n) => Err(End::new(
                DownReason::Errors,
                format!("{n} errors in a row, the last: {detail}"),
            )),
        }
    }

    fn hold(&mut self) {
        if !self.gate.is_holding() {
            self.holding_since = Instant::now();
        }
        self.gate.on_loss();
    }

    /// Unlike a unit, an error waits for room: it is never lost.
    async fn say_error(&self, kind: ErrorKind, detail: String) -> Result<(), End> {
        let event = SourceEvent::Error {
            kind,
            in_a_row: self.tolerance.in_a_row(),
            detail,
        };
        self.events
            .send((self.id, event))
            .await
            .map_err(|_| nobody_listens())
    }
}

fn nobody_listens() -> End {
    End::new(DownReason::Internal, "nobody listens to this source")
}

/// The camera's time in 90 kHz ticks, whatever its clock rate.
fn ticks_90k(time: retina::Timestamp) -> i64 {
    let rate = i128::from(time.clock_rate().get());
    let ticks = i128::from(time.timestamp()) * 90_000 / rate;
    i64::try_from(ticks).unwrap_or(i64::MAX) // after a million years
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn ticks_are_90_khz_whatever_the_clock() {
        let time =
            |ticks, rate| retina::Timestamp::new(ticks, NonZeroU32::new(rate).unwrap(), 0).unwrap();
        assert_eq!(ticks_90k(time(1 << 40, 90_000)), 1 << 40);
        assert_eq!(ticks_90k(time(8_000, 8_000)), 90_000);
        assert_eq!(ticks_90k(time(-1_000, 1_000)), -90_000);
        assert_eq!(ticks_90k(time(i64::MAX, 1)), i64::MAX);
    }

    #[test]
    fn pictures_without_any_key_frame_are_waited_for_only_so_long() {
        let rtsp = config::Rtsp {
            url: url::Url::parse("rtsp://h/").unwrap(),
            credentials: None,
            transport: config::Transport::Auto,
        };
        let scrub = Scrub::new(&rtsp);
        let camera = config::Camera::new("c", config::Source::Rtsp(rtsp));
        let (sender, _events) = tokio::sync::mpsc::channel(1);
        let mut feed = Feed::new(&camera, CameraId(0), sender, scrub);
        assert_eq!(feed.limit(), feed.last_picture + camera.stall);
        feed.last_picture += KEY_FRAME_LIMIT * 2; // pictures keep coming
        assert_eq!(feed.limit(), feed.holding_since + KEY_FRAME_LIMIT);
        assert!(feed.late().detail.contains("no key frame"));
        feed.gate.handed_on();
        assert_eq!(feed.limit(), feed.last_picture + camera.stall);
    }

    #[test]
    fn a_vector_of_exact_size_becomes_shared_bytes_without_a_copy() {
        let mut vector = Vec::with_capacity(1000);
        vector.resize(1000, 7_u8);
        let before = vector.as_ptr();
        assert_eq!(Bytes::from(vector).as_ptr(), before);
    }
}
