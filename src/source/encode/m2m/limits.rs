//! How large and how fast a hardware encoder codes.
//!
//! In: its node. Out: [`Limits`].
//! Not here: what the camera's side of the work costs (v4l2::budget).

use std::path::Path;

use crate::source::v4l2::device::{rates, sizes};
use crate::source::v4l2::mode::{Rates, fps_of};
use crate::source::v4l2::sys::{FourCc, Node};

/// The bounds of one encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Each side of a picture, in pixels.
    pub largest: (u32, u32),
    pub pixels_per_second: f64,
}

impl Limits {
    /// What the node says of H.264 (`VIDIOC_ENUM_FRAMESIZES`, `VIDIOC_ENUM_FRAMEINTERVALS`; the
    /// kernel's "Memory-to-Memory Stateful Video Encoder Interface", Querying Capabilities), and
    /// the default for what it does not say: few drivers list intervals.
    pub(super) fn of(path: &Path) -> Self {
        let Ok(node) = Node::open(path) else {
            return Self::default();
        };
        let sizes = sizes(&node, H264);
        let largest = sizes.into_iter().reduce(larger);
        Self::from_lists(largest, |size| rates(&node, H264, size))
    }

    fn from_lists(largest: Option<(u32, u32)>, rates: impl Fn((u32, u32)) -> Rates) -> Self {
        let Some(largest) = largest else {
            return Self::default();
        };
        let fastest = match rates(largest) {
            Rates::List(list) => list.into_iter().map(fps_of).fold(0.0, f64::max),
            Rates::UpTo(interval) => fps_of(interval),
            Rates::Unknown => 0.0,
        };
        let area = f64::from(largest.0) * f64::from(largest.1);
        let pixels_per_second = match SANE_FPS.contains(&fastest) {
            true => area * fastest,
            false => LEVEL_4,
        };
        Self {
            largest,
            pixels_per_second,
        }
    }

    /// Whether pictures of this size can be coded at this rate.
    pub fn hold(&self, (width, height): (u32, u32), fps: f64) -> bool {
        let pixels = f64::from(width) * f64::from(height);
        let fits = width <= self.largest.0 && height <= self.largest.1;
        fits && pixels * fps <= self.pixels_per_second
    }
}

impl Default for Limits {
    /// What the encoders of small boards do (Raspberry Pi Zero 2 to 4): 1080p30, upright too.
    fn default() -> Self {
        Self {
            largest: (1920, 1920),
            pixels_per_second: LEVEL_4,
        }
    }
}

/// The larger side each: bounds are given for each side.
fn larger(a: (u32, u32), b: (u32, u32)) -> (u32, u32) {
    (a.0.max(b.0), a.1.max(b.1))
}

const H264: FourCc = FourCc::new(b"H264");
/// H.264 level 4: 245,760 macroblocks per second (table A-1), 1080p30.
const LEVEL_4: f64 = 245_760.0 * 256.0;
/// Drivers that give a bound of their arithmetic for their rate are not believed.
const SANE_FPS: std::ops::RangeInclusive<f64> = 1.0..=240.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(largest: Option<(u32, u32)>, rates: &Rates) -> Limits {
        Limits::from_lists(largest, |_| rates.clone())
    }

    #[test]
    fn what_the_driver_says_holds_and_the_default_for_the_rest() {
        let hd = Some((1280, 720));
        let listed = limits(hd, &Rates::List(vec![(1, 15), (1, 60), (0, 7)]));
        assert!(listed.hold((1280, 720), 60.0) && !listed.hold((1280, 720), 61.0));
        assert!(!listed.hold((720, 1280), 1.0), "too high");
        let up_to = limits(hd, &Rates::UpTo((1, 30)));
        assert!(up_to.hold((1280, 720), 30.0) && !up_to.hold((1280, 720), 31.0));
        assert!(up_to.hold((640, 360), 120.0), "a quarter of the pixels");
        for nonsense in [
            Rates::Unknown,
            Rates::UpTo((1, 100_000)),
            Rates::UpTo((0, 1)),
        ] {
            let limits = limits(hd, &nonsense);
            assert_eq!(limits.pixels_per_second, LEVEL_4, "{nonsense:?}");
        }
        assert_eq!(limits(None, &Rates::UpTo((1, 5))), Limits::default());
    }

    #[test]
    fn the_default_is_1080p30() {
        let limits = Limits::default();
        assert!(limits.hold((1920, 1080), 30.0) && limits.hold((1080, 1920), 30.0));
        assert!(!limits.hold((1920, 1080), 31.0) && !limits.hold((2560, 1440), 5.0));
    }

    #[test]
    fn a_node_that_is_none_has_the_default() {
        assert_eq!(
            Limits::of(Path::new("/dev/no-such-node")),
            Limits::default()
        );
        assert_eq!(Limits::of(Path::new("/dev/null")), Limits::default());
    }
}
