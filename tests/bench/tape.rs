//! A camera that plays a tape: in the place of a V4L2 device, with everything behind it real.
//!
//! A picture is there when its time has come, stamped with that time, and numbered; one that was
//! not fetched in time waits, as in a driver's buffers. Nothing is copied: a driver's buffers are
//! mapped, too.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use pinhole::config::{self, DeviceName};
use pinhole::media::pixel::{Colour, PixelFormat};
use pinhole::source::rtsp::verdict::End;
use pinhole::source::v4l2::device::{Agreed, Camera, Opened, Opener};
use pinhole::source::v4l2::mode::Coding;
use pinhole::source::v4l2::shared::Shared;
use pinhole::source::v4l2::sys::{Dequeued, Ready};

use crate::scene::Scene;

pub const FPS: u32 = 30;

#[derive(Clone)]
pub struct Tape {
    format: PixelFormat,
    size: (usize, usize),
    pictures: Arc<Vec<Vec<u8>>>,
}

impl Tape {
    pub fn new(format: PixelFormat, size: (usize, usize), is_moving: bool) -> Self {
        let scenes = Scene::tape(size, is_moving);
        let pictures = scenes.iter().map(|scene| match format {
            PixelFormat::Mjpeg => scene.jpeg(),
            _ => scene.yuyv(),
        });
        Self {
            format,
            size,
            pictures: Arc::new(pictures.collect()),
        }
    }

    /// Of a picture, in the mean.
    pub fn bytes(&self) -> usize {
        self.pictures.iter().map(Vec::len).sum::<usize>() / self.pictures.len()
    }
}

impl Opener for Tape {
    fn open(&self, _: &config::V4l2, _: &Shared) -> Result<Opened, End> {
        let (width, height) = self.size;
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
        let monotonic = Duration::new(now.tv_sec() as u64, now.tv_nsec() as u32);
        Ok(Opened {
            camera: Box::new(Player {
                tape: self.clone(),
                epoch: (Instant::now(), monotonic),
                taken: 0,
            }),
            agreed: Agreed {
                coding: Coding::Raw(self.format),
                size: (width as u32, height as u32),
                strides: vec![self.format.row_bytes(width)],
                colour: Colour::of_stream(height),
                fps: f64::from(FPS),
                is_limited: false,
            },
            notes: Vec::new(),
        })
    }

    fn is_there(&self, _: &DeviceName) -> bool {
        true
    }
}

struct Player {
    tape: Tape,
    epoch: (Instant, Duration),
    /// Pictures so far.
    taken: u32,
}

impl Player {
    /// When picture `number` is ready, after the epoch.
    fn due(number: u32) -> Duration {
        Duration::from_secs(1) * number / FPS
    }
}

impl Camera for Player {
    fn wait(&mut self, limit: Duration) -> nix::Result<Ready> {
        let due = self.epoch.0 + Self::due(self.taken + 1);
        let left = due.saturating_duration_since(Instant::now());
        thread::sleep(left.min(limit));
        Ok(Ready {
            read: left <= limit,
            ..Ready::default()
        })
    }

    fn take(&mut self) -> nix::Result<Dequeued> {
        self.taken += 1;
        Ok(Dequeued {
            index: 0,
            flags: MONOTONIC,
            sequence: self.taken,
            timestamp: self.epoch.1 + Self::due(self.taken),
            planes: vec![(0, self.planes()[0].len())],
        })
    }

    fn has_more(&self) -> bool {
        self.epoch.0 + Self::due(self.taken + 1) <= Instant::now()
    }

    fn planes(&self) -> Vec<&[u8]> {
        let pictures = &self.tape.pictures;
        vec![&pictures[self.taken as usize % pictures.len()]]
    }

    fn force_key_frame(&mut self) -> nix::Result<()> {
        Ok(())
    }

    fn can_force_key_frame(&self) -> bool {
        false
    }
}

/// `V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC`
const MONOTONIC: u32 = 0x2000;
