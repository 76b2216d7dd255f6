//! Notices that a picture has nothing in common with the one before: a light is switched on, a
//! camera swings round.
//!
//! In: pictures in order. Out: whether this one is a cut.
//! Not here: what is done about it (software).
//!
//! Such a picture coded as a P picture, at the quantizer of the quiet scene before it, is two to
//! ten times larger than a key frame in its place, and rate control then leaves pictures out for
//! as long (1.6 s late instead of 0.2 s at 300 kbit/s, 640x480). openh264's own detector takes
//! noise and panning for cuts, again and again; this one compares the mean brightness of coarse
//! cells, which neither moves much.

use super::Picture;

/// Remembers the last picture, coarsely.
#[derive(Debug, Default)]
pub(super) struct CutDetector {
    cells: Vec<u8>,
    scratch: Vec<u8>,
    /// Ticks of the last cut.
    last: Option<i64>,
}

impl CutDetector {
    /// Takes the next picture in; true at most once per [`SPACING`].
    pub(super) fn is_cut(&mut self, picture: &Picture<'_>) -> bool {
        sample(picture, &mut self.scratch);
        std::mem::swap(&mut self.cells, &mut self.scratch);
        let (new, old) = (&self.cells, &self.scratch);
        if new.len() != old.len() || new.is_empty() {
            return false; // the first picture, or a tiny one
        }
        let changes = new.iter().zip(old).map(|(a, b)| u32::from(a.abs_diff(*b)));
        let mean = changes.sum::<u32>() / new.len() as u32;
        let is_cut = mean >= THRESHOLD
            && self
                .last
                .is_none_or(|last| picture.ticks.saturating_sub(last) >= SPACING);
        if is_cut {
            self.last = Some(picture.ticks);
        }
        is_cut
    }
}

/// Writes the mean brightness of each cell, from 64 samples in its upper left corner.
fn sample(picture: &Picture<'_>, cells: &mut Vec<u8>) {
    cells.clear();
    let (width, height) = picture.size();
    let luma = picture.planes()[0];
    let (across, down) = (width / COLUMNS, height / ROWS);
    if across < SAMPLES || down < 2 * LINES {
        return;
    }
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let mut sum = 0;
            for line in 0..LINES {
                // Every second row: a taller corner for as many samples.
                let start = (row * down + 2 * line) * luma.stride + column * across;
                let samples = &luma.data[start..start + SAMPLES];
                sum += samples.iter().map(|v| usize::from(*v)).sum::<usize>();
            }
            cells.push((sum / (SAMPLES * LINES)) as u8);
        }
    }
}

const COLUMNS: usize = 16;
const ROWS: usize = 9;
const SAMPLES: usize = 8;
const LINES: usize = 8;
/// Mean change of a cell, of 255 levels: more than panning and less than a lamp gives. What stays
/// below costs no more than it did without us.
const THRESHOLD: u32 = 24;
/// Flashing lights get one key frame per second, in 90 kHz ticks.
const SPACING: i64 = 90_000;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::source::encode::Plane;

    const SIZE: (usize, usize) = (320, 180);

    /// Feeds pictures one after the other, 100 ms apart, and gives the places of the cuts.
    fn cuts(pictures: impl IntoIterator<Item = Vec<u8>>) -> Vec<usize> {
        let mut detector = CutDetector::default();
        let chroma = vec![128; SIZE.0 * SIZE.1 / 4];
        let mut places = Vec::new();
        for (n, luma) in pictures.into_iter().enumerate() {
            let grey = Plane::new(&chroma, SIZE.0 / 2);
            let planes = [Plane::new(&luma, SIZE.0), grey, grey];
            let picture =
                Picture::new(SIZE, planes, n as i64 * 9000, Instant::now()).expect("holds");
            if detector.is_cut(&picture) {
                places.push(n);
            }
        }
        places
    }

    fn flat(level: u8) -> Vec<u8> {
        vec![level; SIZE.0 * SIZE.1]
    }

    #[test]
    fn a_light_that_is_switched_is_a_cut_in_both_directions() {
        let levels = [30; 15].into_iter().chain([110; 15]).chain([30; 15]);
        assert_eq!(cuts(levels.map(flat)), [15, 30]);
    }

    #[test]
    fn flashing_light_gives_one_cut_per_second() {
        let levels = (0..30).map(|n| if n % 2 == 0 { 20 } else { 200 });
        assert_eq!(cuts(levels.map(flat)), [1, 11, 21]);
    }

    #[test]
    fn noise_slow_fades_and_swinging_over_texture_are_no_cuts() {
        let mut seed = 1_u32;
        let noise = (0..30).map(|_| {
            flat(0)
                .iter()
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 17;
                    seed ^= seed << 5;
                    seed as u8
                })
                .collect()
        });
        assert_eq!(cuts(noise), Vec::<usize>::new());
        assert_eq!(cuts((0..25).map(|n| flat(n * 10))), Vec::<usize>::new());
        let swing = (0..30_usize).map(|n| {
            let texture = |x: usize, y: usize| 60 + ((x + 16 * n) / 40 + y / 30) % 3 * 30;
            let all = (0..SIZE.1).flat_map(|y| (0..SIZE.0).map(move |x| (x, y)));
            all.map(|(x, y)| texture(x, y) as u8).collect()
        });
        assert_eq!(cuts(swing), Vec::<usize>::new());
    }
}
