//! Foreign RTSP servers as child processes (see `tests/cameras`).

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

/// A server process; killed when dropped. There is one at a time: what they code and how soon they
/// are back is judged by the clock.
pub struct Server {
    _alone: MutexGuard<'static, ()>,
    child: Child,
    /// Removed with the server.
    clip: Option<PathBuf>,
    pub url: String,
}

impl Server {
    /// GStreamer's server with these arguments, listening. `None`: it is not installed.
    pub fn gst(arguments: &[&str]) -> Option<Self> {
        Self::gst_by(&[], arguments)
    }

    /// The same, its command put behind `prefix`.
    pub fn gst_by(prefix: &[&str], arguments: &[&str]) -> Option<Self> {
        if !has_gst() {
            skip("GStreamer's RTSP server (python3-gi, gir1.2-gst-rtsp-server-1.0, plugins)");
            return None;
        }
        let alone = alone();
        let words = [prefix, &[PYTHON]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(cameras().join("gst_camera.py"))
            .arg("--until-eof")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line.trim().to_owned());
        });
        let url = line.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(url.starts_with("rtsp://"), "gst_camera.py said {url:?}");
        Some(Self {
            _alone: alone,
            child,
            clip: None,
            url,
        })
    }

    /// VLC on a port that was free, looping a clip made for it; not yet listening. `None`: VLC or
    /// ffmpeg is not installed.
    pub fn vlc() -> Option<Self> {
        for tool in ["cvlc", "ffmpeg"] {
            // Not by running it: VLC refuses root even for --help.
            if !runs(Command::new("sh").args(["-c", &format!("command -v {tool}")])) {
                skip(tool);
                return None;
            }
        }
        let alone = alone();
        let clip = clip();
        let port = free_port();
        let child = Command::new("sh")
            .arg(cameras().join("vlc_camera.sh"))
            .arg(port.to_string())
            .arg(&clip)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("rtsp://127.0.0.1:{port}/cam");
        Some(Self {
            _alone: alone,
            child,
            clip: Some(clip),
            url,
        })
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// Sends a signal by name (`STOP`, `CONT`, `KILL`).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(clip) = &self.clip {
            let _ = std::fs::remove_file(clip);
        }
    }
}

/// A network of our own with one cable: our end here, the camera's end in a namespace.
pub struct Cable {
    namespace: String,
    far: String,
}

impl Cable {
    /// Address of the camera's end (TEST-NET-2, RFC 5737).
    pub const CAMERA: &str = "198.51.100.2";

    /// `None`: not root, no network namespaces here, or the machine uses those addresses itself
    /// (then ours would take its traffic).
    pub fn new() -> Option<Self> {
        let in_use = "! ip route show table all | grep -q 198.51.100.";
        if !runs(Command::new("sh").args(["-c", in_use])) {
            skip("a free network 198.51.100.0/30");
            return None;
        }
        let id = std::process::id();
        let cable = Self {
            namespace: format!("pinhole-{id}"),
            far: format!("ph{id}b"),
        };
        let near = format!("ph{id}a");
        let (ns, far) = (&cable.namespace, &cable.far);
        let camera = format!("{}/30", Self::CAMERA);
        let made = ip(&["netns", "add", ns])
            && ip(&[
                "link", "add", &near, "type", "veth", "peer", "name", far, "netns", ns,
            ])
            && ip(&["addr", "add", "198.51.100.1/30", "dev", &near])
            && ip(&["link", "set", &near, "up"])
            && ip(&["-n", ns, "addr", "add", &camera, "dev", far])
            && ip(&["-n", ns, "link", "set", far, "up"]);
        if !made {
            skip("iproute2 with the right to make network namespaces (root)");
            return None;
        }
        Some(cable)
    }

    /// What runs a command at the camera's end.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.namespace]
    }

    /// Pulls the cable out of the camera, or plugs it in again.
    pub fn plug(&self, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        assert!(ip(&[
            "-n",
            &self.namespace,
            "link",
            "set",
            &self.far,
            state
        ]));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.namespace]); // and with it both ends
    }
}

fn ip(arguments: &[&str]) -> bool {
    runs(Command::new("ip").args(arguments))
}

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port of 127.0.0.1 on which nobody listens. Not one that the kernel gives away: it could give
/// it to somebody else before the server has it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn cameras() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cameras")
}

fn has_gst() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let check = "import gi; gi.require_version('GstRtspServer', '1.0'); \
                     from gi.repository import Gst, GstRtspServer; Gst.init(None); \
                     names = 'x264enc x265enc opusenc h264parse rtph264pay videotestsrc'; \
                     assert all(Gst.ElementFactory.find(n) for n in names.split())";
        runs(Command::new(PYTHON).args(["-c", check]))
    })
}

fn runs(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Says that a test cannot run here, which is an error where everything is required.
fn skip(what: &str) {
    assert!(
        std::env::var("PINHOLE_REQUIRE_ALL").as_deref() != Ok("1"),
        "{what}: not here, and PINHOLE_REQUIRE_ALL=1"
    );
    println!("skipped: {what}: not here");
}

/// Twenty seconds of H.264 without B-frames, readable by whoever VLC runs as.
fn clip() -> PathBuf {
    let path = std::env::temp_dir().join(format!("pinhole-clip-{}.mp4", std::process::id()));
    let made = runs(
        Command::new("ffmpeg")
            .args([
                "-y",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=320x240:rate=25",
                "-t",
                "20",
            ])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-g",
                "25",
                "-bf",
                "0",
            ])
            .args(["-pix_fmt", "yuv420p"])
            .arg(&path),
    );
    assert!(made, "ffmpeg could not make {}", path.display());
    path
}

/// The system's own: pyenv's and others know nothing of GStreamer.
const PYTHON: &str = "/usr/bin/python3";
