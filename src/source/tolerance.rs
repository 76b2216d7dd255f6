//! How many errors in a row a source may make before its run ends.
//!
//! In: errors, units handed on. Out: the count, and whether it was the last one tolerated.
//! Not here: what is an error (each source knows its own).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Counts errors in a row.
///
/// Only a unit that was fully handed on ends the row. One that was merely received does not: a
/// source that receives and loses everything would otherwise look healthy for ever.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    max: u32,
    in_a_row: u32,
}

/// What an error means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; so many in a row now.
    Tolerated(u32),
    /// That was one too many: the run ends; so many in a row.
    TooMany(u32),
}

impl Tolerance {
    /// The `max`-th error in a row ends the run; zero counts as one.
    pub fn new(max: u32) -> Self {
        Self {
            max: max.max(1),
            in_a_row: 0,
        }
    }

    /// One more error.
    pub fn on_error(&mut self) -> Verdict {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= self.max {
            Verdict::TooMany(self.in_a_row)
        } else {
            Verdict::Tolerated(self.in_a_row)
        }
    }

    /// A unit was fully handed on.
    pub fn on_handed_on(&mut self) {
        self.in_a_row = 0;
    }

    /// Errors since the last unit handed on.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_errors_in_a_row_are_tolerated_and_the_tenth_is_not() {
        let mut tolerance = Tolerance::new(10);
        for n in 1..10 {
            assert_eq!(tolerance.on_error(), Verdict::Tolerated(n));
        }
        assert_eq!(tolerance.on_error(), Verdict::TooMany(10));
    }

    #[test]
    fn only_a_unit_handed_on_ends_the_row() {
        let mut tolerance = Tolerance::new(3);
        tolerance.on_error();
        tolerance.on_error();
        tolerance.on_handed_on();
        assert_eq!(tolerance.in_a_row(), 0);
        assert_eq!(tolerance.on_error(), Verdict::Tolerated(1));
    }

    #[test]
    fn a_limit_of_zero_is_one_and_the_count_never_overflows() {
        assert_eq!(Tolerance::new(0).on_error(), Verdict::TooMany(1));
        let mut worn = Tolerance {
            max: 5,
            in_a_row: u32::MAX,
        };
        assert_eq!(worn.on_error(), Verdict::TooMany(u32::MAX));
    }
}
