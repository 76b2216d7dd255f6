//! The whole program in the machine, as a child of this one.
//!
//! In: the lines of one camera. Out: the running program, what it says and holds.
//! Not here: viewers (viewer), sources alone (watch).

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command};

use crate::machine::{Holds, eventually};
use crate::viewer;

/// Where its only camera is watched.
pub const URL: &str = "http://127.0.0.1:8080/whep/cam";
const SERVER: &str = "127.0.0.1:8080";
const LOG: &str = "/tmp/pinhole.log";

/// Runs until it is dropped.
pub struct Gateway(Child);

impl Gateway {
    /// Starts it with the camera `cam` of these lines.
    pub fn start(camera: &str) -> Self {
        let text = format!(
            "[ice]\nport = 8555\nadvertise = [\"127.0.0.1\"]\n[limits]\nrequests = 1000\n\
             [[camera]]\nname = \"cam\"\n{camera}\n"
        );
        fs::write("/tmp/pinhole.toml", text).unwrap();
        let child = Command::new("./pinhole")
            .args(["run", "--config", "/tmp/pinhole.toml"])
            .stderr(fs::File::create(LOG).unwrap())
            .spawn()
            .unwrap();
        let gateway = Self(child);
        eventually("pinhole serves", || TcpStream::connect(SERVER).is_ok());
        gateway
    }

    pub fn process(&self) -> u32 {
        self.0.id()
    }

    pub fn holds(&self) -> Holds {
        Holds::of(self.process())
    }

    /// The camera as `GET /api/cameras` has it.
    pub fn camera(&self) -> serde_json::Value {
        let all = viewer::get(SERVER, "/api/cameras");
        let mut all: serde_json::Value = serde_json::from_str(&all).unwrap();
        match &mut all {
            serde_json::Value::Array(list) => list.remove(0),
            other => other["cameras"][0].take(),
        }
    }

    /// The value of a metric of the camera.
    pub fn metric(&self, name: &str) -> f64 {
        let all = viewer::get(SERVER, "/metrics");
        let start = format!("pinhole_{name}{{camera=\"cam\"}} ");
        let line = all.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start}in:\n{all}"))
            .parse()
            .unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(LOG).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
