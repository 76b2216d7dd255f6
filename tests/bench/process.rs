//! The pinhole process under test, and what /proc tells of it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub struct Pinhole {
    child: Child,
    http: SocketAddr,
}

impl Pinhole {
    /// Starts it with one camera, and waits until that plays (or, on demand, until HTTP answers).
    pub fn start(camera: SocketAddr, on_demand: bool, gso: bool) -> io::Result<Self> {
        let camera = format!(
            "[[camera]]\nname = \"cam\"\nsource = \"rtsp://{camera}/clip\"\non_demand = {on_demand}\n"
        );
        let binary = std::env::var_os("PINHOLE_BIN");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_pinhole").into());
        let mut command = Command::new(binary);
        command
            .args(["--log", "warn", "run", "--config"])
            .env("PINHOLE_UDP_GSO", if gso { "on" } else { "off" });
        Self::spawn(command, &camera, &[])
    }

    /// Starts `command` with the name of a configuration with these cameras, then `rest`; waits
    /// until all of them play (or, on demand, until HTTP answers).
    pub fn spawn(mut command: Command, cameras: &str, rest: &[&str]) -> io::Result<Self> {
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let media = UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
        let config = format!(
            "[server]\nlisten = \"{http}\"\n[ice]\nport = {media}\n\
             [limits]\nviewers = 100\nviewers_per_camera = 100\nhalf_open = 100\nrequests = 1000\n\
             {cameras}"
        );
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{media}.toml"));
        fs::write(&file, config)?;
        let child = command.arg(&file).args(rest).stdin(Stdio::null()).spawn()?;
        let pinhole = Self { child, http };
        let expected = match cameras.contains("on_demand = true") {
            true => 0,
            false => cameras.matches("[[camera]]").count(),
        };
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = pinhole.request("GET", "/api/cameras", "");
            if answer.is_ok_and(|c| c.matches("\"playing\"").count() >= expected) {
                let _ = fs::remove_file(&file);
                return Ok(pinhole);
            }
            if Instant::now() > until {
                return Err(io::Error::other("the camera does not play"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The whole answer, head and body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_nodelay(true)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.http,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// User and system time of all threads, to the nanosecond.
    pub fn cpu(&self) -> Duration {
        self.cpu_of(|_| true)
    }

    /// The same of threads with such names.
    pub fn cpu_of(&self, is_counted: impl Fn(&str) -> bool) -> Duration {
        let of_thread = |task: &Path| {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            if !is_counted(name.trim_end()) {
                return 0;
            }
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            text.split(' ')
                .next()
                .and_then(|ns| ns.parse().ok())
                .unwrap_or(0)
        };
        Duration::from_nanos(self.sum_of_threads(of_thread))
    }

    /// Times that a thread went to sleep, and so was woken.
    pub fn switches(&self) -> u64 {
        self.sum_of_threads(|task| {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            field(&status, "voluntary_ctxt_switches:")
        })
    }

    fn sum_of_threads(&self, figure: impl Fn(&Path) -> u64) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.into_iter().flatten().flatten();
        tasks.map(|task| figure(&task.path())).sum()
    }

    /// Resident bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        field(&status.unwrap_or_default(), "VmRSS:") * 1024
    }

    /// System calls that sent media, if the process tells.
    pub fn send_calls(&self) -> Option<u64> {
        let metrics = self.request("GET", "/metrics", "").ok()?;
        let mut lines = metrics.lines();
        let line = lines.find_map(|l| l.strip_prefix("pinhole_udp_calls_out_total "))?;
        line.trim().parse().ok()
    }
}

impl Drop for Pinhole {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
