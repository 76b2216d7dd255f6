//! Pictures that a source took from its camera, or should have drawn, and did not hand on.

use std::fmt;

/// How many pictures were left out since the source began to run, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// They never came out of the device.
    pub lost: u64,
    /// Their time had passed: the machine is too slow.
    pub late: u64,
    /// The loop had no room for them.
    pub full: u64,
}

impl LeftOut {
    /// All of them.
    pub fn sum(self) -> u64 {
        self.lost + self.late + self.full
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.lost, "lost by the camera or its bus"),
            (self.late, "because this machine is too slow"),
            (self.full, "because the gateway was behind"),
        ];
        let there = reasons.into_iter().filter(|(count, _)| *count > 0);
        write!(f, "pictures left out so far: {}", self.sum())?;
        for (i, (count, why)) in there.enumerate() {
            let sign = if i == 0 { " (" } else { ", " };
            write!(f, "{sign}{count} {why}")?;
        }
        f.write_str(if self.sum() > 0 { ")" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_there_are_get_told() {
        let mut all = LeftOut::default();
        assert_eq!(all.to_string(), "pictures left out so far: 0");
        all.late = 3;
        let told = "pictures left out so far: 3 (3 because this machine is too slow)";
        assert_eq!(all.to_string(), told);
        all.lost = 2;
        assert_eq!(
            all.to_string(),
            "pictures left out so far: 5 (2 lost by the camera or its bus, 3 because this machine \
             is too slow)"
        );
    }
}
