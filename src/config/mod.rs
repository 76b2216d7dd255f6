//! Text in, checked values out: a `Config` cannot be wrong.
//!
//! In: TOML text, and a closure that reads the files it names. Out: [`Config`], or every mistake
//! at once with file, line, key, what was found and what is accepted.
//! Not here: reading files, binding ports.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod camera;
pub mod error;
mod sections;
pub mod units;
mod walk;

pub use camera::{LATER_KEYS, MAX_CAMERAS};
pub use error::{ConfigErrors, Mistake, Problem};
pub use sections::{KEYS, MAX_TEXT};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
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
    /// `https://panel.example`; as browsers write them, 64 at most.
    pub allowed_origins: Vec<String>,
    /// `hosts`: names, beside IP addresses, `localhost` and the machine's own name, that a
    /// request's Host header may hold (against DNS rebinding); in lower case, 64 at most.
    pub hosts: Vec<String>,
}

/// `[access]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// `token` or the content of `token_file`: 16 to 256 characters that fit a header.
    pub token: Option<Secret>,
    /// `anonymous`: serve everybody, on any address.
    pub anonymous: bool,
}

/// `[ice]`: the media port and the addresses told to viewers.
#[derive(Clone, Debug, PartialEq)]
pub struct Ice {
    /// `port`: UDP, one for all viewers, 0 to 65535; 0 lets the kernel choose.
    pub port: u16,
    /// `interfaces`: only these (`eth0`, `wlan*`), 64 at most; empty means all.
    pub interfaces: Vec<String>,
    /// `exclude`: never these.
    pub exclude: Vec<String>,
    /// `advertise`: these addresses in place of the machine's own (port forwarding).
    pub advertise: Vec<IpAddr>,
    /// `stun`: URLs (`stun:`, RFC 7064) that WHEP clients are told in `Link` headers. Pinhole asks
    /// none of them.
    pub stun: Vec<String>,
    /// `mtu`: the largest UDP payload sent, in bytes, 576 to 1500.
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
    /// `viewers`: sessions in all (one camera on one page each), 1 to 10,000.
    pub viewers: usize,
    /// `viewers_per_camera`: unless the camera says otherwise, 1 to 10,000.
    pub viewers_per_camera: usize,
    /// `half_open`: sessions that are not connected yet, 1 to 1000.
    pub half_open: usize,
    /// `setup_timeout`: a session that is not connected by then is ended, 1 s to 5 min.
    pub setup_timeout: Duration,
    /// `session_age`: a session older than this is ended, 1 min to 365 d; `None` (written
    /// "none") never.
    pub session_age: Option<Duration>,
    /// `egress`: media sent to all viewers together, bits per second, 100k to 100G.
    pub egress: u64,
    /// `egress_per_viewer`: bits per second, 100k to 10G.
    pub egress_per_viewer: u64,
    /// `queue`: bytes that may wait for one viewer, 256 KiB to 256 MiB; past it the viewer skips
    /// to a key frame.
    pub queue: usize,
    /// `requests`: HTTP requests per second from one address (short bursts of twice that pass),
    /// 1 to 100,000.
    pub requests: u32,
    /// `connections`: open HTTP connections, 1 to 65,536.
    pub connections: usize,
    /// `body`: bytes of one HTTP request body, 16 KiB to 1 MiB.
    pub body: usize,
}

/// `[[camera]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// `name`: 1 to 64 letters, digits, `-`, `_`, `.`; the last part of its WHEP URL.
    pub name: String,
    pub source: Source,
    /// `on_demand`: open with the first viewer, close `linger` after the last.
    pub on_demand: bool,
    /// `linger`: 0 s to 24 h.
    pub linger: Duration,
    /// `stall`: no picture for that long restarts the source, 500 ms to 1 h.
    pub stall: Duration,
    /// `max_errors`: so many in a row restart the source, 1 to 10,000.
    pub max_errors: u32,
    /// `max_viewers`: 1 to 10,000; `None` is `limits.viewers_per_camera`.
    pub max_viewers: Option<usize>,
    /// `gop_cache`: bytes kept for joins in the middle of a group of pictures, up to 256 MiB;
    /// 0 turns it off.
    pub gop_cache: usize,
}

/// `source` of a camera, and the keys that go with its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Rtsp(Rtsp),
    V4l2(V4l2),
    File(File),
    Pattern(Pattern),
}

/// `source = "rtsp://..."`
#[derive(Clone, PartialEq)]
pub struct Rtsp {
    /// Without user name and password. Many cameras take a password in the path or query too, so
    /// this is shown to nobody: see [`Rtsp::shown`].
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

/// `source = "v4l2:..."`: a camera of this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct V4l2 {
    pub device: DeviceName,
    /// `size`: even sides of 64 to 3840 pixels; `None` lets Pinhole choose.
    pub size: Option<units::FrameSize>,
    /// `fps`: 1 to 60, a limit; `None` lets Pinhole choose.
    pub fps: Option<u32>,
    /// `bitrate`: bits per second, 50k to 100M; `None` follows from size and rate.
    pub bitrate: Option<u32>,
    pub encoder: EncoderChoice,
    /// `controls`: V4L2 names in lower case with `_` for blanks, 64 at most, in the order of the
    /// file.
    pub controls: Vec<(String, ControlValue)>,
}

/// Which device: a node below `/dev`, or the name of a link in `/dev/v4l/by-id` or `by-path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String);

/// `encoder`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncoderChoice {
    /// Hardware where there is some and it works, else software.
    #[default]
    Auto,
    Hardware,
    Software,
}

/// One value of `controls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlValue {
    Number(i64),
    Flag(bool),
    /// A word of a menu: "50 Hz".
    Word(String),
}

/// `source = "file:..."`: a clip, looped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative names start at the directory of the configuration.
    pub path: PathBuf,
    /// `fps`: 1 to 60, of a byte stream; `None` takes what the stream says of itself. An MP4 has
    /// times of its own.
    pub fps: Option<u32>,
}

/// `source = "pattern:"`: a generated picture with clock and frame counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pattern {
    /// `size`: even numbers of pixels, 64 to 3840.
    pub width: u32,
    pub height: u32,
    /// `fps`: 1 to 60.
    pub fps: u32,
    /// `bitrate`: bits per second, 50k to 100M.
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

impl Rtsp {
    /// Scheme, host and port, for logs and the API.
    pub fn shown(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("rtsp://{host}:{port}"),
            None => format!("rtsp://{host}"),
        }
    }
}

impl DeviceName {
    /// A path below `/dev`, or a bare file name.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl V4l2 {
    /// A device with every other key at its default.
    pub fn new(device: DeviceName) -> Self {
        Self {
            device,
            size: None,
            fps: None,
            bitrate: None,
            encoder: EncoderChoice::Auto,
            controls: Vec::new(),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Rtsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rtsp")
            .field("url", &self.shown())
            .field("has_credentials", &self.credentials.is_some())
            .field("transport", &self.transport)
            .finish()
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
            stun: Vec::new(),
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
            half_open: 32,
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
