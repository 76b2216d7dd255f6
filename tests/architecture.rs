//! Holds the table of rooms in `src/lib.rs`: who imports whom, which rooms are pure, where str0m
//! is named, how long files are. Reads the sources as tokens; what is behind `#[cfg(test)]` does
//! not ship and is not looked at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Room, whether it is pure, and what it may import.
const ROOMS: &[(&str, bool, &[&str])] = &[
    ("media", true, &[]),
    ("config", true, &["media"]),
    ("hub", true, &["media", "config"]),
    ("session", true, &["media", "config"]),
    ("whep", true, &["media", "config"]),
    (
        "gateway",
        true,
        &["media", "config", "hub", "session", "whep"],
    ),
    ("source", false, &["media", "config"]),
    ("net", false, &["media", "config", "whep"]),
    (
        "daemon",
        false,
        &[
            "media", "config", "hub", "session", "whep", "gateway", "source", "net",
        ],
    ),
    ("main", false, &["config", "daemon", "whep"]),
];

/// Paths that nothing in a pure room may name.
const IMPURE: &[&[&str]] = &[
    &["tokio"],
    &["hyper"],
    &["hyper_util"],
    &["nix"],
    &["libc"],
    &["retina"],
    &["openh264"],
    &["openh264_sys2"],
    &["std", "env"],
    &["std", "fs"],
    &["std", "os"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "net", "TcpListener"],
    &["std", "net", "TcpStream"],
    &["std", "net", "UdpSocket"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "Mutex"],
    &["std", "sync", "RwLock"],
    &["std", "sync", "mpsc"],
    &["std", "time", "SystemTime"],
];

/// The same through a shorter path (`use std::net; net::UdpSocket`).
const IMPURE_NAMES: &[&str] = &["TcpListener", "TcpStream", "UdpSocket", "SystemTime"];

const DENY: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

const MAX_LINES: usize = 600;

#[test]
fn the_sources_keep_to_the_table_of_rooms() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read_sources(&root.join("src"), &root, &mut files);
    assert!(files.len() > 10, "found the sources");
    let faults = check(&files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_room_stands_in_the_table() {
    let lib = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"));
    let lib = lib.expect("src/lib.rs is there");
    let modules = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let modules: BTreeSet<_> = modules.chain(["main"]).collect();
    assert_eq!(modules, ROOMS.iter().map(|room| room.0).collect());
}

/// All `.rs` files with their names relative to `root`.
fn read_sources(directory: &Path, root: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("a source directory") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            read_sources(&path, root, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(root)
                .expect("below the root")
                .display()
                .to_string();
            files.push((name, fs::read_to_string(&path).expect("a source file")));
        }
    }
}

/// What is wrong with these files (name and text), one line each.
fn check(files: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut tests = BTreeSet::new();
    let parsed: Vec<_> = files
        .iter()
        .map(|(name, text)| (name, text, parse(text, &module_of(name), &mut tests)))
        .collect();
    for (name, text, paths) in parsed {
        let module = module_of(name);
        let is_test = (1..=module.len()).any(|end| tests.contains(&module[..end]));
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{name}: {lines} lines; at most {MAX_LINES}"));
        }
        let room = module.first().map_or("lib", String::as_str);
        let Some((_, is_pure, may_import)) = ROOMS.iter().find(|entry| entry.0 == room) else {
            if room != "lib" {
                faults.push(format!("{name}: the room {room} is not in the table"));
            }
            continue;
        };
        let is_written = !text.trim().is_empty();
        if *is_pure && module.len() == 1 && is_written && !text.contains(DENY) {
            faults.push(format!("{name}: a pure room begins with {DENY}"));
        }
        if *is_pure && !is_test && text.contains("allow(clippy::disallowed") {
            faults.push(format!("{name}: a pure room allows nothing impure"));
        }
        for path in paths.iter().filter(|_| !is_test) {
            if let Some(fault) = fault(room, *is_pure, may_import, path) {
                faults.push(format!("{name}:{}: {fault}", path.line));
            }
        }
    }
    faults
}

fn fault(room: &str, is_pure: bool, may_import: &[&str], path: &Named) -> Option<String> {
    let shown = path.segments.join("::");
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    if let ["crate" | "pinhole", other, ..] = segments[..]
        && other != room
        && !may_import.contains(&other)
        && (other == "*" || ROOMS.iter().any(|entry| entry.0 == other))
    {
        return Some(format!("{room} may not import {other} ({shown})"));
    }
    let begins = |forbidden: &[&str]| {
        // `std::net::*` brings in what is forbidden below `std::net`.
        let shorter = segments.strip_suffix(&["*"]).unwrap_or(&segments);
        let is_glob = shorter.len() < segments.len();
        segments.starts_with(forbidden) || (is_glob && forbidden.starts_with(shorter))
    };
    let is_named = segments
        .iter()
        .any(|segment| IMPURE_NAMES.contains(segment));
    if is_pure && (is_named || IMPURE.iter().any(|forbidden| begins(forbidden))) {
        return Some(format!("{room} is pure and may not name {shown}"));
    }
    // The daemon installs the process's crypto provider once.
    let is_start_up = room == "daemon" && segments.starts_with(&["str0m", "crypto"]);
    if segments[0] == "str0m" && room != "session" && !is_start_up {
        return Some(format!("only session names str0m ({shown})"));
    }
    None
}

/// `src/a/b.rs` is `["a", "b"]`, `src/a/mod.rs` is `["a"]`, `src/lib.rs` is `[]`.
fn module_of(name: &str) -> Vec<String> {
    let inner = name.strip_prefix("src/").unwrap_or(name);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

/// A path with its `use` groups taken apart and `self` and `super` resolved.
#[derive(Debug)]
struct Named {
    segments: Vec<String>,
    line: usize,
}

struct Token {
    text: String,
    line: usize,
}

/// Every path named in a file of `module`. Modules behind `#[cfg(test)]` that live in files of
/// their own are added to `tests`.
fn parse(text: &str, module: &[String], tests: &mut BTreeSet<Vec<String>>) -> Vec<Named> {
    let tokens = tokens(text);
    let at = |index: usize| tokens.get(index).map_or("", |token| &*token.text);
    let mut paths = Vec::new();
    // Inline modules that we are in, and the depth of their braces.
    let (mut module, mut inline, mut depth) = (module.to_vec(), Vec::new(), 0_usize);
    let mut index = 0;
    while index < tokens.len() {
        let is = |words: &[&str]| {
            words
                .iter()
                .enumerate()
                .all(|(i, word)| at(index + i) == *word)
        };
        if is(&["#", "[", "cfg", "(", "test", ")", "]"]) {
            let (end, name) = skip_item(&tokens, index + 7);
            if let Some(name) = name {
                tests.insert([&module[..], &[name]].concat());
            }
            index = end;
            continue;
        }
        match at(index) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
            }
            "mod" if at(index + 2) == "{" => {
                module.push(at(index + 1).to_owned());
                inline.push(depth);
            }
            _ => {}
        }
        let begins = is_name(at(index)) && (at(index + 1) == "::" || at(index.max(1) - 1) == "use");
        index = match begins {
            true => tree(&tokens, index, &[], &module, &mut paths),
            false => index + 1,
        };
    }
    paths
}

/// Reads one path or `use` tree that begins at `index`; returns where it ends.
fn tree(
    tokens: &[Token],
    mut index: usize,
    prefix: &[String],
    module: &[String],
    paths: &mut Vec<Named>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(index).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(index) {
        index += 1;
        match &*token.text {
            "{" => {
                while tokens.get(index).is_some_and(|token| token.text != "}") {
                    index = match &*tokens[index].text {
                        text if is_name(text) || text == "*" || text == "{" => {
                            tree(tokens, index, &segments, module, paths)
                        }
                        _ => index + 1,
                    };
                }
                return index + 1;
            }
            text if is_name(text) || text == "*" => segments.push(text.to_owned()),
            // `Vec::<crate::x::Y>::new()`: what is between is read as a path of its own.
            _ => {
                index -= 1;
                break;
            }
        }
        match tokens.get(index) {
            Some(token) if token.text == "::" => index += 1,
            _ => break,
        }
    }
    paths.push(Named {
        segments: resolve(segments, module),
        line,
    });
    index
}

/// Turns a leading `self` or row of `super` into a path from the crate.
fn resolve(segments: Vec<String>, module: &[String]) -> Vec<String> {
    let supers = segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    let is_self = segments.first().is_some_and(|segment| segment == "self");
    if supers == 0 && !is_self {
        return segments;
    }
    let above = &module[..module.len().saturating_sub(supers)];
    let rest = &segments[supers.max(1)..];
    [&["crate".to_owned()], above, rest].concat()
}

/// Where the item that begins at `index` ends, and its name when it is `mod name;`.
fn skip_item(tokens: &[Token], mut index: usize) -> (usize, Option<String>) {
    let (mut depth, mut name) = (0_usize, None);
    while let Some(token) = tokens.get(index) {
        index += 1;
        match &*token.text {
            "mod" if depth == 0 => name = tokens.get(index).map(|token| token.text.clone()),
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return (index, None);
                }
            }
            ";" if depth == 0 => return (index, name),
            _ => {}
        }
    }
    (index, None)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single signs; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let skipped = blank(rest);
        let length = skipped.unwrap_or_else(|| {
            match rest.find(|c: char| !c.is_alphanumeric() && c != '_') {
                Some(0) if rest.starts_with("::") => 2,
                Some(0) => first.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            }
        });
        let (head, tail) = rest.split_at(length);
        if skipped.is_none() {
            tokens.push(Token {
                text: head.to_owned(),
                line,
            });
        }
        line += head.matches('\n').count();
        rest = tail;
    }
    tokens
}

/// Length of the blank, comment, string, character or lifetime that `rest` begins with.
fn blank(rest: &str) -> Option<usize> {
    let until = |from: usize, end: &str| match rest[from..].find(end) {
        Some(at) => from + at + end.len(),
        None => rest.len(),
    };
    let quote = rest.find('"').unwrap_or(rest.len());
    let hashes = rest[..quote]
        .trim_start_matches(['b', 'c'])
        .strip_prefix('r');
    if let Some(hashes) = hashes.filter(|hashes| hashes.bytes().all(|b| b == b'#')) {
        return Some(until((quote + 1).min(rest.len()), &format!("\"{hashes}")));
    }
    match rest.as_bytes() {
        [b, ..] if b.is_ascii_whitespace() => Some(1),
        [b'/', b'/', ..] => Some(until(0, "\n")),
        [b'/', b'*', ..] => Some(until(2, "*/")),
        [b'"', ..] => Some(1 + quoted(&rest[1..], '"')),
        [b'b' | b'c', b'"', ..] => Some(2 + quoted(&rest[2..], '"')),
        [b'b', b'\'', ..] => Some(2 + quoted(&rest[2..], '\'')),
        [b'\'', b'\\', ..] => Some(1 + quoted(&rest[1..], '\'')),
        [b'\'', ..] => {
            let inner = rest[1..].chars().next().map_or(0, char::len_utf8);
            let is_char = rest[1 + inner..].starts_with('\'');
            let name = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
            Some(if is_char {
                inner + 2
            } else {
                1 + name.unwrap_or(0)
            })
        }
        _ => None,
    }
}

/// Length up to and with the closing `mark` that no backslash escapes.
fn quoted(rest: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices() {
        if c == mark && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    rest.len()
}

// ---- the checker itself can fail ----

fn faults_of(name: &str, text: &str) -> Vec<String> {
    check(&[(name.to_owned(), text.to_owned())])
}

#[test]
fn an_edge_outside_the_table_is_found_however_it_is_written() {
    for text in [
        "use crate::session::Session;",
        "use crate::{media::Codec, session};",
        "use crate::{\n    media::{self, Codec},\n    session::{Session},\n};",
        "use super::super::session::Session;",
        "use super::super::{media, session as s};",
        "fn f() { let x = crate::session::new(); }",
        "fn f() { g::<crate::session::X>(); }",
        "fn f() { Vec::<crate::session::X>::new() }",
        "mod inner { use super::super::super::session; }",
        "mod inner { } use super::super::session::X;",
        "use crate::*;",
        "use pinhole::session;",
        "/* a */ use crate::session;",
        "const A: char = '\"'; use crate::session; const B: char = '\"';",
        "fn f<'a>(x: &'a str) { x == r#\"\"\"#; crate::session::x() }",
    ] {
        let faults = faults_of("src/hub/gate.rs", text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
    }
    let faults = faults_of("src/hub/gate.rs", "\n\nuse crate::session::X;");
    assert_eq!(
        faults,
        ["src/hub/gate.rs:3: hub may not import session (crate::session::X)"]
    );
    assert_eq!(faults_of("src/main.rs", "use pinhole::gateway;").len(), 1);
    assert_eq!(
        faults_of("src/net/http.rs", "use crate::source::X;").len(),
        1
    );
    assert_eq!(faults_of("src/attic/x.rs", "").len(), 1);
}

#[test]
fn edges_inside_the_table_and_words_in_tests_comments_and_strings_pass() {
    for text in [
        "use crate::media::Codec;\nuse crate::{config::Config, hub::Gate};",
        "use super::gate::Gate; use self::x::session; use super::session;",
        "mod inner { use super::super::session; }",
        "// use crate::session;\n/* crate::session */ const A: &str = \"crate::session\";",
        "const A: &str = r#\"\" crate::session \"#; const B: &[u8] = b\"\\\" tokio::x \";",
        "#[cfg(test)]\nmod tests { use crate::session; fn f() { str0m::x(); } }",
        "#[cfg(test)]\nuse std::fs;",
        "pub(crate) fn f<'a>() {} let c = ':'; let c = '\\''; crate::macro_of_ours!()",
    ] {
        let faults = faults_of("src/hub/gate.rs", text);
        assert!(faults.is_empty(), "{text}: {faults:?}");
    }
    assert!(faults_of("src/main.rs", "use pinhole::{config, daemon, whep};").is_empty());
    let behind = [
        (
            "src/hub/gate.rs".to_owned(),
            "#[cfg(test)]\nmod tests;".to_owned(),
        ),
        (
            "src/hub/gate/tests.rs".to_owned(),
            "use crate::session;".to_owned(),
        ),
    ];
    assert!(check(&behind).is_empty());
}

#[test]
fn what_waits_or_opens_something_is_found_in_pure_rooms_alone() {
    for text in [
        "use tokio::sync::mpsc;",
        "use tokio as t;",
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "use std::net::{IpAddr, UdpSocket};",
        "use std::net::*;",
        "use std::*;",
        "use std::net; fn f() { net::UdpSocket::bind() }",
        "fn f() { std::thread::spawn(g) }",
        "fn f() -> std::time::SystemTime { x }",
        "use std::sync::{Arc, Mutex};",
    ] {
        let faults = faults_of("src/gateway/demux.rs", text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults_of("src/net/udp.rs", text).is_empty(), "{text}");
    }
    let fine = "use std::{io, net::IpAddr, path::Path, sync::Arc, time::{Duration, Instant}};";
    assert!(faults_of("src/gateway/demux.rs", fine).is_empty());
}

#[test]
fn a_missing_deny_line_a_stray_str0m_and_a_long_file_are_found() {
    assert_eq!(faults_of("src/hub/mod.rs", "//! A hub.").len(), 1);
    assert!(faults_of("src/hub/mod.rs", DENY).is_empty());
    assert!(faults_of("src/net/mod.rs", "//! IO.").is_empty());
    let allowed = format!("{DENY}\n#[allow(clippy::disallowed_types)]\nfn f() {{}}");
    assert_eq!(faults_of("src/hub/mod.rs", &allowed).len(), 1);

    assert_eq!(faults_of("src/gateway/x.rs", "use str0m::Rtc;").len(), 1);
    assert_eq!(faults_of("src/daemon/x.rs", "use str0m::Rtc;").len(), 1);
    assert!(faults_of("src/session/x.rs", "use str0m::Rtc;").is_empty());
    assert!(faults_of("src/daemon/x.rs", "str0m::crypto::install();").is_empty());

    assert!(faults_of("src/net/x.rs", &"\n".repeat(MAX_LINES)).is_empty());
    assert_eq!(
        faults_of("src/net/x.rs", &"\n".repeat(MAX_LINES + 1)).len(),
        1
    );
}
