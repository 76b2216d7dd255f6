//! What a viewer costs in the core, without sockets: the real gateway in simulated time, viewers
//! that are a second str0m each and answer everything. Only what the gateway does is counted.
//!
//! `cargo bench --bench fanout`: CPU, allocations and memory at 1, 8, 32 and 64 viewers.
//! `fanout --workload VIEWERS SECONDS`: one run for `tests/bench/instructions.sh`, which counts
//! instructions: a figure that the noise of a shared machine does not move.
#![allow(unsafe_code)] // the counting allocator, the thread's CPU clock
#![allow(clippy::print_stdout)] // its output

mod viewer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::libc;
use pinhole::config::{self, Config};
use pinhole::gateway::{Gateway, Output};
use pinhole::media::{Abilities, AccessUnit, CameraId, Codec, SourceEvent, Stages};
use pinhole::session::{Datagram, install_crypto, new_certificate};
use pinhole::whep::{Command, Outcome};
use url::Url;

use viewer::Viewer;

/// 1080p30 at 4 Mbit/s, a key frame every four seconds, five times as large as the others.
const FPS: u32 = 30;
const GOP: u32 = 120;
const DELTA_BYTES: usize = 16_130;
const KEY_BYTES: usize = 5 * DELTA_BYTES;
const PLAY: Duration = Duration::from_secs(10);
/// Milliseconds after a key frame when the GOP cache is as full as it gets.
const FULL_CACHE: u32 = 3_990;
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 8555);

fn main() {
    install_crypto();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--workload") {
        let number = |i: usize| arguments.get(at + i).and_then(|a| a.parse().ok());
        let (viewers, seconds) = (number(1).unwrap_or(8), number(2).unwrap_or(4));
        let figures = measure(viewers as usize, Duration::from_secs(seconds));
        println!("packets {}", figures.packets);
        println!("frames {}", figures.frames);
        return;
    }
    println!("gateway alone, no sockets; 1080p30, 4 Mbit/s, GOP 4 s, {PLAY:?} of play");
    println!(
        "{:>7} {:>9} {:>9} {:>12} {:>10} {:>12} {:>11} {:>11}",
        "viewers",
        "packets",
        "us/packet",
        "ms/viewer-s",
        "allocs/pkt",
        "bytes/alloc",
        "kB/viewer",
        "kB shared"
    );
    for viewers in [1, 8, 32, 64] {
        let f = measure(viewers, PLAY);
        let per_packet = f.cpu.as_secs_f64() * 1e6 / f.packets as f64;
        let per_viewer_second = f.cpu.as_secs_f64() * 1e3 / viewers as f64 / PLAY.as_secs_f64();
        println!(
            "{viewers:>7} {:>9} {per_packet:>9.2} {per_viewer_second:>12.2} {:>10.2} {:>12.0} {:>11.0} {:>11.0}",
            f.packets,
            f.tally.allocations as f64 / f.packets as f64,
            f.tally.bytes as f64 / f.tally.allocations as f64,
            f.bytes_of_viewers as f64 / 1e3 / viewers as f64,
            f.bytes_before as f64 / 1e3,
        );
    }
}

struct Figures {
    packets: u64,
    frames: u64,
    cpu: Duration,
    tally: Tally,
    /// Live bytes of the gateway after play, less those before anybody came.
    bytes_of_viewers: i64,
    bytes_before: i64,
}

fn measure(viewers: usize, play: Duration) -> Figures {
    TALLY.set(Tally::default());
    let mut bench = Bench::new(viewers);
    bench.run_to_phase(FULL_CACHE);
    let bytes_before = tally().live;
    for _ in 0..viewers {
        bench.join();
        bench.run_for(Duration::from_millis(7));
    }
    // The groups replayed at the joins leave, caches fill. The GOP cache holds as much after play
    // as it held before the joins.
    bench.run_for(Duration::from_secs(3));
    let group = GOP / FPS * 1000;
    bench.run_to_phase(FULL_CACHE + group - play.as_millis() as u32 % group);
    assert!(
        bench
            .viewers
            .iter()
            .all(|v| v.is_connected && v.frames > 100)
    );
    let (before, packets, frames) = (tally(), bench.packets, bench.frames);
    bench.cpu = Duration::ZERO;
    bench.is_timed = true;
    bench.run_for(play);
    let after = tally();
    assert!(bench.viewers.iter().all(|v| v.losses == 0), "packets lost");
    Figures {
        packets: bench.packets - packets,
        frames: bench.frames - frames,
        cpu: bench.cpu,
        tally: Tally {
            allocations: after.allocations - before.allocations,
            bytes: after.bytes - before.bytes,
            live: 0,
        },
        bytes_of_viewers: after.live - bytes_before,
        bytes_before,
    }
}

/// What happens to the gateway in one turn.
enum Input<'a> {
    Unit(AccessUnit),
    Datagrams(&'a [(SocketAddr, SocketAddr, Vec<u8>)]),
    Time,
    Command(Command),
}

struct Bench {
    gateway: Gateway,
    viewers: Vec<Viewer>,
    start: Instant,
    now: Instant,
    /// When the gateway wants to be called.
    wake: Instant,
    next_picture: u32,
    key: Bytes,
    delta: Bytes,
    outbox: Vec<Datagram>,
    /// What left in one turn.
    sent: Vec<Datagram>,
    arrivals: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    packets: u64,
    frames: u64,
    is_timed: bool,
    cpu: Duration,
}

impl Bench {
    fn new(viewers: usize) -> Self {
        let now = Instant::now();
        let source = config::Source::Rtsp(config::Rtsp {
            url: Url::parse("rtsp://camera.invalid/").expect("a URL"),
            credentials: None,
            transport: config::Transport::Auto,
        });
        let mut config = Config {
            cameras: vec![config::Camera::new("cam", source)],
            ..Config::default()
        };
        config.limits.viewers = viewers;
        config.limits.viewers_per_camera = viewers;
        config.limits.half_open = viewers;
        let certificate = new_certificate().expect("randomness");
        let abilities = Abilities::default();
        let gateway = measured(|| {
            let mut gateway = Gateway::new(config, certificate, [7; 32], now);
            gateway.handle_source(now, CameraId(0), SourceEvent::Opening);
            gateway.handle_source(now, CameraId(0), SourceEvent::Playing(abilities));
            gateway
        });
        Self {
            gateway,
            viewers: Vec::new(),
            start: now,
            now,
            wake: now,
            next_picture: 0,
            key: picture(true),
            delta: picture(false),
            outbox: Vec::new(),
            sent: Vec::with_capacity(1 << 16),
            arrivals: Vec::new(),
            packets: 0,
            frames: 0,
            is_timed: false,
            cpu: Duration::ZERO,
        }
    }

    fn picture_at(&self) -> Instant {
        self.start + Duration::from_secs(self.next_picture.into()) / FPS
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let viewers = self.viewers.iter().map(|v| v.timeout).min();
            let gateway = self.wake.max(self.now + Duration::from_micros(50));
            let next = self.picture_at().min(gateway);
            let next = viewers.map_or(next, |at| at.min(next));
            if next >= until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// Runs until so many milliseconds after some key frame.
    fn run_to_phase(&mut self, phase: u32) {
        let group = u128::from(GOP / FPS * 1000);
        let now = (self.now - self.start).as_millis() % group;
        let left = (u128::from(phase) + group - now) % group;
        self.run_for(Duration::from_millis(left as u64));
    }

    fn step(&mut self) {
        let now = self.now;
        if self.picture_at() <= now {
            let unit = self.unit();
            self.frames += 1;
            self.turn(Input::Unit(unit));
        }
        if self.wake <= now {
            self.turn(Input::Time);
        }
        for viewer in self.viewers.iter_mut().filter(|v| v.timeout <= now) {
            viewer.handle_timeout(now);
        }
        self.gather();
        if !self.arrivals.is_empty() {
            let arrivals = std::mem::take(&mut self.arrivals);
            self.turn(Input::Datagrams(&arrivals));
        }
    }

    fn gather(&mut self) {
        for viewer in &mut self.viewers {
            let from = viewer.address;
            let datagrams = viewer.outbox.drain(..);
            self.arrivals
                .extend(datagrams.map(|(to, bytes)| (from, to, bytes)));
        }
    }

    fn unit(&mut self) -> AccessUnit {
        let is_key_frame = self.next_picture.is_multiple_of(GOP);
        let ticks = i64::from(self.next_picture) * 90_000 / i64::from(FPS);
        self.next_picture += 1;
        let data = if is_key_frame { &self.key } else { &self.delta };
        AccessUnit {
            codec: Codec::H264,
            data: data.clone(),
            is_key_frame,
            ticks,
            received: self.now,
            after_loss: false,
            stages: Stages::default(),
        }
    }

    /// One turn of the daemon's loop, the gateway's part measured, then everything delivered.
    fn turn(&mut self, input: Input<'_>) -> Option<Outcome> {
        let begun = cpu_time();
        let outcome = measured(|| match self.is_timed {
            true => self.timed_turn(input),
            false => self.gateway_turn(input),
        });
        let spent = cpu_time() - begun;
        if self.is_timed {
            self.cpu += spent;
        }
        let (now, viewers) = (self.now, &mut self.viewers);
        for datagram in &self.sent {
            let index = usize::from(datagram.to.port()) - FIRST_PORT;
            self.packets += u64::from(datagram.bytes.len() > 300);
            if let Some(viewer) = viewers.get_mut(index) {
                viewer.receive(now, datagram.from, &datagram.bytes, |_| {});
            }
        }
        measured(|| self.sent.clear());
        outcome
    }

    /// All that is counted. Never inlined: callgrind finds it by its name.
    #[inline(never)]
    fn timed_turn(&mut self, input: Input<'_>) -> Option<Outcome> {
        self.gateway_turn(input)
    }

    fn gateway_turn(&mut self, input: Input<'_>) -> Option<Outcome> {
        let (now, gateway) = (self.now, &mut self.gateway);
        let mut outcome = None;
        match input {
            Input::Unit(unit) => {
                gateway.handle_source(now, CameraId(0), SourceEvent::Unit(unit));
            }
            Input::Datagrams(datagrams) => {
                for (from, to, bytes) in datagrams {
                    gateway.handle_datagram(now, *from, *to, bytes);
                }
            }
            Input::Time => gateway.handle_timeout(now),
            Input::Command(command) => {
                let candidates = [SocketAddr::from(SERVER)];
                outcome = Some(gateway.handle_command(now, command, &candidates));
            }
        }
        loop {
            match gateway.poll_output(now, &mut self.outbox) {
                Output::Send { .. } => self.sent.append(&mut self.outbox),
                Output::Demand(..) => {}
                Output::Wait { until, .. } => {
                    self.wake = until;
                    return outcome;
                }
            }
        }
    }

    fn join(&mut self) {
        let port = FIRST_PORT + self.viewers.len();
        let address = SocketAddr::from(([10, 0, 1, 1], port as u16));
        let (viewer, offer) = Viewer::new(self.now, address);
        let command = measured(|| Command::Open {
            camera: "cam".to_owned(),
            offer: offer.clone(),
            peer: address.ip(),
        });
        self.viewers.push(viewer);
        let Some(Outcome::Opened { answer, .. }) = self.turn(Input::Command(command)) else {
            panic!("the join was refused");
        };
        let now = self.now;
        if let Some(viewer) = self.viewers.last_mut() {
            viewer.accept(now, &answer);
        }
    }
}

const FIRST_PORT: usize = 10_000;

fn picture(is_key_frame: bool) -> Bytes {
    let sps: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdd, 0x80, 0xb5, 0x01, 0x01, 0x01,
        0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc6, 0x0c, 0xa8,
    ];
    let (header, len) = if is_key_frame {
        (0x65, KEY_BYTES)
    } else {
        (0x41, DELTA_BYTES)
    };
    let mut slice = vec![0xc3; len];
    slice[0] = header;
    let nals: &[&[u8]] = if is_key_frame {
        &[sps, &[0x68, 0xce, 0x3c, 0x80], &slice]
    } else {
        &[&slice]
    };
    let coded = nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat());
    coded.collect::<Vec<u8>>().into()
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec where it is told to; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the gateway's own code allocated.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    allocations: u64,
    bytes: u64,
    /// Allocated less freed.
    live: i64,
}

thread_local! {
    static TALLY: Cell<Tally> = const { Cell::new(Tally { allocations: 0, bytes: 0, live: 0 }) };
    static IS_MEASURED: Cell<bool> = const { Cell::new(false) };
}

fn tally() -> Tally {
    TALLY.get()
}

/// Counts what `act` allocates and frees.
fn measured<T>(act: impl FnOnce() -> T) -> T {
    IS_MEASURED.set(true);
    let outcome = act();
    IS_MEASURED.set(false);
    outcome
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(allocations: u64, added: usize, removed: usize) {
    if IS_MEASURED.get() {
        let mut tally = TALLY.get();
        tally.allocations += allocations;
        tally.bytes += added as u64;
        tally.live += added as i64 - removed as i64;
        TALLY.set(tally);
    }
}

// SAFETY: everything is the system allocator's; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, 0, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
