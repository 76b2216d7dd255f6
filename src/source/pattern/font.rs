//! A bitmap font for the test picture: 5x7 dots in a cell of 6x8.
//!
//! In: a character. Out: its dots, row by row.
//! Not here: where and how large it is drawn (picture).

/// Dots across a character and the gap after it.
pub(super) const CELL_WIDTH: usize = 6;
/// Dots down a character.
pub(super) const GLYPH_HEIGHT: usize = 7;
/// Dots across a character.
pub(super) const GLYPH_WIDTH: usize = 5;

/// Seven rows; bit 4 is the leftmost dot. Small letters look like capitals; what the font does
/// not have is a box.
pub(super) fn glyph(character: char) -> [u8; GLYPH_HEIGHT] {
    let wanted = character.to_ascii_uppercase();
    GLYPHS
        .iter()
        .find(|(known, _)| *known == wanted)
        .map_or(BOX, |(_, rows)| *rows)
}

const BOX: [u8; 7] = [31, 17, 17, 17, 17, 17, 31];

#[rustfmt::skip]
const GLYPHS: [(char, [u8; 7]); 43] = [
    (' ', [0, 0, 0, 0, 0, 0, 0]),
    ('0', [14, 17, 19, 21, 25, 17, 14]),
    ('1', [4, 12, 4, 4, 4, 4, 14]),
    ('2', [14, 17, 1, 6, 8, 16, 31]),
    ('3', [30, 1, 1, 14, 1, 1, 30]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('B', [30, 17, 17, 30, 17, 17, 30]),
    ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [28, 18, 17, 17, 17, 18, 28]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('G', [14, 17, 16, 23, 17, 17, 15]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]),
    ('K', [17, 18, 20, 24, 20, 18, 17]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]),
    ('N', [17, 25, 25, 21, 19, 19, 17]),
    ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('P', [30, 17, 17, 30, 16, 16, 16]),
    ('Q', [14, 17, 17, 17, 21, 18, 13]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('V', [17, 17, 17, 17, 17, 10, 4]),
    ('W', [17, 17, 17, 21, 21, 27, 17]),
    ('X', [17, 17, 10, 4, 10, 17, 17]),
    ('Y', [17, 17, 10, 4, 4, 4, 4]),
    ('Z', [31, 1, 2, 4, 8, 16, 31]),
    ('.', [0, 0, 0, 0, 0, 12, 12]),
    (':', [0, 12, 12, 0, 12, 12, 0]),
    ('-', [0, 0, 0, 14, 0, 0, 0]),
    ('_', [0, 0, 0, 0, 0, 0, 31]),
    ('/', [1, 1, 2, 4, 8, 16, 16]),
    ('#', [10, 10, 31, 10, 31, 10, 10]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_a_camera_name_has_a_shape_of_its_own() {
        let named = ('a'..='z').chain('0'..='9').chain("-_.".chars());
        let shapes: Vec<_> = named.map(glyph).collect();
        for (n, shape) in shapes.iter().enumerate() {
            assert_ne!(*shape, BOX);
            assert!(!shapes[..n].contains(shape), "character {n} twice");
            assert!(shape.iter().all(|row| *row < 32));
        }
        assert_eq!(glyph('é'), BOX);
    }
}
