//! A USB camera made of software: plugged into the kernel's virtual host controller (vhci_hcd),
//! driven by the real `uvcvideo`, and able to misbehave on demand.
//!
//! In: coded pictures, faults. Out: USB/IP messages on the socket that the controller was given.
//! Not here: descriptors (usb_descriptors), what Pinhole makes of it (usb).

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pinhole::media::h264::{nal_type, nal_type_of, nal_units};

use crate::usb_descriptors::{self as usb, Offer};

const HOST: &str = "/sys/devices/platform/vhci_hcd.0";

/// USB/IP: kernel documentation, usb/usbip_protocol.rst.
const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;
const HIGH_SPEED: u32 = 3;
const STALL: i32 = -32;
const UNLINKED: i32 = -104;

/// UVC 1.0, table 2-5: bits of a payload header.
const FRAME_ID: u8 = 0x01;
const END_OF_FRAME: u8 = 0x02;
const ERROR: u8 = 0x40;
const END_OF_HEADER: u8 = 0x80;

/// What a test does to the camera, and what the camera was told.
#[derive(Default)]
struct Switches {
    stop: AtomicBool,
    frozen: AtomicBool,
    truncate_next: AtomicBool,
    error_next: AtomicBool,
    brightness: AtomicI32,
    brightness_set: AtomicU32,
    commits: AtomicU32,
    is_hasty: AtomicBool,
    key_frames_asked: AtomicU32,
    key_frames_sent: AtomicU32,
    wants_key_frame: AtomicBool,
}

/// The camera, plugged in until it is dropped or [`UsbCamera::unplug`]ged.
pub struct UsbCamera {
    switches: Arc<Switches>,
    thread: Option<JoinHandle<()>>,
}

impl UsbCamera {
    /// Plugs in a camera that shows `pictures` (640x480, coded as it offers them) over and over;
    /// in YUYV it has a ramp.
    pub fn plug(pictures: Vec<Vec<u8>>, offer: Offer) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let attach = format!("0 {} 65537 {HIGH_SPEED}", theirs.as_raw_fd());
        fs::write(format!("{HOST}/attach"), attach).expect("vhci_hcd takes a device at port 0");
        let switches = Arc::new(Switches::default());
        let device = Device::new(ours, pictures, offer, switches.clone());
        let thread = thread::spawn(move || {
            // The socket ends when the controller lets go of the device.
            let _ = device.run();
        });
        Self {
            switches,
            thread: Some(thread),
        }
    }

    /// Pulls the cable out and waits until the controller has its port back.
    pub fn unplug(mut self) {
        self.pull();
    }

    fn pull(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let _ = fs::write(format!("{HOST}/detach"), "0");
        self.switches.stop.store(true, Ordering::Relaxed);
        let _ = thread.join();
        let until = Instant::now() + Duration::from_secs(5);
        while !port_is_free() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends nothing, and says nothing, while true.
    pub fn freeze(&self, is_frozen: bool) {
        self.switches.frozen.store(is_frozen, Ordering::Relaxed);
    }

    /// Ends the next picture after a third of it.
    pub fn truncate_next(&self) {
        self.switches.truncate_next.store(true, Ordering::Relaxed);
    }

    /// Marks the next picture as faulty.
    pub fn fail_next(&self) {
        self.switches.error_next.store(true, Ordering::Relaxed);
    }

    /// The brightness that was set last, and how often one was.
    pub fn brightness(&self) -> (i32, u32) {
        let value = self.switches.brightness.load(Ordering::Relaxed);
        (value, self.switches.brightness_set.load(Ordering::Relaxed))
    }

    /// Sends all 30 pictures a second, whatever was agreed.
    pub fn ignore_rate(&self) {
        self.switches.is_hasty.store(true, Ordering::Relaxed);
    }

    /// H.264: how many key frames were asked for by the control, and sent.
    pub fn key_frames(&self) -> (u32, u32) {
        let asked = self.switches.key_frames_asked.load(Ordering::Relaxed);
        (asked, self.switches.key_frames_sent.load(Ordering::Relaxed))
    }

    /// How often a stream was begun.
    pub fn commits(&self) -> u32 {
        self.switches.commits.load(Ordering::Relaxed)
    }
}

impl Drop for UsbCamera {
    fn drop(&mut self) {
        self.pull();
    }
}

/// Port 0's third column: 4 is "nothing attached".
fn port_is_free() -> bool {
    let status = fs::read_to_string(format!("{HOST}/status")).unwrap_or_default();
    let mut port = status.lines().skip(1).map(str::split_whitespace);
    port.next().and_then(|mut line| line.nth(2)) == Some("004")
}

/// A bulk transfer that waits for data.
struct Waiting {
    sequence: u32,
    room: usize,
}

/// The picture under way.
struct Sending {
    data: Vec<u8>,
    at: usize,
    header: u8,
}

struct Device {
    socket: UnixStream,
    pictures: Vec<Vec<u8>>,
    offer: Offer,
    switches: Arc<Switches>,
    probe: [u8; usb::PROBE_LENGTH],
    commit: [u8; usb::PROBE_LENGTH],
    waiting: VecDeque<Waiting>,
    sending: Option<Sending>,
    next_at: Instant,
    shown: usize,
    frame_id: u8,
}

impl Device {
    fn new(
        socket: UnixStream,
        pictures: Vec<Vec<u8>>,
        offer: Offer,
        switches: Arc<Switches>,
    ) -> Self {
        Self {
            socket,
            pictures,
            offer,
            switches,
            probe: usb::completed(&[]),
            commit: usb::completed(&[]),
            waiting: VecDeque::new(),
            sending: None,
            next_at: Instant::now(),
            shown: 0,
            frame_id: 0,
        }
    }

    fn run(mut self) -> io::Result<()> {
        while !self.switches.stop.load(Ordering::Relaxed) {
            let wait = self.wait_ms();
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(wait))? > 0 {
                self.answer()?;
            } else if !self.waiting.is_empty() && !self.is_frozen() {
                self.send_payload()?;
            }
        }
        Ok(())
    }

    fn is_frozen(&self) -> bool {
        self.switches.frozen.load(Ordering::Relaxed)
    }

    fn wait_ms(&self) -> u16 {
        if self.waiting.is_empty() || self.is_frozen() {
            return 50;
        }
        if self.sending.is_some() {
            return 0;
        }
        let wait = self.next_at.saturating_duration_since(Instant::now());
        u16::try_from(wait.as_micros().div_ceil(1000))
            .unwrap_or(50)
            .min(50)
    }

    /// One message from the controller.
    fn answer(&mut self) -> io::Result<()> {
        let mut head = [0; 48];
        self.socket.read_exact(&mut head)?;
        let word = |n: usize| {
            u32::from_be_bytes([
                head[4 * n],
                head[4 * n + 1],
                head[4 * n + 2],
                head[4 * n + 3],
            ])
        };
        let (sequence, is_in, endpoint, length) =
            (word(1), word(3) == 1, word(4), word(6) as usize);
        match (word(0), endpoint) {
            (CMD_UNLINK, _) => {
                let before = self.waiting.len();
                self.waiting.retain(|w| w.sequence != word(5));
                let status = if self.waiting.len() < before {
                    UNLINKED
                } else {
                    0
                };
                self.sending = None;
                self.reply(RET_UNLINK, sequence, status, &[], 0)
            }
            (CMD_SUBMIT, 0) => {
                let mut data = vec![0; if is_in { 0 } else { length }];
                self.socket.read_exact(&mut data)?;
                let setup = usb::Setup::read(&head[40..48]);
                match self.control(&setup, &data) {
                    Some(found) if is_in => {
                        let found = &found[..found.len().min(setup.length)];
                        self.reply(RET_SUBMIT, sequence, 0, found, found.len())
                    }
                    Some(_) => self.reply(RET_SUBMIT, sequence, 0, &[], data.len()),
                    None => self.reply(RET_SUBMIT, sequence, STALL, &[], 0),
                }
            }
            (CMD_SUBMIT, 1) if is_in => {
                let room = length;
                self.waiting.push_back(Waiting { sequence, room });
                Ok(())
            }
            _ => self.reply(RET_SUBMIT, sequence, STALL, &[], 0),
        }
    }

    fn reply(
        &mut self,
        kind: u32,
        sequence: u32,
        status: i32,
        data: &[u8],
        length: usize,
    ) -> io::Result<()> {
        let mut message = Vec::with_capacity(48 + data.len());
        for word in [kind, sequence, 0, 0, 0, status as u32, length as u32] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.resize(48, 0);
        message.extend_from_slice(data);
        self.socket.write_all(&message)
    }

    /// What a control transfer reads; empty where it writes; `None` refuses it.
    fn control(&mut self, setup: &usb::Setup, data: &[u8]) -> Option<Vec<u8>> {
        if !setup.is_class {
            return usb::standard(setup, self.offer);
        }
        match (setup.interface, setup.unit, setup.selector) {
            (1, 0, usb::VS_PROBE) => self.streaming(setup, data, false),
            (1, 0, usb::VS_COMMIT) => self.streaming(setup, data, true),
            (0, usb::PROCESSING_UNIT, usb::PU_BRIGHTNESS) => self.brightness(setup, data),
            (0, usb::H264_UNIT, usb::PICTURE_TYPE) => self.picture_type(setup, data),
            _ => None,
        }
    }

    fn streaming(&mut self, setup: &usb::Setup, data: &[u8], is_commit: bool) -> Option<Vec<u8>> {
        let held = if is_commit {
            &mut self.commit
        } else {
            &mut self.probe
        };
        match setup.request {
            usb::SET_CUR => {
                *held = usb::completed(data);
                if is_commit {
                    self.switches.commits.fetch_add(1, Ordering::Relaxed);
                    self.sending = None;
                    self.next_at = Instant::now();
                }
                Some(Vec::new())
            }
            usb::GET_CUR => Some(held.to_vec()),
            usb::GET_MIN | usb::GET_MAX | usb::GET_DEF => Some(usb::completed(held).to_vec()),
            usb::GET_LEN => Some(vec![usb::PROBE_LENGTH as u8, 0]),
            usb::GET_INFO => Some(vec![3]),
            _ => None,
        }
    }

    fn brightness(&self, setup: &usb::Setup, data: &[u8]) -> Option<Vec<u8>> {
        let value = match setup.request {
            usb::SET_CUR => {
                let value = i16::from_le_bytes([*data.first()?, *data.get(1)?]);
                self.switches
                    .brightness
                    .store(value.into(), Ordering::Relaxed);
                self.switches.brightness_set.fetch_add(1, Ordering::Relaxed);
                return Some(Vec::new());
            }
            usb::GET_INFO => return Some(vec![3]),
            usb::GET_LEN => return Some(vec![2, 0]),
            usb::GET_CUR => self.switches.brightness.load(Ordering::Relaxed) as i16,
            usb::GET_MIN => -64,
            usb::GET_MAX => 64,
            usb::GET_RES => 1,
            usb::GET_DEF => 0,
            _ => return None,
        };
        Some(value.to_le_bytes().to_vec())
    }

    fn picture_type(&self, setup: &usb::Setup, data: &[u8]) -> Option<Vec<u8>> {
        match setup.request {
            usb::SET_CUR => {
                if data == [0, 0, usb::IDR, 0] {
                    self.switches.wants_key_frame.store(true, Ordering::Relaxed);
                    let asked = &self.switches.key_frames_asked;
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Some(Vec::new())
            }
            usb::GET_INFO => Some(vec![3]),
            usb::GET_LEN => Some(vec![usb::PICTURE_TYPE_LENGTH as u8, 0]),
            usb::GET_CUR | usb::GET_MIN | usb::GET_MAX | usb::GET_DEF => {
                Some(vec![0; usb::PICTURE_TYPE_LENGTH])
            }
            _ => None, // as some do with GET_RES
        }
    }

    /// Fills the oldest waiting transfer with the next piece of the picture under way.
    fn send_payload(&mut self) -> io::Result<()> {
        let mut picture = match self.sending.take() {
            Some(picture) => picture,
            None if Instant::now() < self.next_at => return Ok(()),
            None => self.next_picture(),
        };
        let Some(transfer) = self.waiting.pop_front() else {
            return Ok(());
        };
        let room = transfer.room.min(usb::MAX_PAYLOAD) - 2;
        let piece = room.min(picture.data.len() - picture.at);
        let is_last = picture.at + piece == picture.data.len();
        let mut payload = vec![2, picture.header | if is_last { END_OF_FRAME } else { 0 }];
        payload.extend_from_slice(&picture.data[picture.at..picture.at + piece]);
        picture.at += piece;
        if !is_last {
            self.sending = Some(picture);
        }
        self.reply(RET_SUBMIT, transfer.sequence, 0, &payload, payload.len())
    }

    fn next_picture(&mut self) -> Sending {
        let now = Instant::now();
        let interval = match self.switches.is_hasty.load(Ordering::Relaxed) {
            true => Duration::from_secs(1) / 30,
            false => usb::interval(&self.commit),
        };
        self.next_at = (self.next_at + interval).max(now);
        let mut data = match (usb::is_coded(&self.commit), self.offer) {
            (true, Offer::H264 { .. }) => self.next_coded(),
            (true, _) => self.pictures[self.shown % self.pictures.len()].clone(),
            (false, _) => moving_ramp(self.shown),
        };
        self.shown += 1;
        self.frame_id ^= FRAME_ID;
        let mut header = END_OF_HEADER | self.frame_id;
        if self.switches.truncate_next.swap(false, Ordering::Relaxed) {
            data.truncate(data.len() / 3);
        }
        if self.switches.error_next.swap(false, Ordering::Relaxed) {
            header |= ERROR;
        }
        Sending {
            data,
            at: 0,
            header,
        }
    }
}

impl Device {
    /// The next of the clip; the next of its key frames where one is wanted, since every one of
    /// them may follow any picture.
    fn next_coded(&mut self) -> Vec<u8> {
        let count = self.pictures.len();
        let is_key = |at: usize| {
            let mut nals = nal_units(&self.pictures[at % count]);
            nals.any(|nal| nal_type_of(nal) == nal_type::IDR)
        };
        if self.switches.wants_key_frame.swap(false, Ordering::Relaxed) {
            let ahead = (self.shown..self.shown + count).find(|at| is_key(*at));
            self.shown = ahead.expect("a clip has key frames");
        }
        if is_key(self.shown) {
            self.switches
                .key_frames_sent
                .fetch_add(1, Ordering::Relaxed);
        }
        self.pictures[self.shown % count].clone()
    }
}

/// YUYV, 640x480: a grey ramp that moves to the left.
fn moving_ramp(shown: usize) -> Vec<u8> {
    let row = (0..640).flat_map(|x| [((x + 4 * shown) % 256) as u8, 128]);
    let row: Vec<u8> = row.collect();
    row.repeat(480)
}
