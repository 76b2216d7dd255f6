//! Text in, checked values out: a `Config` cannot be wrong.
//!
//! In: TOML text, and a closure that reads the files it names. Out: [`Config`], or every mistake
//! at once with file, line, key, what was found and what is accepted.
//! Not here: reading files, binding ports.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use url::Url;

/// Everything that can be configured, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub server: Server,
    pub access: Access,
    pub ice: Ice,
    pub latency: Latency,
    pub limits: Limits,
    /// In the order of the file; names are unique.
    pub cameras: Vec<Camera>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// `listen`: where HTTP is served.
    pub listen: SocketAddr,
    /// `allowed_origins`: origins that may use the API from another site (CORS), e.g.
    /// `https://panel.example`.
    pub allowed_origins: Vec<String>,
    /// `hosts`: names, beside IP addresses, `localhost` and the machine's own name, that a
    /// request's Host header may hold (against DNS rebinding).
    pub hosts: Vec<String>,
}

/// `[access]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// `token` or the content of `token_file`: 16 characters at least.
    pub token: Option<Secret>,
    /// `anonymous`: serve everybody, on any address.
    pub anonymous: bool,
}

/// `[ice]`: the media port and the addresses told to viewers.
#[derive(Clone, Debug, PartialEq)]
pub struct Ice {
    /// `port`: UDP, one for all viewers; 0 lets the kernel choose.
    pub port: u16,
    /// `interfaces`: only these (`eth0`, `wlan*`); empty means all.
    pub interfaces: Vec<String>,
    /// `exclude`: never these.
    pub exclude: Vec<String>,
    /// `advertise`: these addresses in place of the machine's own (port forwarding).
    pub advertise: Vec<IpAddr>,
    /// `mtu`: the largest UDP payload sent, in bytes.
    pub mtu: usize,
    /// `dscp`: differentiated services code point of media, 0 to 63; 0 marks nothing.
    pub dscp: u8,
}

/// `[latency] mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// Browsers are asked to show each picture at once (playout delay 0).
    #[default]
    Low,
    /// Browsers keep their jitter buffer.
    Smooth,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `viewers`: sessions in all.
    pub viewers: usize,
    /// `viewers_per_camera`: unless the camera says otherwise.
    pub viewers_per_camera: usize,
    /// `half_open`: sessions that are not connected yet.
    pub half_open: usize,
    /// `setup_timeout`: a session that is not connected by then is ended.
    pub setup_timeout: Duration,
    /// `session_age`: a session older than this is ended; `None` (written "none") never.
    pub session_age: Option<Duration>,
    /// `egress`: media sent to all viewers together, bits per second.
    pub egress: u64,
    /// `egress_per_viewer`: bits per second.
    pub egress_per_viewer: u64,
    /// `queue`: bytes that may wait for one viewer; past it the viewer skips to a key frame.
    pub queue: usize,
    /// `requests`: HTTP requests per second from one address (short bursts of twice that pass).
    pub requests: u32,
    /// `connections`: open HTTP connections.
    pub connections: usize,
    /// `body`: bytes of one HTTP request body.
    pub body: usize,
}

/// `[[camera]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// `name`: letters, digits, `-`, `_`, `.`; the last part of its WHEP URL.
    pub name: String,
    pub source: Source,
    /// `on_demand`: open with the first viewer, close `linger` after the last.
    pub on_demand: bool,
    pub linger: Duration,
    /// `stall`: no picture for that long restarts the source.
    pub stall: Duration,
    /// `max_errors`: so many in a row restart the source.
    pub max_errors: u32,
    /// `max_viewers`
    pub max_viewers: Option<usize>,
    /// `gop_cache`: bytes kept for joins in the middle of a group of pictures; 0 turns it off.
    pub gop_cache: usize,
}

/// `source` of a camera, and the keys that go with its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Rtsp(Rtsp),
    Pattern(Pattern),
}

/// `source = "rtsp://..."`
#[derive(Clone, Debug, PartialEq)]
pub struct Rtsp {
    /// Without user name and password.
    pub url: Url,
    pub credentials: Option<Credentials>,
    pub transport: Transport,
}

/// From the URL, `username` and `password`, or `username` and `password_file`.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
}

/// `transport`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// TCP first; UDP when the camera refuses it.
    #[default]
    Auto,
    Tcp,
    Udp,
}

/// `source = "pattern:"`: a generated picture with clock and frame counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pattern {
    /// `size`: even numbers of pixels.
    pub width: u32,
    pub height: u32,
    /// `fps`
    pub fps: u32,
    /// `bitrate`: bits per second.
    pub bitrate: u32,
}

/// A string that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that must send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

impl Default for Ice {
    fn default() -> Self {
        Self {
            port: 8555,
            interfaces: Vec::new(),
            exclude: Vec::new(),
            advertise: Vec::new(),
            mtu: 1200,
            dscp: 0,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            viewers: 64,
            viewers_per_camera: 32,
            half_open: 16,
            setup_timeout: Duration::from_secs(15),
            session_age: None,
            egress: 500_000_000,
            egress_per_viewer: 50_000_000,
            queue: 4 << 20,
            requests: 50,
            connections: 128,
            body: 64 << 10,
        }
    }
}

impl Default for Pattern {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            fps: 30,
            bitrate: 2_000_000,
        }
    }
}

impl Camera {
    /// A camera with every key but `name` and `source` at its default.
    pub fn new(name: impl Into<String>, source: Source) -> Self {
        Self {
            name: name.into(),
            source,
            on_demand: false,
            linger: Duration::from_secs(10),
            stall: Duration::from_secs(5),
            max_errors: 10,
            max_viewers: None,
            gop_cache: 8 << 20,
        }
    }
}
