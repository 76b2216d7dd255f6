//! The file as a whole and its tables, all but `[[camera]]`.
//!
//! In: TOML text. Out: [`Config`], or every mistake.
//! Not here: cameras (camera), how values are read (walk).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::{Origin, Url};

use super::camera;
use super::error::{ConfigErrors, Found, Problem, line_start, quoted};
use super::units::{BitRate, ByteSize, Count};
use super::walk::{Section, boolean, number, secret, span, string, unexpected, word};
use super::{Access, Config, Ice, Latency, Limits, Secret, Server};

/// Every table and the keys that it may hold. `camera` is a list of tables.
pub const KEYS: &[(&str, &[&str])] = &[
    ("server", &["listen", "allowed_origins", "hosts"]),
    ("access", &["token", "token_file", "anonymous"]),
    (
        "ice",
        &[
            "port",
            "interfaces",
            "exclude",
            "advertise",
            "stun",
            "mtu",
            "dscp",
        ],
    ),
    ("latency", &["mode"]),
    (
        "limits",
        &[
            "viewers",
            "viewers_per_camera",
            "half_open",
            "setup_timeout",
            "session_age",
            "egress",
            "egress_per_viewer",
            "queue",
            "requests",
            "connections",
            "body",
        ],
    ),
    ("camera", camera::KEYS),
];

/// The names in [`KEYS`].
const TABLES: &[&str] = &["server", "access", "ice", "latency", "limits", "camera"];

/// Bytes of a configuration; a larger one is none.
pub const MAX_TEXT: usize = 1 << 20;

/// Characters of a token: below it can be guessed, above it does not fit a cookie.
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// Milliseconds.
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// Files named by keys, read by the caller.
pub(super) struct Files<'a> {
    /// The directory of the configuration: relative names start there.
    pub(super) directory: &'a Path,
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// `file_name` names the text in errors, and its directory is where relative names of
    /// `token_file` and `password_file` start. `read_file` reads those; nothing else is touched.
    ///
    /// # Errors
    ///
    /// Every mistake of the file at once. Where the text breaks the syntax of TOML, the breaks
    /// and the mistakes of the lines before the first. No error holds a secret.
    pub fn parse(
        text: &str,
        file_name: &str,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigErrors> {
        let mut found = Found::default();
        let files = Files {
            directory: Path::new(file_name)
                .parent()
                .unwrap_or_else(|| Path::new("")),
            read: read_file,
        };
        let mut config = Self::default();
        if text.len() > MAX_TEXT {
            let problem = Problem::Unexpected {
                found: format!("a file of {} bytes", text.len()),
                expected: format!("at most {}", ByteSize(MAX_TEXT as u64)),
            };
            found.push(0, String::new(), problem);
        } else {
            let (tree, errors) = DeTable::parse_recoverable(text);
            config = read_all(&tree, &files, &mut found);
            let place = |error: &toml::de::Error| error.span().map_or(text.len(), |s| s.start);
            // A key that is there twice leaves the rest of the tree as it was written.
            let breaks = errors
                .iter()
                .filter(|error| error.message() != "duplicate key");
            if let Some(first) = breaks.map(place).min() {
                found.keep_before(line_start(text, first));
            }
            for error in &errors {
                // The message names tokens that were expected, never the text that was found.
                let problem = Problem::Syntax(error.message().to_owned());
                found.push(place(error), String::new(), problem);
            }
        }
        found.finish(file_name, text)?;
        Ok(config)
    }
}

fn read_all(tree: &Spanned<DeTable<'_>>, files: &Files<'_>, found: &mut Found) -> Config {
    let path = String::new();
    let mut root = Section::open(tree.get_ref(), 0, path, TABLES, belongs("", TABLES), found);
    let mut config = Config::default();
    let mut listen_at = None;
    if let Some(mut section) = root.section("server") {
        listen_at = section.offset("listen");
        config.server = server(&mut section);
    }
    let mut has_token_key = false;
    if let Some(mut section) = root.section("access") {
        has_token_key = section.has("token") || section.has("token_file");
        config.access = access(&mut section, files);
    }
    if let Some(mut section) = root.section("ice") {
        config.ice = ice(&mut section);
    }
    if let Some(mut section) = root.section("latency") {
        let words = &[("low", Latency::Low), ("smooth", Latency::Smooth)];
        section.set("mode", &mut config.latency, word(words));
    }
    if let Some(mut section) = root.section("limits") {
        config.limits = limits(&mut section);
    }
    config.cameras = camera::read_all(root.tables("camera"), files, root.found());
    // A token that is there but wrong is a mistake of its own.
    if let Some(at) = listen_at
        && !has_token_key
        && !config.access.anonymous
        && !config.server.listen.ip().to_canonical().is_loopback()
    {
        let problem = Problem::Missing(format!(
            "{} can be reached from other machines and nothing guards it; set access.token_file \
             (or access.token), or access.anonymous = true to let everybody watch, or listen on \
             127.0.0.1",
            config.server.listen
        ));
        root.found().push(at, "server.listen".to_owned(), problem);
    }
    config
}

impl<'i> Section<'_, 'i> {
    /// The table `name` of the file, with its unknown keys reported.
    fn section(&mut self, name: &'static str) -> Option<Section<'_, 'i>> {
        let (table, at) = self.table(name)?;
        let keys = KEYS.iter().find(|(table, _)| *table == name)?.1;
        let found = self.found();
        Some(Section::open(
            table,
            at,
            name.to_owned(),
            keys,
            belongs(name, keys),
            found,
        ))
    }
}

/// Where a key belongs that is known, but not in the table `here`.
pub(super) fn belongs(
    here: &'static str,
    keys: &'static [&'static str],
) -> impl Fn(&str) -> Option<&'static str> {
    move |key| {
        let (table, _) = KEYS.iter().find(|(table, known)| {
            *table != here && known.contains(&key) && !keys.contains(&key)
        })?;
        Some(match *table {
            "server" => "[server]",
            "access" => "[access]",
            "ice" => "[ice]",
            "latency" => "[latency]",
            "limits" => "[limits]",
            _ => "[[camera]]",
        })
    }
}

fn server(section: &mut Section<'_, '_>) -> Server {
    let mut server = Server::default();
    section.set("listen", &mut server.listen, address);
    section.list("allowed_origins", &mut server.allowed_origins, origin);
    section.list("hosts", &mut server.hosts, host);
    server
}

fn address(value: &DeValue<'_>) -> Result<SocketAddr, Problem> {
    let expected = "an IP address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"";
    let text = string(value, expected)?;
    text.parse().map_err(|_| unexpected(value, expected))
}

/// An origin as browsers write it: lower case, default port left out.
fn origin(text: &str) -> Result<String, Problem> {
    let wrong = || Problem::Unexpected {
        found: quoted(text),
        expected: "a site such as \"https://panel.example\", with no path; each is named, \"*\" \
                   is not accepted"
            .to_owned(),
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    match url.origin() {
        origin @ Origin::Tuple(..) if is_bare && matches!(url.scheme(), "http" | "https") => {
            Ok(origin.ascii_serialization())
        }
        Origin::Tuple(..) | Origin::Opaque(_) => Err(wrong()),
    }
}

/// A host name (RFC 1123 section 2.1), in lower case.
fn host(text: &str) -> Result<String, Problem> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(name.to_ascii_lowercase());
    }
    Err(Problem::Unexpected {
        found: quoted(text),
        expected: "a host name such as \"cam.example\", with no port".to_owned(),
    })
}

fn access(section: &mut Section<'_, '_>, files: &Files<'_>) -> Access {
    let mut access = Access::default();
    section.set("anonymous", &mut access.anonymous, boolean);
    let written = section.get("token", |value| secret(value).and_then(token));
    let stored = section.get("token_file", |value| files.secret(value).and_then(token));
    if section.has("token") && section.has("token_file") {
        let problem = "access.token is there too; keep one of the two".to_owned();
        section.fail_key("token_file", Problem::Conflict(problem));
    }
    access.token = written.or(stored);
    if access.anonymous && (section.has("token") || section.has("token_file")) {
        let problem = "a token is set and nobody would be asked for it; remove one of the two";
        section.fail("anonymous", Problem::Conflict(problem.to_owned()));
    }
    access
}

/// A token must fit a Bearer header (RFC 6750 section 2.1).
fn token(text: String) -> Result<Secret, Problem> {
    let expected = format!(
        "{} to {} letters, digits or -._~+/=",
        TOKEN_LENGTH.start(),
        TOKEN_LENGTH.end()
    );
    let length = text.chars().count();
    let found = if length < *TOKEN_LENGTH.start() {
        "a token that is too short"
    } else if length > *TOKEN_LENGTH.end() {
        "a token that is too long"
    } else if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b))
    {
        "a token with a character that a header cannot carry"
    } else {
        return Ok(Secret::new(text));
    };
    Err(Problem::Unexpected {
        found: found.to_owned(),
        expected,
    })
}

impl Files<'_> {
    /// The content of the file that a key names, without the newline at its end.
    pub(super) fn secret(&self, value: &DeValue<'_>) -> Result<String, Problem> {
        let name = string(value, "the name of a file")?;
        if name.is_empty() || name.contains('\0') {
            return Err(unexpected(value, "the name of a file"));
        }
        let path = self.directory.join(name);
        let unreadable = |why: String| Problem::Unreadable {
            path: quoted(&path.to_string_lossy()),
            why,
        };
        let text = (self.read)(&path).map_err(|error| unreadable(error.to_string()))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(unreadable("the file is empty".to_owned()));
        }
        Ok(text.to_owned())
    }
}

fn ice(section: &mut Section<'_, '_>) -> Ice {
    let mut ice = Ice::default();
    section.set("port", &mut ice.port, number::<Count, _>(0..=65535));
    section.set("mtu", &mut ice.mtu, number::<Count, _>(576..=1500));
    section.set("dscp", &mut ice.dscp, number::<Count, _>(0..=63));
    section.list("interfaces", &mut ice.interfaces, interface);
    section.list("exclude", &mut ice.exclude, interface);
    section.list("advertise", &mut ice.advertise, advertised);
    section.list("stun", &mut ice.stun, stun);
    if ice
        .exclude
        .iter()
        .any(|glob| glob.bytes().all(|b| b == b'*'))
        && ice.advertise.is_empty()
    {
        let problem = "\"*\" leaves no interface to reach viewers on; remove it or set \
                       ice.advertise";
        section.fail("exclude", Problem::Conflict(problem.to_owned()));
    }
    if let Some(both) = ice
        .interfaces
        .iter()
        .find(|name| ice.exclude.contains(name))
    {
        let problem = format!(
            "{} is also in ice.interfaces; keep one of the two",
            quoted(both)
        );
        section.fail("exclude", Problem::Conflict(problem));
    }
    ice
}

/// The name of a network interface or a pattern with `*` and `?`. Linux allows 15 bytes (IFNAMSIZ).
fn interface(text: &str) -> Result<String, Problem> {
    let is_allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '[' | ']');
    if (1..=15).contains(&text.len()) && text.chars().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err(Problem::Unexpected {
        found: quoted(text),
        expected: "the name of a network interface such as \"eth0\" or \"wlan*\"".to_owned(),
    })
}

/// An address that a viewer can send to.
fn advertised(text: &str) -> Result<IpAddr, Problem> {
    let is_usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    };
    text.parse()
        .ok()
        .filter(is_usable)
        .ok_or_else(|| Problem::Unexpected {
            found: quoted(text),
            expected: "an IP address that viewers can send to, such as \"203.0.113.7\"".to_owned(),
        })
}

/// A STUN server as a URL (RFC 7064): `stun:host` or `stun:host:port`, also `stuns:`.
fn stun(text: &str) -> Result<String, Problem> {
    let wrong = || Problem::Unexpected {
        found: quoted(text),
        expected: "a STUN server such as \"stun:stun.example:3478\"".to_owned(),
    };
    let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (rest, None),
    };
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host(name).is_ok(),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if matches!(scheme, "stun" | "stuns") && is_host && is_port {
        return Ok(text.to_owned());
    }
    Err(wrong())
}

fn limits(section: &mut Section<'_, '_>) -> Limits {
    let mut limits = Limits::default();
    let viewers = 1..=10_000;
    section.set(
        "viewers",
        &mut limits.viewers,
        number::<Count, _>(viewers.clone()),
    );
    section.set(
        "viewers_per_camera",
        &mut limits.viewers_per_camera,
        number::<Count, _>(viewers),
    );
    section.set(
        "half_open",
        &mut limits.half_open,
        number::<Count, _>(1..=1000),
    );
    section.set(
        "setup_timeout",
        &mut limits.setup_timeout,
        span(SECOND..=5 * MINUTE),
    );
    section.set("session_age", &mut limits.session_age, age);
    let rate = |most| number::<BitRate, u64>(100_000..=most);
    section.set("egress", &mut limits.egress, rate(100_000_000_000));
    section.set(
        "egress_per_viewer",
        &mut limits.egress_per_viewer,
        rate(10_000_000_000),
    );
    // A key frame of 1080p must fit: below it the viewer would skip for ever.
    section.set(
        "queue",
        &mut limits.queue,
        number::<ByteSize, _>(256 << 10..=256 << 20),
    );
    section.set(
        "requests",
        &mut limits.requests,
        number::<Count, _>(1..=100_000),
    );
    section.set(
        "connections",
        &mut limits.connections,
        number::<Count, _>(1..=65_536),
    );
    // Browsers' offers are 2 to 12 KB.
    section.set(
        "body",
        &mut limits.body,
        number::<ByteSize, _>(16 << 10..=1 << 20),
    );
    limits
}

/// A time, or the word "none".
fn age(value: &DeValue<'_>) -> Result<Option<Duration>, Problem> {
    if value.as_str() == Some("none") {
        return Ok(None);
    }
    match span(MINUTE..=365 * DAY)(value) {
        Ok(age) => Ok(Some(age)),
        Err(Problem::Unexpected { found, expected }) => {
            let expected = format!("\"none\" or {expected}");
            Err(Problem::Unexpected { found, expected })
        }
        Err(problem) => Err(problem),
    }
}
