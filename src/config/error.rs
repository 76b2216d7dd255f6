//! Mistakes in a configuration, all of them at once, as a person reads them.
//!
//! In: places in the text and what is wrong there. Out: one line per mistake and a count.
//! Not here: finding them. No secret and no path of a camera URL is ever put in here.

use std::fmt;

/// Mistakes told at once; more are only counted, so that a hostile file cannot fill the log.
pub const MAX_TOLD: usize = 100;

/// Every mistake of one file, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    mistakes: Vec<Mistake>,
    untold: usize,
}

/// One mistake and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Where it belongs, e.g. `ice.mtu` or `camera[2] "door" .source`; empty at the top.
    pub key: String,
    pub problem: Problem,
}

/// What is wrong. Each text is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A key that nobody knows, and what was meant or is accepted.
    #[error("unknown key {key}; {hint}")]
    UnknownKey { key: String, hint: String },
    /// A value of the wrong type, form or size.
    #[error("found {found}; expected {expected}")]
    Unexpected { found: String, expected: String },
    /// Something that has to be there is not.
    #[error("{0}")]
    Missing(String),
    /// Two things that cannot both be.
    #[error("{0}")]
    Conflict(String),
    /// A word that we know and cannot serve yet.
    #[error("{what} is not in this version; {instead}")]
    NotYet {
        what: &'static str,
        instead: &'static str,
    },
    /// A file named by a key.
    #[error("cannot read {path}: {why}")]
    Unreadable { path: String, why: String },
}

impl ConfigErrors {
    /// The mistakes that are told: at most [`MAX_TOLD`].
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// How many there are, told or not.
    pub fn count(&self) -> usize {
        self.mistakes.len() + self.untold
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{}:{mistake}", self.file)?;
        }
        if self.untold > 0 {
            writeln!(f, "{}: and {} more", self.file, self.untold)?;
        }
        let s = if self.count() == 1 { "" } else { "s" };
        write!(f, "{}: {} mistake{s}", self.file, self.count())
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        self.problem.fmt(f)
    }
}

/// Gathers mistakes while the tree is walked.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Byte offset in the text, key, problem.
    list: Vec<(usize, String, Problem)>,
    untold: usize,
}

impl Found {
    pub(super) fn push(&mut self, offset: usize, key: String, problem: Problem) {
        // Ten times what is told: the order of the file is only known at the end.
        if self.list.len() < 10 * MAX_TOLD {
            self.list.push((offset, key, problem));
        } else {
            self.untold += 1;
        }
    }

    /// Keeps what was found before `offset` and does not depend on what may follow: after a
    /// break in the syntax nobody knows what the rest would have said.
    pub(super) fn keep_before(&mut self, offset: usize) {
        self.list
            .retain(|(at, _, problem)| *at < offset && !matches!(problem, Problem::Missing(_)));
        self.untold = 0;
    }

    /// `Ok` when nothing was found.
    pub(super) fn finish(mut self, file: &str, text: &str) -> Result<(), ConfigErrors> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort_by_key(|(offset, ..)| *offset);
        let untold = self.untold + self.list.len().saturating_sub(MAX_TOLD);
        let told = self.list.into_iter().take(MAX_TOLD);
        let mistakes = told.map(|(offset, key, problem)| {
            let (line, column) = position(text, offset);
            Mistake {
                line,
                column,
                key,
                problem,
            }
        });
        Err(ConfigErrors {
            file: file.escape_debug().to_string(),
            mistakes: mistakes.collect(),
            untold,
        })
    }
}

/// Where the line that holds `offset` begins, in bytes.
pub(super) fn line_start(text: &str, offset: usize) -> usize {
    let offset = floor_char(text, offset);
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Line and column, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let offset = floor_char(text, offset);
    let start = line_start(text, offset);
    let line = text[..start].matches('\n').count() + 1;
    (line, text[start..offset].chars().count() + 1)
}

/// The nearest character boundary at or before `offset`, inside the text.
fn floor_char(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Characters of a found text that are repeated in an error.
const MAX_QUOTED: usize = 48;

/// `text` in quotes: cut, escaped (a terminal obeys no key names), and without anything that may
/// be a URL's credentials, path or query.
pub(super) fn quoted(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let shown = if rest.contains('@') {
        format!("{scheme}...")
    } else if !scheme.is_empty() && host.len() < rest.len() {
        format!("{scheme}{host}/...")
    } else {
        text.to_owned()
    };
    let cut: String = shown.chars().take(MAX_QUOTED).collect();
    let dots = if cut.len() < shown.len() { "..." } else { "" };
    format!("\"{}{dots}\"", cut.escape_debug())
}

/// The word of `known` that was probably meant: at most one slip in three letters.
pub(super) fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let found: Vec<char> = found.chars().take(MAX_QUOTED).collect();
    known
        .iter()
        .map(|word| (slips(&found, &word.chars().collect::<Vec<_>>()), *word))
        .filter(|(slips, word)| *slips <= (word.len() / 3).max(1))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// Letters to add, drop, change, or swap with their neighbour (optimal string alignment).
fn slips(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found_and_no_other() {
        let known = ["transport", "stall", "name"];
        assert_eq!(nearest("transprot", &known), Some("transport"));
        assert_eq!(nearest("stal", &known), Some("stall"));
        assert_eq!(nearest("nmae", &known), Some("name"));
        assert_eq!(nearest("bitrate", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn a_quoted_text_is_short_harmless_and_without_credentials() {
        assert_eq!(quoted("door"), "\"door\"");
        assert_eq!(quoted("\x1b[31m\n"), "\"\\u{1b}[31m\\n\"");
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), 48 + 5);
        assert_eq!(quoted("rtsp://u:p@host/path"), "\"rtsp://...\"");
        assert_eq!(
            quoted("rtsp://host/user=a_password=b"),
            "\"rtsp://host/...\""
        );
        assert_eq!(quoted("rtsp://u:p/1@host"), "\"rtsp://...\"");
        assert_eq!(quoted("u:p@host"), "\"...\"");
        assert_eq!(quoted("rtsp://host"), "\"rtsp://host\"");
    }

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let text = "é = 1\nab = 2\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 1), (1, 1));
        assert_eq!(position(text, 3), (1, 3));
        assert_eq!(position(text, 7), (2, 1));
        assert_eq!(position(text, text.len()), (3, 1));
        assert_eq!(position(text, usize::MAX), (3, 1));
        assert_eq!(position("", 5), (1, 1));
    }

    #[test]
    fn a_thousand_mistakes_are_counted_and_the_first_hundred_told() {
        let mut found = Found::default();
        for offset in (0..5000).rev() {
            found.push(offset, String::new(), Problem::Missing(String::new()));
        }
        let errors = found.finish("f", "").unwrap_err();
        assert_eq!(errors.mistakes().len(), MAX_TOLD);
        assert_eq!(errors.count(), 5000);
        assert!(
            errors
                .to_string()
                .ends_with("f: and 4900 more\nf: 5000 mistakes")
        );
    }
}
