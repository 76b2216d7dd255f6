//! An RTSP camera for benchmarks: a real 1080p30 clip, made once by ffmpeg, served for ever over
//! one TCP connection, with the moment at which each picture was written whole.
//!
//! Not here: faults (tests/rtsp), UDP, authentication.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rtsp_types::headers::{CONTENT_BASE, CONTENT_TYPE, CSEQ, PUBLIC, SESSION, TRANSPORT};
use rtsp_types::{Message, Method, ParseError, Request, Response, StatusCode, Version};

pub const FPS: u32 = 30;
/// Pictures from one key frame to the next: four seconds.
pub const GOP: u32 = 120;
const SECONDS: u32 = 8;
const MAX_PAYLOAD: usize = 1400;
/// The last bytes of a picture name it: they come whole in its last RTP packet.
const TAIL: usize = 16;

/// When each picture of the clip was written last, in nanoseconds of the wall clock.
pub type Written = Arc<Mutex<HashMap<[u8; TAIL], u64>>>;

pub struct Camera {
    pub address: SocketAddr,
    pub written: Written,
    /// Bits per second of the clip.
    pub rate: f64,
}

/// One picture: NAL units without start codes.
type Picture = Vec<Vec<u8>>;

impl Camera {
    /// Starts it. It serves until the process ends.
    pub fn start() -> io::Result<Self> {
        let clip = clip()?;
        let bytes: usize = clip.iter().flatten().map(Vec::len).sum();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let camera = Self {
            address: listener.local_addr()?,
            written: Written::default(),
            rate: bytes as f64 * 8.0 * f64::from(FPS) / clip.len() as f64,
        };
        let (clip, written) = (Arc::new(clip), Arc::clone(&camera.written));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (clip, written) = (Arc::clone(&clip), Arc::clone(&written));
                thread::spawn(move || drop(serve(stream, &clip, &written)));
            }
        });
        Ok(camera)
    }
}

/// The name of the picture that ends with this payload.
pub fn tail(payload: &[u8]) -> Option<[u8; TAIL]> {
    payload.last_chunk().copied()
}

pub fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos() as u64
}

fn clip() -> io::Result<Vec<Picture>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-1080p30-4M.h264");
    if !path.exists() {
        let picture = format!("testsrc2=size=1920x1080:rate={FPS},noise=alls=6:allf=t");
        let gop = GOP.to_string();
        let seconds = SECONDS.to_string();
        let half = path.with_extension("half");
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i", &picture])
            .args(["-t", &seconds, "-c:v", "libx264", "-preset", "ultrafast"])
            .args(["-profile:v", "baseline", "-bf", "0", "-g", &gop])
            .args(["-keyint_min", &gop, "-sc_threshold", "0", "-slices", "1"])
            .args([
                "-b:v", "4M", "-maxrate", "4M", "-bufsize", "2M", "-f", "h264",
            ])
            .arg(&half)
            .status()?;
        if !status.success() {
            return Err(io::Error::other("ffmpeg could not make the clip"));
        }
        std::fs::rename(&half, &path)?;
    }
    Ok(pictures(&std::fs::read(path)?))
}

/// The clip has one slice per picture, so each slice ends one.
fn pictures(data: &[u8]) -> Vec<Picture> {
    let mut pictures = Vec::new();
    let mut picture = Picture::new();
    for nal in pinhole::media::h264::nal_units(data) {
        let kind = nal[0] & 0x1f;
        if kind != 6 {
            picture.push(nal.to_vec()); // SEI: only x264's own words about itself
        }
        if kind == 1 || kind == 5 {
            pictures.push(std::mem::take(&mut picture));
        }
    }
    pictures
}

fn serve(mut stream: TcpStream, clip: &Arc<Vec<Picture>>, written: &Written) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let out = Arc::new(Mutex::new(stream.try_clone()?));
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer)? {
        let mut bytes = Vec::new();
        let response = answer(&request, clip);
        response.write(&mut bytes).map_err(io::Error::other)?;
        out.lock()
            .map_err(|_| io::Error::other("lock"))?
            .write_all(&bytes)?;
        if *request.method() == Method::Play {
            let (out, clip, written) = (Arc::clone(&out), Arc::clone(clip), Arc::clone(written));
            thread::spawn(move || drop(play(&out, &clip, &written)));
        }
    }
    Ok(())
}

fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request<Vec<u8>>>> {
    loop {
        match Message::<Vec<u8>>::parse(buffer.as_slice()) {
            Ok((message, used)) => {
                buffer.drain(..used);
                if let Message::Request(request) = message {
                    return Ok(Some(request));
                }
            }
            Err(ParseError::Incomplete(_)) => {
                let mut chunk = [0; 4096];
                let read = stream.read(&mut chunk)?;
                if read == 0 {
                    return Ok(None);
                }
                buffer.extend_from_slice(&chunk[..read]);
            }
            Err(ParseError::Error) => return Ok(None),
        }
    }
}

fn answer(request: &Request<Vec<u8>>, clip: &[Picture]) -> Response<Vec<u8>> {
    let cseq = request.header(&CSEQ).map_or("0", |c| c.as_str());
    let ok = Response::builder(Version::V1_0, StatusCode::Ok).header(CSEQ, cseq);
    let uri = request.request_uri().map_or("", |uri| uri.as_str());
    match request.method() {
        Method::Describe => ok
            .header(CONTENT_TYPE, "application/sdp")
            .header(CONTENT_BASE, uri)
            .build(sdp(clip).into_bytes()),
        Method::Setup => ok
            .header(SESSION, "bench;timeout=60")
            .header(TRANSPORT, "RTP/AVP/TCP;unicast;interleaved=0-1")
            .build(Vec::new()),
        Method::Options => ok
            .header(PUBLIC, "DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
            .build(Vec::new()),
        _ => ok.header(SESSION, "bench").build(Vec::new()),
    }
}

fn sdp(clip: &[Picture]) -> String {
    let level = clip
        .first()
        .and_then(|p| p.first())
        .map_or(&[0x42, 0xc0, 0x28][..], |sps| &sps[1..4]);
    let level: String = level.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=bench\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
         a=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 packetization-mode=1;profile-level-id={level}\r\na=control:track1\r\n"
    )
}

fn play(out: &Mutex<TcpStream>, clip: &[Picture], written: &Written) -> io::Result<()> {
    let start = Instant::now();
    let mut sequence = 0_u16;
    for (n, picture) in (0_u32..).zip(clip.iter().cycle()) {
        let at = start + Duration::from_secs(n.into()) / FPS;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let payloads: Vec<Vec<u8>> = picture.iter().flat_map(|nal| payloads(nal)).collect();
        let name = payloads.last().and_then(|last| tail(last));
        let mut packets = Vec::new();
        let mut last = 0;
        for (i, payload) in payloads.iter().enumerate() {
            last = packets.len();
            let marker = if i + 1 == payloads.len() { 0x80 } else { 0 };
            packets.extend_from_slice(&[b'$', 0]);
            packets.extend_from_slice(&(payload.len() as u16 + 12).to_be_bytes());
            packets.extend_from_slice(&[0x80, 96 | marker]);
            packets.extend_from_slice(&sequence.to_be_bytes());
            packets.extend_from_slice(&n.wrapping_mul(90_000 / FPS).to_be_bytes());
            packets.extend_from_slice(&0x5eed_u32.to_be_bytes());
            packets.extend_from_slice(payload);
            sequence = sequence.wrapping_add(1);
        }
        let mut out = out.lock().map_err(|_| io::Error::other("lock"))?;
        out.write_all(&packets[..last])?;
        if let (Some(name), Ok(mut written)) = (name, written.lock()) {
            written.insert(name, wall_clock());
        }
        out.write_all(&packets[last..])?;
    }
    Ok(())
}

fn payloads(nal: &[u8]) -> Vec<Vec<u8>> {
    if nal.len() <= MAX_PAYLOAD {
        return vec![nal.to_vec()];
    }
    let (header, body) = (nal[0], &nal[1..]);
    let size = body.len().div_ceil(body.len().div_ceil(MAX_PAYLOAD));
    let last = body.len().div_ceil(size) - 1;
    let fragment = |(i, part): (usize, &[u8])| {
        let start = if i == 0 { 0x80 } else { 0 };
        let end = if i == last { 0x40 } else { 0 };
        [&[header & 0xe0 | 28, start | end | header & 0x1f], part].concat()
    };
    body.chunks(size).enumerate().map(fragment).collect()
}
