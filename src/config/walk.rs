//! The hand walk over the parsed TOML tree: reads typed values, gathers what is wrong.
//!
//! In: one table. Out: values where they are right, mistakes where not; never an early end.
//! Not here: which keys there are (sections, camera).

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::camera::LATER_KEYS;
use super::error::{Found, Problem, nearest, quoted};
use super::units::{FrameSize, Span, Unit};

/// One table of the file with its place and the keys that it may hold.
pub(super) struct Section<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Byte offset of its header.
    at: usize,
    /// `server`, `camera[2] "door"`, or empty for the whole file.
    path: String,
    found: &'a mut Found,
}

/// Characters of a number that an error repeats.
const MAX_NUMBER: usize = 24;

/// Entries of one list; more is a mistake.
const MAX_LIST: usize = 64;

impl<'a, 'i> Section<'a, 'i> {
    /// Takes a table and reports its unknown keys. `elsewhere` says where a key belongs that is
    /// known, but not here.
    pub(super) fn open(
        table: &'a DeTable<'i>,
        at: usize,
        path: String,
        keys: &[&'static str],
        elsewhere: impl Fn(&str) -> Option<&'static str>,
        found: &'a mut Found,
    ) -> Self {
        for key in table.keys() {
            let word: &str = key.get_ref();
            if keys.contains(&word) {
                continue;
            }
            let hint = match (nearest(word, keys), elsewhere(word)) {
                (_, Some(place)) => format!("it belongs to {place}"),
                (Some(near), None) => format!("did you mean \"{near}\"?"),
                (None, None) => {
                    let ready = keys.iter().filter(|key| !LATER_KEYS.contains(key));
                    let ready: Vec<_> = ready.copied().collect();
                    format!("accepted: {}", ready.join(", "))
                }
            };
            let key_name = quoted(word);
            let problem = Problem::UnknownKey {
                key: key_name,
                hint,
            };
            found.push(key.span().start, path.clone(), problem);
        }
        Self {
            table,
            at,
            path,
            found,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of `key` where it is there and right.
    pub(super) fn get<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) -> Option<T> {
        match read(self.table.get(key)?.get_ref()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fail(key, problem);
                None
            }
        }
    }

    /// Puts the value of `key` into `field`; without one `field` keeps its default.
    pub(super) fn set<T>(
        &mut self,
        key: &str,
        field: &mut T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) {
        if let Some(value) = self.get(key, read) {
            *field = value;
        }
    }

    /// Reads a list of strings; every wrong entry is a mistake of its own, and so is one that is
    /// there twice.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        key: &str,
        field: &mut Vec<T>,
        read: impl Fn(&str) -> Result<T, Problem>,
    ) {
        let Some(value) = self.table.get(key) else {
            return;
        };
        let Some(entries) = value.get_ref().as_array() else {
            return self.fail(key, unexpected(value.get_ref(), "a list of strings"));
        };
        if entries.len() > MAX_LIST {
            let found = format!("{} entries", entries.len());
            let expected = format!("at most {MAX_LIST}");
            return self.fail(key, Problem::Unexpected { found, expected });
        }
        for (index, entry) in entries.iter().enumerate() {
            let problem = match string(entry.get_ref(), "a string").and_then(&read) {
                Ok(value) if field.contains(&value) => {
                    Problem::Conflict(format!("{} is there twice", shown(entry.get_ref())))
                }
                Ok(value) => {
                    field.push(value);
                    continue;
                }
                Err(problem) => problem,
            };
            let path = format!("{}[{}]", self.path_of(key), index + 1);
            self.found.push(entry.span().start, path, problem);
        }
    }

    /// Reads a table whose names the file chooses, in the order of the file; every wrong entry is
    /// a mistake of its own. `form` says what such a table looks like.
    pub(super) fn map<T>(
        &mut self,
        key: &str,
        form: &str,
        read: impl Fn(&str, &DeValue<'_>) -> Result<T, Problem>,
    ) -> Vec<(String, T)> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.fail(key, unexpected(value.get_ref(), form));
            return Vec::new();
        };
        if table.len() > MAX_LIST {
            let found = format!("{} entries", table.len());
            let expected = format!("at most {MAX_LIST}");
            self.fail(key, Problem::Unexpected { found, expected });
            return Vec::new();
        }
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut map = Vec::new();
        for (name, value) in entries {
            let word: &str = name.get_ref();
            match read(word, value.get_ref()) {
                Ok(entry) => map.push((word.to_owned(), entry)),
                Err(problem) => {
                    let path = format!("{}.{}", self.path_of(key), shown_name(word));
                    self.found.push(value.span().start, path, problem);
                }
            }
        }
        map
    }

    /// A table below this one.
    pub(super) fn table<'s>(&'s mut self, key: &str) -> Option<(&'a DeTable<'i>, usize)> {
        let value: &'a Spanned<DeValue<'i>> = self.table.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some((table, value.span().start)),
            None => {
                let problem = unexpected(value.get_ref(), &format!("a table, written [{key}]"));
                self.fail(key, problem);
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &str) -> Vec<(&'a DeTable<'i>, usize)> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let expected = format!("a list of tables, each written [[{key}]]");
        let Some(entries) = value.get_ref().as_array() else {
            self.fail(key, unexpected(value.get_ref(), &expected));
            // `[camera]` in place of `[[camera]]`: its keys may be wrong as well.
            let table = value.get_ref().as_table();
            return table
                .map(|table| (table, value.span().start))
                .into_iter()
                .collect();
        };
        let mut tables = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match entry.get_ref().as_table() {
                Some(table) => tables.push((table, entry.span().start)),
                None => {
                    let path = format!("{key}[{}]", index + 1);
                    let problem = unexpected(entry.get_ref(), &expected);
                    self.found.push(entry.span().start, path, problem);
                }
            }
        }
        tables
    }

    /// A mistake at the value of `key`, or at the header when the key is not there.
    pub(super) fn fail(&mut self, key: &str, problem: Problem) {
        let at = self.offset(key).unwrap_or(self.at);
        self.found.push(at, self.path_of(key), problem);
    }

    /// A mistake of the section as a whole, told at its header.
    pub(super) fn fail_here(&mut self, problem: Problem) {
        self.found.push(self.at, self.path.clone(), problem);
    }

    /// A mistake at the key itself (it should not be there).
    pub(super) fn fail_key(&mut self, key: &str, problem: Problem) {
        let entry = self.table.get_key_value(key);
        let at = entry.map_or(self.at, |(key, _)| key.span().start);
        self.found.push(at, self.path_of(key), problem);
    }

    /// Byte offset of the value of `key`.
    pub(super) fn offset(&self, key: &str) -> Option<usize> {
        self.table.get(key).map(|value| value.span().start)
    }

    /// The gatherer, for a table below this one.
    pub(super) fn found(&mut self) -> &mut Found {
        self.found
    }

    fn path_of(&self, key: &str) -> String {
        match &*self.path {
            "" => key.to_owned(),
            // An entry of a list has spaces in its name: `camera[2] "door" .source`.
            path if path.contains('[') => format!("{path} .{key}"),
            path => format!("{path}.{key}"),
        }
    }
}

/// `found ...; expected ...`
pub(super) fn unexpected(value: &DeValue<'_>, expected: &str) -> Problem {
    Problem::Unexpected {
        found: shown(value),
        expected: expected.to_owned(),
    }
}

/// A value as an error repeats it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => cut(&number.to_string()),
        DeValue::Float(number) => cut(&number.to_string()),
        DeValue::Boolean(word) => word.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A name of the file's own, as a path repeats it.
fn shown_name(name: &str) -> String {
    match name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => cut(name),
        false => quoted(name),
    }
}

/// Numbers may be written with a million digits.
fn cut(number: &str) -> String {
    match number.get(..MAX_NUMBER) {
        Some(start) => format!("{start}..."),
        None => number.to_owned(),
    }
}

/// Any string.
pub(super) fn string<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| unexpected(value, expected))
}

/// A string that an error never repeats, whatever was written in its place.
pub(super) fn secret(value: &DeValue<'_>) -> Result<String, Problem> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Problem::Unexpected {
            found: format!("a value of type {}", value.type_str()),
            expected: "a string".to_owned(),
        }),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Problem> {
    value
        .as_bool()
        .ok_or_else(|| unexpected(value, "true or false"))
}

/// A quantity inside `range` (in base units), as an integer or as text with its unit.
pub(super) fn number<U: Unit, T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Result<T, Problem> {
    move |value| {
        let quantity = match (value.as_integer(), value.as_str()) {
            (Some(integer), _) => u64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .and_then(U::from_integer),
            (None, Some(text)) => U::from_text(text),
            (None, None) => None,
        };
        quantity
            .map(U::base)
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| unexpected(value, &bounds::<U>(&range)))
    }
}

/// A span of time inside `range` (in milliseconds).
pub(super) fn span(
    range: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Problem> {
    let read = number::<Span, u64>(range);
    move |value| read(value).map(Duration::from_millis)
}

/// What [`number`] accepts, for an error.
pub(super) fn bounds<U: Unit>(range: &RangeInclusive<u64>) -> String {
    let (least, most) = (U::from_base(*range.start()), U::from_base(*range.end()));
    format!("{}, {least} to {most}", U::FORM)
}

/// A picture size of even sides inside `sides`.
pub(super) fn frame_size(
    sides: RangeInclusive<u32>,
) -> impl Fn(&DeValue<'_>) -> Result<FrameSize, Problem> {
    move |value| {
        let fits = |side: u32| sides.contains(&side) && side.is_multiple_of(2);
        value
            .as_str()
            .and_then(FrameSize::from_text)
            .filter(|size| fits(size.width) && fits(size.height))
            .ok_or_else(|| {
                let (least, most) = (sides.start(), sides.end());
                let form = FrameSize::FORM;
                unexpected(value, &format!("{form}, even sides of {least} to {most}"))
            })
    }
}

/// One of these words.
pub(super) fn word<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Problem> {
    move |value| {
        let text = value.as_str();
        let hit = words.iter().find(|(word, _)| Some(*word) == text);
        hit.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let mut accepted = String::new();
            for (index, (word, _)) in words.iter().enumerate() {
                accepted += match index {
                    0 => "",
                    _ if index + 1 == words.len() => " or ",
                    _ => ", ",
                };
                accepted += &format!("\"{word}\"");
            }
            unexpected(value, &accepted)
        })
    }
}
