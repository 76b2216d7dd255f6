//! Quantities as people write them: `2M`, `4MiB`, `250ms`, `1280x720`.
//!
//! In: text or an integer. Out: a number in its base unit, and back to the shortest exact text.
//! Not here: which range is allowed (that belongs to each key).

use std::fmt;
use std::time::Duration;

/// A quantity with a written form. `Display` is exact: what it prints reads back as the same
/// value.
pub trait Unit: Copy + fmt::Display {
    /// What is accepted, for an error: "a size such as ...".
    const FORM: &'static str;

    /// Reads text such as `2M`; `None` for anything else, numbers past 64 bits included.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads a bare TOML integer; `None` where it would not say in which unit.
    fn from_integer(number: u64) -> Option<Self>;

    /// From the base unit.
    fn from_base(number: u64) -> Self;

    /// In the base unit.
    fn base(self) -> u64;
}

/// A plain whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// Bits per second; `k`, `M` and `G` are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRate(pub u64);

/// Bytes; `kB`, `MB`, `GB` are powers of 1000, `KiB`, `MiB`, `GiB` of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

/// Pixels, `1280x720`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    pub width: u32,
    pub height: u32,
}

impl Span {
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FrameSize {
    pub const FORM: &'static str = "a picture size such as \"1280x720\"";

    /// Reads `WIDTHxHEIGHT`.
    pub fn from_text(text: &str) -> Option<Self> {
        let (width, height) = text.split_once('x')?;
        let side = |text: &str| match is_digits(text) {
            true => text.parse().ok(),
            false => None,
        };
        Some(Self {
            width: side(width)?,
            height: side(height)?,
        })
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Implements [`Unit`] and `Display` on a scale: the first name that fits exactly is printed.
macro_rules! unit {
    ($name:ident, $scale:ident, $bare:expr, $form:literal) => {
        impl Unit for $name {
            const FORM: &'static str = $form;

            fn from_text(text: &str) -> Option<Self> {
                scaled(text, $scale).map(Self)
            }

            fn from_integer(number: u64) -> Option<Self> {
                $bare.then_some(Self(number))
            }

            fn from_base(number: u64) -> Self {
                Self(number)
            }

            fn base(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_scaled(f, self.0, $scale)
            }
        }
    };
}

unit!(Count, COUNTS, true, "a whole number");
unit!(BitRate, RATES, true, "bits per second such as \"2M\"");
unit!(ByteSize, SIZES, true, "a size in bytes such as \"512KiB\"");
unit!(
    Span,
    SPANS,
    false,
    "a time with its unit such as \"10s\" or \"250ms\""
);

/// Largest first; the last is the base unit.
type Scale = &'static [(&'static str, u64)];

const COUNTS: Scale = &[("", 1)];
const RATES: Scale = &[("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000), ("", 1)];
const SIZES: Scale = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
    ("", 1),
];
const SPANS: Scale = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Longer numbers cannot fit 64 bits in any unit, nor fractions matter below one in 10^9.
const MAX_DIGITS: usize = 20;
const MAX_FRACTION: usize = 9;

/// Reads digits, an optional decimal fraction and a unit. The result must be whole.
fn scaled(text: &str, scale: Scale) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, name) = text.split_at(end);
    let (_, factor) = scale.iter().find(|(unit, _)| *unit == name)?;
    let factor = u128::from(*factor);
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    if !is_digits(whole) || whole.len() > MAX_DIGITS || fraction.len() > MAX_FRACTION {
        return None;
    }
    // At most 29 digits and a factor below 2^31: inside 128 bits.
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let total = mantissa.checked_mul(factor)?;
    if total % divisor != 0 {
        return None;
    }
    u64::try_from(total / divisor).ok()
}

fn write_scaled(f: &mut fmt::Formatter<'_>, value: u64, scale: Scale) -> fmt::Result {
    let fits = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    match scale.iter().find(fits).or_else(|| scale.last()) {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => write!(f, "{value}"),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        assert_eq!(BitRate::from_text("2M"), Some(BitRate(2_000_000)));
        assert_eq!(BitRate::from_text("1.5M"), Some(BitRate(1_500_000)));
        assert_eq!(BitRate::from_text("64000"), Some(BitRate(64_000)));
        assert_eq!(ByteSize::from_text("4MiB"), Some(ByteSize(4 << 20)));
        assert_eq!(ByteSize::from_text("0.5KiB"), Some(ByteSize(512)));
        assert_eq!(ByteSize::from_text("10kB"), Some(ByteSize(10_000)));
        assert_eq!(Span::from_text("10s"), Some(Span(10_000)));
        assert_eq!(Span::from_text("250ms"), Some(Span(250)));
        assert_eq!(Span::from_text("1.5s"), Some(Span(1500)));
        assert_eq!(Span::from_text("2d"), Some(Span(172_800_000)));
        let size = FrameSize::from_text("1280x720");
        assert_eq!(
            size,
            Some(FrameSize {
                width: 1280,
                height: 720
            })
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let wrong = [
            "",
            "M",
            ".",
            "1.",
            ".5M",
            "-1M",
            "+1M",
            "1 M",
            "1m",
            "2Mbit",
            "1e3",
            "1.2.3M",
            "١M",
            "99999999999999999999G",
            "18446744073709551616",
            "0.0000000001G",
            "111111111111111111111",
        ];
        for text in wrong {
            assert_eq!(BitRate::from_text(text), None, "{text:?}");
        }
        for text in ["10", "1.5", "0.5ms", "s", "10S", "10 s", "1h30m"] {
            assert_eq!(Span::from_text(text), None, "{text:?}");
        }
        for text in [
            "1280",
            "x",
            "1x",
            "1280X720",
            "+1x2",
            "1x2x3",
            "9999999999x1",
        ] {
            assert_eq!(FrameSize::from_text(text), None, "{text:?}");
        }
        assert_eq!(Span::from_integer(10), None);
        assert_eq!(ByteSize::from_integer(10), Some(ByteSize(10)));
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_value() {
        let edges = [0, 1, 999, 1000, 1023, 1024, 1536, 60_000, 90_000, u64::MAX];
        let spread = (0..20_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 64));
        for value in edges.into_iter().chain(spread) {
            let rate = BitRate(value);
            assert_eq!(BitRate::from_text(&rate.to_string()), Some(rate));
            let size = ByteSize(value);
            assert_eq!(ByteSize::from_text(&size.to_string()), Some(size));
            let span = Span(value);
            assert_eq!(Span::from_text(&span.to_string()), Some(span));
        }
        assert_eq!(ByteSize(4 << 20).to_string(), "4MiB");
        assert_eq!(BitRate(2_500_000).to_string(), "2500k");
        assert_eq!(Span(90_000).to_string(), "90s");
        assert_eq!(Span(0).to_string(), "0ms");
        let size = FrameSize {
            width: 640,
            height: 480,
        };
        assert_eq!(FrameSize::from_text(&size.to_string()), Some(size));
    }
}
