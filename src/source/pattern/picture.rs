//! Draws the test picture straight into I420.
//!
//! In: the moment to show. Out: a picture whose clock, counter, disc and marks say that moment.
//! Not here: when to draw (the run loop), what the marks mean (marks).
//!
//! The background (gradient, name, colour bars) is drawn once; each picture restores and draws
//! only the rectangles that move.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::font;
use super::marks::{self, Marks};
use crate::source::encode::{EncodeError, Picture, Plane};

/// What one picture shows.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Of this picture, from 0.
    pub number: u64,
    /// Since the start of the run: moves the disc.
    pub elapsed: Duration,
    /// Since 1970 in UTC: shown, never decided on.
    pub wall: Duration,
}

/// The test picture of one camera.
pub struct Painter {
    background: Canvas,
    canvas: Canvas,
    layout: Layout,
    text: String,
}

impl Painter {
    /// `width` and `height` in pixels, both even; `name` and `info` are shown.
    pub fn new(width: usize, height: usize, name: &str, info: &str) -> Self {
        let layout = Layout::new(width, height);
        let mut background = Canvas::new(width, height);
        background.draw_backdrop(&layout);
        let fitting = width * 9 / 10 / (font::CELL_WIDTH * name.chars().count().max(1));
        let name_scale = layout.small.max(fitting.min(layout.medium));
        background.write_centred(name, layout.name_top, name_scale, WHITE);
        background.write_centred(info, layout.info_top, layout.small, GREY);
        background.write_centred("UTC", layout.zone_top, layout.small, GREY);
        Self {
            canvas: background.clone(),
            background,
            layout,
            text: String::new(),
        }
    }

    /// Draws `moment` over what was shown before.
    pub fn draw(&mut self, moment: &Moment) {
        let layout = self.layout;
        self.canvas.restore(&self.background, layout.clock);
        self.canvas.restore(&self.background, layout.counter);
        self.canvas.restore(&self.background, layout.lane);

        let (secs, millis) = (moment.wall.as_secs(), moment.wall.subsec_millis());
        let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
        self.show(
            format_args!("{hour:02}:{minute:02}:{second:02}.{millis:03}"),
            layout.clock.top,
            layout.large,
        );
        let number = moment.number;
        self.show(
            format_args!("FRAME {number:07}"),
            layout.counter.top,
            layout.medium,
        );
        self.canvas.draw_disc(&layout, moment.elapsed);
        if let Some(side) = layout.block {
            let marks = Marks {
                number: number as u16,
                millis: moment.wall.as_millis() as u16,
            };
            self.canvas.draw_marks(marks, side);
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.canvas.width, self.canvas.height)
    }

    /// The picture as last drawn, taken at `taken`.
    ///
    /// # Errors
    /// An odd size was asked for.
    pub fn picture(&self, ticks: i64, taken: Instant) -> Result<Picture<'_>, EncodeError> {
        let canvas = &self.canvas;
        let [luma, u, v] = &canvas.planes;
        let (width, height) = (canvas.width, canvas.height);
        let planes = [
            Plane::new(luma, width),
            Plane::new(u, width / 2),
            Plane::new(v, width / 2),
        ];
        Picture::new((width, height), planes, ticks, taken)
    }

    fn show(&mut self, text: std::fmt::Arguments<'_>, top: usize, scale: usize) {
        self.text.clear();
        let _ = self.text.write_fmt(text); // a String takes everything
        self.canvas.write_centred(&self.text, top, scale, WHITE);
    }
}

/// Where everything is, in pixels. Rectangles may reach outside of tiny pictures.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Pixels for one dot of a letter.
    small: usize,
    medium: usize,
    large: usize,
    name_top: usize,
    info_top: usize,
    zone_top: usize,
    clock: Rect,
    counter: Rect,
    lane: Rect,
    bars: Rect,
    block: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Rect {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Layout {
    fn new(width: usize, height: usize) -> Self {
        let large = (width * 7 / 10 / (CLOCK_LENGTH * font::CELL_WIDTH))
            .min(height * 13 / 100 / font::GLYPH_HEIGHT)
            .max(1);
        let medium = (large * 2 / 3).max(1);
        let small = (large / 2).max(1);
        let percent = |n: usize| (height * n / 100) & !1;
        let band = |top: usize, height: usize| Rect {
            left: 0,
            top,
            width,
            height,
        };
        let line = |top: usize, scale: usize, letters: usize| {
            let text = (letters * font::CELL_WIDTH * scale).min(width);
            Rect {
                left: (width - text) / 2,
                width: text,
                ..band(top, font::GLYPH_HEIGHT * scale)
            }
        };
        let block = marks::block_side(width, height);
        let floor = height - block.unwrap_or(0);
        let clock = line(percent(35), large, CLOCK_LENGTH);
        Self {
            small,
            medium,
            large,
            name_top: percent(7),
            info_top: percent(20),
            zone_top: clock.top + clock.height + 2 * small,
            clock,
            counter: line(percent(60), medium, COUNTER_LENGTH),
            lane: band(percent(73), percent(13)),
            bars: band(percent(88), floor.saturating_sub(percent(88)) & !1),
            block,
        }
    }
}

/// Three planes without padding.
#[derive(Clone)]
struct Canvas {
    width: usize,
    height: usize,
    planes: [Vec<u8>; 3],
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        let chroma = width / 2 * (height / 2);
        Self {
            width,
            height,
            planes: [
                vec![BLACK; width * height],
                vec![NEUTRAL; chroma],
                vec![NEUTRAL; chroma],
            ],
        }
    }

    fn draw_backdrop(&mut self, layout: &Layout) {
        let hd = self.height >= 720; // as the encoder says it in the stream
        let (width, height) = (self.width, self.height);
        let bars_top = layout.bars.top;
        for top in (0..height).step_by(2) {
            let blend = |from: f32, to: f32| from + (to - from) * top as f32 / height as f32;
            let colour = [blend(16., 40.), blend(20., 52.), blend(30., 78.)];
            let row = Rect {
                left: 0,
                top,
                width,
                height: 2,
            };
            self.fill(row, from_rgb(colour, hd));
        }
        let track = Rect {
            top: (layout.lane.top + layout.lane.height / 2) & !1,
            height: 2,
            ..layout.lane
        };
        self.fill(track, from_rgb([70., 80., 100.], hd));
        let count = BARS.len();
        for (n, colour) in BARS.into_iter().enumerate() {
            let (left, right) = ((width * n / count) & !1, (width * (n + 1) / count) & !1);
            let bar = Rect {
                left,
                width: right - left,
                ..layout.bars
            };
            self.fill(bar, from_rgb(colour, hd));
        }
        let floor = Rect {
            left: 0,
            top: bars_top + layout.bars.height,
            width,
            height,
        };
        self.fill(floor, [BLACK, NEUTRAL, NEUTRAL]);
    }

    fn draw_disc(&mut self, layout: &Layout, elapsed: Duration) {
        let lane = layout.lane;
        let radius = (lane.height / 2) & !1;
        let span = self.width.saturating_sub(2 * radius);
        let period = DISC_PERIOD.as_micros();
        let phase = elapsed.as_micros() % (2 * period);
        let there = phase.min(2 * period - phase); // forth and back
        let left = (span as u128 * there / period) as usize;
        let colour = from_rgb([250., 178., 40.], self.height >= 720);
        // Two rows at a time: the chroma planes have half of them.
        for row in (0..2 * radius).step_by(2) {
            let away = (row + 1).abs_diff(radius);
            let half = (radius * radius).saturating_sub(away * away).isqrt();
            let slice = Rect {
                left: left + radius - half,
                top: lane.top + row,
                width: 2 * half,
                height: 2,
            };
            self.fill(slice, colour);
        }
    }

    fn draw_marks(&mut self, marks: Marks, side: usize) {
        for (n, white) in marks.blocks().into_iter().enumerate() {
            let block = Rect {
                left: n * side,
                top: self.height - side,
                width: side,
                height: side,
            };
            self.fill_luma(block, if white { WHITE } else { BLACK });
        }
    }

    fn write_centred(&mut self, text: &str, top: usize, scale: usize, luma: u8) {
        let cell = font::CELL_WIDTH * scale;
        let fits = self.width / cell;
        let length = text.chars().count().min(fits);
        let mut left = (self.width - length * cell) / 2;
        for character in text.chars().take(fits) {
            self.draw_glyph(character, (left, top), scale, luma);
            left += cell;
        }
    }

    fn draw_glyph(&mut self, character: char, (left, top): (usize, usize), scale: usize, luma: u8) {
        for (row, dots) in font::glyph(character).into_iter().enumerate() {
            for column in 0..font::GLYPH_WIDTH {
                if dots >> (font::GLYPH_WIDTH - 1 - column) & 1 == 1 {
                    let dot = Rect {
                        left: left + column * scale,
                        top: top + row * scale,
                        width: scale,
                        height: scale,
                    };
                    self.fill_luma(dot, luma);
                }
            }
        }
    }

    fn restore(&mut self, from: &Self, rect: Rect) {
        let width = self.width;
        copy(&mut self.planes[0], &from.planes[0], width, rect);
        for n in 1..3 {
            copy(
                &mut self.planes[n],
                &from.planes[n],
                width / 2,
                halved(rect),
            );
        }
    }

    fn fill_luma(&mut self, rect: Rect, luma: u8) {
        let width = self.width;
        fill(&mut self.planes[0], width, rect, luma);
    }

    fn fill(&mut self, rect: Rect, [luma, u, v]: [u8; 3]) {
        self.fill_luma(rect, luma);
        let width = self.width / 2;
        fill(&mut self.planes[1], width, halved(rect), u);
        fill(&mut self.planes[2], width, halved(rect), v);
    }
}

fn halved(rect: Rect) -> Rect {
    Rect {
        left: rect.left / 2,
        top: rect.top / 2,
        width: rect.width.div_ceil(2),
        height: rect.height.div_ceil(2),
    }
}

/// Every write ends here: what lies outside of the plane is left out.
fn fill(plane: &mut [u8], stride: usize, rect: Rect, value: u8) {
    for row in rows(plane.len(), stride, rect) {
        plane[row].fill(value);
    }
}

fn copy(to: &mut [u8], from: &[u8], stride: usize, rect: Rect) {
    for row in rows(to.len(), stride, rect) {
        to[row.clone()].copy_from_slice(&from[row]);
    }
}

fn rows(length: usize, stride: usize, rect: Rect) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (left, right) = (rect.left.min(stride), (rect.left + rect.width).min(stride));
    let bottom = (rect.top + rect.height).min(length / stride.max(1));
    (rect.top..bottom).map(move |y| y * stride + left..y * stride + right)
}

/// Full-range RGB to limited-range Y'CbCr: BT.709 for HD, BT.601 below (ITU-R BT.709-6 3.2 to
/// 3.5, BT.601-7 2.5).
fn from_rgb([r, g, b]: [f32; 3], hd: bool) -> [u8; 3] {
    let (kr, kb) = if hd { (0.2126, 0.0722) } else { (0.299, 0.114) };
    let y = kr * r + (1. - kr - kb) * g + kb * b;
    let chroma = |colour: f32, k: f32| 128. + 112. / 255. * (colour - y) / (1. - k);
    [
        (16. + y * 219. / 255.).round() as u8,
        chroma(b, kb).round() as u8,
        chroma(r, kr).round() as u8,
    ]
}

const BLACK: u8 = 16;
const WHITE: u8 = 235;
const GREY: u8 = 150;
const NEUTRAL: u8 = 128;
/// From one side to the other: fast enough that a lost picture is seen.
const DISC_PERIOD: Duration = Duration::from_secs(3);
/// Letters of "HH:MM:SS.mmm".
const CLOCK_LENGTH: usize = 12;
/// Letters of "FRAME 0000000", and three more for the years when it overflows.
const COUNTER_LENGTH: usize = 16;
/// The usual order, at three quarters of full brightness.
const BARS: [[f32; 3]; 7] = [
    [191., 191., 191.],
    [191., 191., 0.],
    [0., 191., 191.],
    [0., 191., 0.],
    [191., 0., 191.],
    [191., 0., 0.],
    [0., 0., 191.],
];

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(number: u64) -> Moment {
        Moment {
            number,
            elapsed: Duration::from_millis(number * 33),
            wall: Duration::from_millis(1_700_000_000_000 + number * 33),
        }
    }

    #[test]
    fn every_size_can_be_drawn_and_the_marks_say_the_moment() {
        for (width, height) in [(16, 16), (160, 90), (320, 180), (96, 640), (1280, 720)] {
            let mut painter = Painter::new(width, height, "a-rather-long-camera.name", "INFO");
            for number in [0, 1, 90, 70_000, u64::from(u32::MAX)] {
                painter.draw(&moment(number));
                let picture = painter.picture(0, Instant::now()).expect("even");
                let read = Marks::read(picture.planes()[0].data, width, (width, height));
                let expected = marks::block_side(width, height).map(|_| Marks {
                    number: number as u16,
                    millis: moment(number).wall.as_millis() as u16,
                });
                assert_eq!(read, expected, "{width}x{height}");
            }
        }
    }

    #[test]
    fn a_redrawn_picture_equals_one_drawn_afresh() {
        let mut old = Painter::new(320, 180, "door", "320X180 30 FPS");
        for number in 0..200 {
            old.draw(&moment(number));
        }
        let mut new = Painter::new(320, 180, "door", "320X180 30 FPS");
        new.draw(&moment(199));
        assert!(
            old.canvas.planes == new.canvas.planes,
            "something was left behind"
        );
    }

    #[test]
    fn grey_has_no_colour_and_full_range_maps_to_limited() {
        assert_eq!(from_rgb([0., 0., 0.], true), [16, 128, 128]);
        assert_eq!(from_rgb([255., 255., 255.], false), [235, 128, 128]);
        assert_eq!(from_rgb([255., 0., 0.], false), [81, 90, 240]);
    }
}
