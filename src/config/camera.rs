//! `[[camera]]`: one camera, where its pictures come from and the keys of that kind of source.
//!
//! In: the tables of the list. Out: cameras of different names, or mistakes.
//! Not here: whether a camera answers (source).

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use url::Url;

use super::error::{Found, Problem, quoted};
use super::sections::{Files, belongs};
use super::units::{BitRate, ByteSize, Count, FrameSize};
use super::walk::{Section, boolean, frame_size, number, secret, span, string, unexpected, word};
use super::{
    Camera, ControlValue, Credentials, DeviceName, EncoderChoice, File, Pattern, Rtsp, Secret,
    Source, Transport, V4l2,
};

/// Keys of a camera. `sub` is known and not in this version.
pub(super) const KEYS: &[&str] = &[
    "name",
    "source",
    "on_demand",
    "linger",
    "stall",
    "max_errors",
    "max_viewers",
    "gop_cache",
    "username",
    "password",
    "password_file",
    "transport",
    "size",
    "fps",
    "bitrate",
    "encoder",
    "controls",
    "sub",
];

const RTSP_KEYS: &[&str] = &["username", "password", "password_file", "transport"];
/// Keys of what is encoded here.
const CODED_KEYS: &[&str] = &["size", "bitrate"];
const RATE_KEYS: &[&str] = &["fps"];
const V4L2_KEYS: &[&str] = &["encoder", "controls"];

/// Keys that are known and do nothing yet.
pub const LATER_KEYS: &[&str] = &["sub"];

/// Cameras of one file.
pub const MAX_CAMERAS: usize = 256;

/// Characters of a camera's name, a user name and a password.
const MAX_NAME: usize = 64;
const MAX_CREDENTIAL: usize = 256;

/// Characters of a source.
const MAX_URL: usize = 2048;

/// Bytes of a file name with its directories (`PATH_MAX` of Linux).
const MAX_PATH: usize = 4096;

/// Characters of a device's name, as long as a file name can be.
const MAX_DEVICE: usize = 255;

/// Characters of a control's name and of a menu's word; V4L2 has 31 of each.
const MAX_WORD: usize = 64;

/// Milliseconds.
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

pub(super) fn read_all(
    tables: Vec<(&DeTable<'_>, usize)>,
    files: &Files<'_>,
    found: &mut Found,
) -> Vec<Camera> {
    let mut cameras = Vec::new();
    // Also of cameras that have other mistakes.
    let mut names: Vec<(String, usize)> = Vec::new();
    if let Some((_, at)) = tables.get(MAX_CAMERAS) {
        let problem = Problem::Unexpected {
            found: format!("{} cameras", tables.len()),
            expected: format!("at most {MAX_CAMERAS}"),
        };
        found.push(*at, "camera".to_owned(), problem);
    }
    for (index, (table, at)) in tables.into_iter().enumerate().take(MAX_CAMERAS) {
        let name = table.get("name").and_then(|name| name.get_ref().as_str());
        let path = match name {
            Some(name) => format!("camera[{}] {}", index + 1, quoted(name)),
            None => format!("camera[{}]", index + 1),
        };
        let elsewhere = belongs("camera", KEYS);
        let mut section = Section::open(table, at, path, KEYS, elsewhere, found);
        if let Some(name) = name {
            match names.iter().find(|(other, _)| other == name) {
                Some((_, first)) => {
                    let problem = format!("camera[{first}] has this name too; names are unique");
                    section.fail("name", Problem::Conflict(problem));
                }
                None => names.push((name.to_owned(), index + 1)),
            }
        }
        cameras.extend(read(&mut section, files));
    }
    cameras
}

fn read(section: &mut Section<'_, '_>, files: &Files<'_>) -> Option<Camera> {
    for key in LATER_KEYS {
        if section.has(key) {
            let problem = Problem::NotYet {
                what: "this key",
                instead: "remove it",
            };
            section.fail_key(key, problem);
        }
    }
    let name = match section.has("name") {
        true => section.get("name", camera_name),
        false => {
            let problem = Problem::Missing(
                "`name` is missing; the name is the last part of the \
                                            camera's URL, such as \"door\""
                    .to_owned(),
            );
            section.fail_here(problem);
            None
        }
    };
    let source = source(section, files);
    let mut camera = Camera::new("", Source::Pattern(Pattern::default()));
    section.set("on_demand", &mut camera.on_demand, boolean);
    section.set("linger", &mut camera.linger, span(0..=24 * HOUR));
    section.set("stall", &mut camera.stall, span(SECOND / 2..=HOUR));
    section.set(
        "max_errors",
        &mut camera.max_errors,
        number::<Count, _>(1..=10_000),
    );
    let viewers = number::<Count, usize>(1..=10_000);
    section.set("max_viewers", &mut camera.max_viewers, |value| {
        viewers(value).map(Some)
    });
    section.set(
        "gop_cache",
        &mut camera.gop_cache,
        number::<ByteSize, _>(0..=256 << 20),
    );
    camera.name = name?;
    camera.source = source?;
    Some(camera)
}

fn camera_name(value: &DeValue<'_>) -> Result<String, Problem> {
    let expected = "1 to 64 letters, digits, - _ or .";
    let text = string(value, expected)?;
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_allowed) {
        return Err(unexpected(value, expected));
    }
    match text {
        // Browsers resolve these away in URLs.
        "." | ".." => Err(unexpected(value, expected)),
        // `/whep/session/...` are the sessions.
        "session" => Err(unexpected(value, "another name; this one is taken in URLs")),
        _ => Ok(text.to_owned()),
    }
}

/// What `source` says before its keys are looked at.
enum Kind {
    Rtsp(Url, Option<Credentials>),
    V4l2(DeviceName),
    File(PathBuf),
    Pattern,
}

const SOURCES: &str = "\"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"";
const CLIP: &str = "\"file:\" and the name of an .mp4 or .h264 file, such as \"file:clip.mp4\" or \"file:/srv/clip.h264\"";
const DEVICE: &str = "\"v4l2:\" and a name out of /dev/v4l/by-id or by-path, or \"v4l2:/dev/video0\" (`pinhole devices` lists them)";
const PICTURES: &str = "a `pattern:` or `v4l2:` source";

fn source(section: &mut Section<'_, '_>, files: &Files<'_>) -> Option<Source> {
    if !section.has("source") {
        let problem = format!("`source` is missing; expected {SOURCES}");
        section.fail_here(Problem::Missing(problem));
    }
    let kind = section.get("source", kind);
    // Keys of all kinds are read whatever the source is, so that all mistakes are told.
    let rtsp = rtsp_keys(section, files);
    let wish = picture_keys(section);
    let (encoder, controls) = v4l2_keys(section);
    match kind? {
        Kind::Rtsp(url, in_url) => {
            foreign(section, CODED_KEYS, PICTURES);
            foreign(
                section,
                RATE_KEYS,
                "a `pattern:`, `v4l2:` or `file:` source",
            );
            foreign(section, V4L2_KEYS, "a `v4l2:` source");
            check_user(section, in_url.is_some());
            let (credentials, transport) = rtsp;
            Some(Source::Rtsp(Rtsp {
                url,
                credentials: in_url.or(credentials),
                transport,
            }))
        }
        Kind::V4l2(device) => {
            foreign(section, RTSP_KEYS, "an `rtsp://` source");
            Some(Source::V4l2(V4l2 {
                device,
                size: wish.size,
                fps: wish.fps,
                bitrate: wish.bitrate,
                encoder,
                controls,
            }))
        }
        Kind::File(path) => {
            foreign(section, RTSP_KEYS, "an `rtsp://` source");
            foreign(section, V4L2_KEYS, "a `v4l2:` source");
            foreign(section, CODED_KEYS, PICTURES);
            Some(Source::File(File {
                path: files.directory.join(path),
                fps: wish.fps,
            }))
        }
        Kind::Pattern => {
            foreign(section, RTSP_KEYS, "an `rtsp://` source");
            foreign(section, V4L2_KEYS, "a `v4l2:` source");
            let mut pattern = Pattern::default();
            if let Some(size) = wish.size {
                (pattern.width, pattern.height) = (size.width, size.height);
            }
            pattern.fps = wish.fps.unwrap_or(pattern.fps);
            pattern.bitrate = wish.bitrate.unwrap_or(pattern.bitrate);
            Some(Source::Pattern(pattern))
        }
    }
}

/// A user name stands in the URL or in the keys, and no password without one.
fn check_user(section: &mut Section<'_, '_>, is_in_url: bool) {
    for key in ["username", "password", "password_file"] {
        if !section.has(key) {
            continue;
        }
        if is_in_url {
            let problem = "the URL of `source` holds a user name already; keep one of the two";
            section.fail_key(key, Problem::Conflict(problem.to_owned()));
        } else if !section.has("username") {
            let problem = "there is no `username` to go with it".to_owned();
            section.fail_key(key, Problem::Missing(problem));
        }
    }
}

/// Reports keys that go with another kind of source.
fn foreign(section: &mut Section<'_, '_>, keys: &[&str], owner: &str) {
    for key in keys
        .iter()
        .filter(|key| section.has(key))
        .copied()
        .collect::<Vec<_>>()
    {
        let problem = format!("this key belongs to {owner}; remove it");
        section.fail_key(key, Problem::Conflict(problem));
    }
}

fn rtsp_keys(section: &mut Section<'_, '_>, files: &Files<'_>) -> (Option<Credentials>, Transport) {
    let mut transport = Transport::default();
    let words = &[
        ("auto", Transport::Auto),
        ("tcp", Transport::Tcp),
        ("udp", Transport::Udp),
    ];
    section.set("transport", &mut transport, word(words));
    let username = section.get("username", |value| {
        let text = string(value, "a user name")?;
        credential(text.to_owned(), "a user name").and_then(|name| match name.is_empty() {
            true => Err(unexpected(value, "a user name")),
            false => Ok(name),
        })
    });
    let check = |text| credential(text, "a password");
    let written = section.get("password", |value| secret(value).and_then(check));
    let stored = section.get("password_file", |value| files.secret(value).and_then(check));
    if section.has("password") && section.has("password_file") {
        let problem = "`password` is there too; keep one of the two".to_owned();
        section.fail_key("password_file", Problem::Conflict(problem));
    }
    let credentials = username.map(|username| Credentials {
        username,
        // Some cameras are left with an empty password.
        password: Secret::new(written.or(stored).unwrap_or_default()),
    });
    (credentials, transport)
}

/// Refuses what could break out of an RTSP header line. `what` is told, the text never.
fn credential(text: String, what: &str) -> Result<String, Problem> {
    let found = if text.chars().any(char::is_control) {
        format!("{what} with control characters")
    } else if text.chars().count() > MAX_CREDENTIAL {
        format!("{what} that is too long")
    } else {
        return Ok(text);
    };
    let expected = format!("at most {MAX_CREDENTIAL} printable characters");
    Err(Problem::Unexpected { found, expected })
}

/// `size`, `fps` and `bitrate`, where they are written.
#[derive(Default)]
struct Wish {
    size: Option<FrameSize>,
    fps: Option<u32>,
    bitrate: Option<u32>,
}

fn picture_keys(section: &mut Section<'_, '_>) -> Wish {
    Wish {
        size: section.get("size", frame_size(64..=3840)),
        fps: section.get("fps", number::<Count, _>(1..=60)),
        bitrate: section.get("bitrate", number::<BitRate, _>(50_000..=100_000_000)),
    }
}

fn v4l2_keys(section: &mut Section<'_, '_>) -> (EncoderChoice, Vec<(String, ControlValue)>) {
    let mut encoder = EncoderChoice::default();
    let words = &[
        ("auto", EncoderChoice::Auto),
        ("hardware", EncoderChoice::Hardware),
        ("software", EncoderChoice::Software),
    ];
    section.set("encoder", &mut encoder, word(words));
    let form = "a table such as { brightness = 128, power_line_frequency = \"50 Hz\" }";
    (encoder, section.map("controls", form, control))
}

/// One entry of `controls`. Which names and values there are only the device knows.
fn control(name: &str, value: &DeValue<'_>) -> Result<ControlValue, Problem> {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || name.len() > MAX_WORD || !name.bytes().all(is_allowed) {
        return Err(Problem::Unexpected {
            found: quoted(name),
            expected: "the name of a control in lower case, with _ for blanks".to_owned(),
        });
    }
    let number = value
        .as_integer()
        .and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
    let text = value.as_str().filter(|text| {
        !text.is_empty() && text.chars().count() <= MAX_WORD && !text.chars().any(char::is_control)
    });
    match (number, value.as_bool(), text) {
        (Some(number), ..) => Ok(ControlValue::Number(number)),
        (_, Some(flag), _) => Ok(ControlValue::Flag(flag)),
        (.., Some(text)) => Ok(ControlValue::Word(text.to_owned())),
        _ => Err(unexpected(
            value,
            "a whole number, true, false or a word of a menu",
        )),
    }
}

fn kind(value: &DeValue<'_>) -> Result<Kind, Problem> {
    let text = string(value, SOURCES)?;
    let wrong = |found: String, expected: &str| Problem::Unexpected {
        found,
        expected: expected.to_owned(),
    };
    let not_yet = |what| Problem::NotYet {
        what,
        instead: "use \"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"",
    };
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(wrong(quoted(text), SOURCES));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "rtsp" => rtsp(text),
        "pattern" if rest.is_empty() => Ok(Kind::Pattern),
        "pattern" => {
            let expected = "\"pattern:\" alone; its keys are size, fps and bitrate";
            Err(wrong("\"pattern:\" and more".to_owned(), expected))
        }
        "v4l2" => device(rest)
            .map(Kind::V4l2)
            .ok_or_else(|| wrong(quoted(text), DEVICE)),
        "file" => clip(rest)
            .map(Kind::File)
            .ok_or_else(|| wrong(quoted(text), CLIP)),
        "rtsps" => Err(not_yet("`rtsps://` (RTSP over TLS)")),
        // `user:password@host`, or something like it.
        _ if text.contains('@') => Err(wrong("no known kind of source".to_owned(), SOURCES)),
        // What follows may hold a password.
        scheme => Err(wrong(quoted(&format!("{scheme}:...")), SOURCES)),
    }
}

/// The name of a file. Whether there is one, and what it holds, is seen when it is opened.
fn clip(text: &str) -> Option<PathBuf> {
    let is_name = !text.is_empty() && text.len() <= MAX_PATH && !text.ends_with('/');
    let is_url = text.starts_with("//");
    (is_name && !is_url && !text.chars().any(char::is_control)).then(|| PathBuf::from(text))
}

/// A node below `/dev`, or a bare file name.
fn device(text: &str) -> Option<DeviceName> {
    let fits = |b: u8| b.is_ascii_graphic() && b != b'"';
    let is_plain = !text.is_empty() && text.len() <= MAX_DEVICE && text.bytes().all(fits);
    let parts_fit = text.split('/').all(|part| part != "." && part != "..");
    let is_node = text
        .strip_prefix("/dev/")
        .is_some_and(|rest| !rest.is_empty() && !rest.split('/').any(str::is_empty));
    (is_plain && parts_fit && (is_node || !text.contains('/'))).then(|| DeviceName::new(text))
}

/// Takes an RTSP URL apart. No error repeats any of it: cameras put passwords in every part.
fn rtsp(text: &str) -> Result<Kind, Problem> {
    let wrong = |found: &str| Problem::Unexpected {
        found: found.to_owned(),
        expected: "\"rtsp://HOST[:PORT]/PATH\"; in a user name or password write @ as %40, : as \
                   %3A, / as %2F, ? as %3F, # as %23 and % as %25"
            .to_owned(),
    };
    if text.len() > MAX_URL {
        return Err(wrong("a URL that is too long"));
    }
    // `Url` would drop some of these in silence.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wrong("a URL with blanks or control characters"));
    }
    let mut url = Url::parse(text).map_err(|error| wrong(&format!("a bad URL ({error})")))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("a URL without a host"));
    }
    if url.port() == Some(0) {
        return Err(wrong("port 0"));
    }
    if url.fragment().is_some() {
        return Err(wrong("a URL with #"));
    }
    let decode = |part: &str| percent_decoded(part).ok_or_else(|| wrong("a bad % in a URL"));
    let username = credential(decode(url.username())?, "a user name")?;
    let password = credential(decode(url.password().unwrap_or_default())?, "a password")?;
    if username.is_empty() && url.password().is_some() {
        return Err(wrong("a URL with a password and no user name"));
    }
    // Both fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let credentials = (!username.is_empty()).then(|| Credentials {
        username,
        password: Secret::new(password),
    });
    Ok(Kind::Rtsp(url, credentials))
}

/// RFC 3986 section 2.1; `None` for a `%` without two hex digits, or what is not UTF-8 then.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}
