//! The virtual machine's own levers: modules, vivid's fault controls, what this process uses.
//!
//! In: commands of a case. Out: effects on the machine, figures from /proc.
//! Not here: Pinhole.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs `line` in the machine's shell and gives its output; panics where it fails.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {said}{complaint}");
    said
}

/// Loads vivid afresh with `arguments`. Every camera has one input, a webcam, shows colour bars
/// without words (so that all pictures are alike) and has no other faces (radio, touch).
pub fn load_vivid(arguments: &str) {
    unload("vivid");
    let inputs = ["1"; 8].join(",");
    shell(&format!("modprobe vivid num_inputs={inputs} {arguments}"));
}

/// One single-planar vivid camera as /dev/video0, with every fault control.
pub fn one_vivid() {
    load_vivid("node_types=0x1 input_types=0x0");
    quiet_picture(0);
}

pub fn quiet_picture(device: u32) {
    eventually("the device's node", || {
        Path::new(&format!("/dev/video{device}")).exists()
    });
    control(device, "osd_text_mode=2");
}

pub fn unload(module: &str) {
    eventually(&format!("{module} lets itself be unloaded"), || {
        !Path::new(&format!("/sys/module/{module}")).exists()
            || shell_succeeds(&format!("rmmod {module}"))
    });
}

fn shell_succeeds(line: &str) -> bool {
    let quiet = Command::new("sh")
        .args(["-c", line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// Sets a vivid control from outside, as `name=value`.
pub fn control(device: u32, setting: &str) {
    shell(&format!("v4l2-ctl -d {device} -c {setting}"));
}

/// Takes vivid's `n`th camera away, node and all, as a pulled cable does.
pub fn unbind(n: u32) {
    fs::write(
        "/sys/bus/platform/drivers/vivid/unbind",
        format!("vivid.{n}"),
    )
    .unwrap();
}

/// Brings it back, under the node number that it had. The kernel has that free a moment after the
/// last descriptor and mapping of the old node are gone, and tells nobody: one that came back as
/// another node is taken away again.
pub fn bind(n: u32) {
    eventually("the camera is back under its number", || {
        fs::write("/sys/bus/platform/drivers/vivid/bind", format!("vivid.{n}")).unwrap();
        let is_back = Path::new(&format!("/dev/video{n}")).exists();
        if !is_back {
            unbind(n);
        }
        is_back
    });
}

/// Waits up to 20 s for something that tells nobody when it happens.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within 20 s");
        sleep(Duration::from_millis(20));
    }
}

/// Another program that streams from the device, until dropped.
pub struct Rival(Child);

impl Rival {
    pub fn holds(device: u32) -> Self {
        let mut command = Command::new("v4l2-ctl");
        command.args(["-d", &device.to_string(), "--stream-mmap"]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rival = Self(child);
        // With its buffers the queue is its own. (To try the queue could take it from the rival.)
        let (maps, node) = (
            format!("/proc/{}/maps", rival.0.id()),
            format!("/dev/video{device}"),
        );
        eventually("the rival streams", || {
            fs::read_to_string(&maps).is_ok_and(|maps| maps.contains(&node))
        });
        rival
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    pub memory_kib: u64,
    pub threads: u64,
    pub files: u64,
    pub cameras: u64,
}

impl Holds {
    pub fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        let open: Vec<_> = open
            .filter_map(|f| fs::read_link(f.ok()?.path()).ok())
            .collect();
        // A device counts once, however often its descriptor was duplicated.
        let is_camera = |path: &&PathBuf| path.to_string_lossy().starts_with("/dev/video");
        let cameras: BTreeSet<_> = open.iter().filter(is_camera).collect();
        Self {
            memory_kib: field("VmRSS:"),
            threads: field("Threads:"),
            files: open.len() as u64,
            cameras: cameras.len() as u64,
        }
    }

    pub fn ours() -> Self {
        Self::of(std::process::id())
    }
}

/// Gives back to the kernel what the allocator keeps of freed memory, so that what is left is what
/// somebody holds.
#[allow(unsafe_code)]
pub fn give_back_memory() {
    // SAFETY: it takes a number and touches nothing but the allocator's own lists, under its lock.
    unsafe { nix::libc::malloc_trim(0) };
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory_kib,
            threads,
            files,
            cameras,
        } = self;
        write!(
            f,
            "{memory_kib} KiB, {threads} threads, {files} files ({cameras} cameras)"
        )
    }
}

/// Plays the bad camera for `seconds` while somebody outside watches: one fault after the other,
/// each told on the output with the machine's time.
pub fn disturb(seconds: u64) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let faults: [(&str, fn()); 5] = [
        ("buffer error", || {
            control(0, "inject_v4l2_buf_flag_error=1")
        }),
        ("fatal streaming error", || {
            control(0, "inject_fatal_streaming_error=1")
        }),
        ("disconnect", || control(0, "disconnect=1")),
        ("unbind for 1 s", || {
            unbind(0);
            sleep(Duration::from_secs(1));
            bind(0);
        }),
        ("queue error", || control(0, "inject_vidioc_qbuf_error=1")),
    ];
    for (name, inject) in faults.iter().cycle() {
        sleep(Duration::from_secs(7));
        if Instant::now() + Duration::from_secs(8) > until {
            break;
        }
        println!("camera: {name}");
        inject();
    }
    sleep(until.saturating_duration_since(Instant::now()));
}
