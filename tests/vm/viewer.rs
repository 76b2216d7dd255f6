//! A WHEP viewer: a str0m of its own over a real UDP socket, and a decoder.
//!
//! In: the URL of a camera. Out: pictures with their times.
//! Not here: browsers (tests/browser), simulated networks (tests/sim).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, KeyframeRequestKind, MediaData, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// A viewer from POST to DELETE.
pub struct Viewer {
    rtc: Rtc,
    mid: Mid,
    socket: UdpSocket,
    address: SocketAddr,
    server: String,
    session: String,
    decoder: Decoder,
    /// When each decoded picture came.
    pub pictures: Vec<Instant>,
    /// Width and height of the last one.
    pub size: (usize, usize),
    pub undecodable: u32,
    asked: Instant,
}

impl Viewer {
    /// Joins `http://ADDRESS:PORT/whep/CAMERA`.
    pub fn join(url: &str) -> Result<Self, String> {
        Self::join_within(url, PATIENCE)
    }

    fn join_within(url: &str, patience: Duration) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("http:// only")?;
        let (server, path) = rest.split_once('/').ok_or("no path")?;
        let now = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        let address = socket.local_addr().map_err(|e| e.to_string())?;
        let mut rtc = RtcConfig::new().clear_codecs().enable_h264(true).build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let mut api = rtc.sdp_api();
        let mid = api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = api.apply().unwrap();
        let offer = offer.to_sdp_string();
        let reply = request(server, "POST", &format!("/{path}"), &offer, patience)?;
        if reply.status != 201 {
            return Err(format!("POST: {} {}", reply.status, reply.body));
        }
        let answer = SdpAnswer::from_sdp_string(&reply.body).map_err(|e| e.to_string())?;
        rtc.sdp_api()
            .accept_answer(pending, answer)
            .map_err(|e| e.to_string())?;
        Ok(Self {
            rtc,
            mid,
            socket,
            address,
            server: server.to_owned(),
            session: reply.location,
            decoder: Decoder::new().unwrap(),
            pictures: Vec::new(),
            size: (0, 0),
            undecodable: 0,
            asked: now,
        })
    }

    /// Watches until `is_enough` or `limit` has passed.
    pub fn watch(
        &mut self,
        limit: Duration,
        is_enough: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let until = Instant::now() + limit;
        let mut buffer = vec![0; 2000];
        while Instant::now() < until && !is_enough(self) {
            let timeout = self.drain()?;
            let wait = timeout.min(until).saturating_duration_since(Instant::now());
            let wait = wait.max(Duration::from_millis(1));
            self.socket
                .set_read_timeout(Some(wait))
                .map_err(|e| e.to_string())?;
            let now = match self.socket.recv_from(&mut buffer) {
                Ok((n, from)) => {
                    let now = Instant::now();
                    if let Ok(receive) =
                        Receive::new(Protocol::Udp, from, self.address, &buffer[..n])
                    {
                        self.rtc
                            .handle_input(Input::Receive(now, receive))
                            .map_err(|e| e.to_string())?;
                    }
                    now
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    Instant::now()
                }
                Err(error) => return Err(error.to_string()),
            };
            self.rtc
                .handle_input(Input::Timeout(now))
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<Instant, String> {
        loop {
            match self.rtc.poll_output().map_err(|e| e.to_string())? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(t) => {
                    let _ = self.socket.send_to(&t.contents, t.destination);
                }
                Output::Event(Event::MediaData(data)) => self.decode(&data),
                Output::Event(_) if self.rtc.is_alive() => {}
                Output::Event(_) => return Err("the session ended".to_owned()),
            }
        }
    }

    fn decode(&mut self, data: &MediaData) {
        if data.contiguous
            && let Ok(Some(picture)) = self.decoder.decode(&data.data)
        {
            self.size = picture.dimensions();
            self.pictures.push(Instant::now());
            return;
        }
        self.undecodable += 1;
        if self.asked.elapsed() > Duration::from_millis(500) {
            self.asked = Instant::now();
            if let Some(mut writer) = self.rtc.writer(self.mid) {
                let _ = writer.request_keyframe(None, KeyframeRequestKind::Pli);
            }
        }
    }

    /// Leaves as a browser does.
    pub fn leave(mut self) -> Result<(), String> {
        let reply = request(&self.server, "DELETE", &self.session, "", PATIENCE)?;
        self.rtc.disconnect();
        match reply.status {
            200 => Ok(()),
            other => Err(format!("DELETE: {other}")),
        }
    }
}

/// The body of `http://SERVER/PATH`.
pub fn get(server: &str, path: &str) -> String {
    let reply = request(server, "GET", path, "", PATIENCE).unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.body
}

struct Reply {
    status: u16,
    location: String,
    body: String,
}

/// For an answer, from a gateway on a machine that is emulated and has no processor to spare.
const PATIENCE: Duration = Duration::from_secs(60);

fn request(
    server: &str,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<Reply, String> {
    let answer = exchange(server, method, path, body, patience);
    answer.map_err(|error| format!("{method} {path}: {error}"))
}

fn exchange(
    server: &str,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
    let header = |name: &str| {
        let line = head.lines().filter_map(|line| line.split_once(':'));
        line.into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or(ErrorKind::InvalidData)?;
    Ok(Reply {
        status,
        location: header("location").unwrap_or_default(),
        body: body.to_owned(),
    })
}

/// The host's side: joins as soon as the machine answers, watches for `seconds`, tells what was
/// seen. Fails where no picture came, one session did not last, or a pause was longer than
/// `limit` seconds.
pub fn report(url: &str, seconds: u64, limit: u64) -> ExitCode {
    let start = Instant::now();
    let mut viewer = loop {
        // Short: a connection from before the machine was up is answered by nobody.
        match Viewer::join_within(url, Duration::from_secs(10)) {
            Ok(viewer) => break viewer,
            Err(error) if start.elapsed() > Duration::from_secs(60) => {
                println!("FAIL  a viewer outside of the machine joins: {error}");
                return ExitCode::FAILURE;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    };
    let joined = Instant::now();
    let watched = viewer.watch(Duration::from_secs(seconds), |_| false);
    let ends = [joined]
        .into_iter()
        .chain(viewer.pictures.iter().copied())
        .chain([Instant::now()]);
    let times: Vec<Instant> = ends.collect();
    let pauses: Vec<(f32, Duration)> = times
        .windows(2)
        .map(|pair| ((pair[0] - joined).as_secs_f32(), pair[1] - pair[0]))
        .collect();
    let longest = pauses
        .iter()
        .map(|(_, pause)| *pause)
        .max()
        .unwrap_or_default();
    for (at, pause) in pauses
        .iter()
        .skip(1)
        .filter(|(_, pause)| pause.as_millis() >= 700)
    {
        println!(
            "viewer: {:.1} s without a picture from {at:.1} s on",
            pause.as_secs_f32()
        );
    }
    let figures = format!(
        "{} pictures decoded in {seconds} s, first after {} ms, longest pause {} ms, {} undecodable",
        viewer.pictures.len(),
        pauses[0].1.as_millis(),
        longest.as_millis(),
        viewer.undecodable
    );
    let left = viewer.leave();
    let is_good = watched.is_ok()
        && left.is_ok()
        && times.len() > 10
        && longest <= Duration::from_secs(limit);
    let verdict = if is_good { "ok   " } else { "FAIL " };
    println!(
        "{verdict} a viewer outside of the machine, {figures} {}",
        [watched, left]
            .into_iter()
            .filter_map(Result::err)
            .collect::<String>()
    );
    ExitCode::from(u8::from(!is_good))
}
