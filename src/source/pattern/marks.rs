//! Numbers that a program can read out of the test picture, also after coding and scaling.
//!
//! In: a picture's size and two 16-bit numbers. Out: rectangles and their luma; and back again.
//! Not here: drawing them (picture).
//!
//! A row of 40 square blocks of `b` pixels begins in the lower left corner:
//! `b = 2 * floor(min(width / 40, height / 12) / 2)`; pictures with `b < 4` carry none. From left
//! to right, white is 1 and each number has its highest bit first:
//!
//! | blocks | content |
//! |---|---|
//! | 0, 1 | white, black: the levels to compare with |
//! | 2-17 | number of the picture, modulo 65536; counts pictures drawn, so a gap is a loss |
//! | 18-33 | Unix time of the drawing in milliseconds, modulo 65536 |
//! | 34-39 | check: exclusive or of the six 6-bit groups of (number << 16 or time), and of 0x2a |
//!
//! In a page: draw the video to a canvas, scale `b` by canvas width / video width, take the mean
//! of the inner half of each block, call it white above the mean of blocks 0 and 1, and the age
//! of the picture is `(Date.now() - time) mod 65536` milliseconds (tests/browser/marks.mjs does it).

/// What one picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Number of the picture, modulo 65536.
    pub number: u16,
    /// Unix time in milliseconds, modulo 65536.
    pub millis: u16,
}

impl Marks {
    /// Whether each block is white.
    pub fn blocks(self) -> [bool; BLOCKS] {
        let value = self.value();
        let word = (0b10 << 38) | (u64::from(value) << 6) | u64::from(check(value));
        std::array::from_fn(|n| word >> (BLOCKS - 1 - n) & 1 == 1)
    }

    /// Reads the marks of a picture's luma plane; `None` where there are none, or where coding
    /// has made them unreadable.
    pub fn read(luma: &[u8], stride: usize, (width, height): (usize, usize)) -> Option<Self> {
        let side = block_side(width, height)?;
        let top = height - side;
        let mean = |block: usize| {
            let (left, quarter, half) = (block * side, side / 4, side / 2);
            let mut sum = 0;
            for y in top + quarter..top + quarter + half {
                let start = y * stride + left + quarter;
                let row = luma.get(start..start + half)?;
                sum += row.iter().map(|v| u32::from(*v)).sum::<u32>();
            }
            Some(sum / (half * half) as u32)
        };
        let (white, black) = (mean(0)?, mean(1)?);
        if white < black + 64 {
            return None;
        }
        let middle = u32::midpoint(white, black);
        let mut word = 0_u64;
        for block in 2..BLOCKS {
            word = word << 1 | u64::from(mean(block)? > middle);
        }
        let value = (word >> 6) as u32;
        (check(value) == (word & 63) as u32).then_some(Self {
            number: (value >> 16) as u16,
            millis: value as u16,
        })
    }

    fn value(self) -> u32 {
        u32::from(self.number) << 16 | u32::from(self.millis)
    }
}

/// Pixels along one side of a block, or `None` where the picture is too small.
pub fn block_side(width: usize, height: usize) -> Option<usize> {
    let side = (width / BLOCKS).min(height / 12) & !1;
    (side >= 4).then_some(side)
}

fn check(value: u32) -> u32 {
    (0..6).fold(0x2a, |sum, group| sum ^ (value >> (6 * group) & 63))
}

/// Blocks in the row.
pub const BLOCKS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(marks: Marks, (width, height): (usize, usize)) -> Vec<u8> {
        let side = block_side(width, height).expect("large enough");
        let mut luma = vec![100; width * height];
        for (n, white) in marks.blocks().into_iter().enumerate() {
            for y in height - side..height {
                luma[y * width..][n * side..][..side].fill(if white { 235 } else { 16 });
            }
        }
        luma
    }

    #[test]
    fn any_numbers_come_back_from_any_size() {
        for size in [(160, 90), (320, 180), (640, 480), (1280, 720), (1080, 1920)] {
            for (number, millis) in [(0, 0), (0xffff, 0xffff), (1, 0x8000), (0x1234, 0xfedc)] {
                let marks = Marks { number, millis };
                let luma = drawn(marks, size);
                assert_eq!(Marks::read(&luma, size.0, size), Some(marks));
            }
        }
    }

    #[test]
    fn pictures_without_readable_marks_give_none() {
        let size = (320, 180);
        for level in [0, 16, 128, 255] {
            assert_eq!(Marks::read(&vec![level; 320 * 180], 320, size), None);
        }
        let marks = Marks {
            number: 7,
            millis: 9,
        };
        let mut luma = drawn(marks, size);
        for y in 172..180 {
            luma[y * 320..][80..88].fill(235); // one bit of the number is wrong
        }
        assert_eq!(Marks::read(&luma, 320, size), None);
        assert_eq!(Marks::read(&luma[..1000], 320, size), None, "cut short");
        assert_eq!(block_side(100, 40), None);
    }
}
