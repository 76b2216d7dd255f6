//! An RTSP camera that misbehaves on command: what no real server can be made to do.
//!
//! In: one [`Plan`] per session (the last one repeats). Out: RTSP over TCP with RTP interleaved
//! or over UDP, on 127.0.0.1; a log of the requests that came.
//! Not here: decodable pictures. The parameter sets are real, the slices are filler.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtsp_types::headers::{CONTENT_BASE, CONTENT_TYPE, CSEQ, PUBLIC, SESSION, TRANSPORT};
use rtsp_types::{Message, Method, ParseError, Request, Response, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::h264;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Well,
    Never,
    Status(u16),
    WrongCseq,
    Garbage,
    Hangup,
}

/// Transports that SETUP accepts; others get 461.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allows {
    Both,
    Udp,
    Neither,
}

/// Where SPS and PPS are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    Sdp,
    Stream,
    Nowhere,
}

/// One thing that happens while the camera plays.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Whole pictures; the first of every [`GOP`] since the last key frame is a key frame.
    Pictures(u32),
    /// One key frame, now.
    Key,
    /// Packets that no depacketizer accepts, each a picture of its own.
    BadPackets(u32),
    /// A key frame in many fragments, one of the first of them bad.
    BadFragment,
    /// A key frame in four slices, the first of them bad.
    BadSlice,
    /// The second half of a fragmented key frame, as whoever joins in the middle sees it.
    HalfKey,
    /// So many packets are never sent.
    Lose(u16),
    /// Two pictures leave in the wrong order.
    Swap,
    /// From the next key frame on, this many macroblocks wide.
    Width(u32),
    /// An RTCP sender report (over TCP), of this SSRC.
    Report(u32),
    /// The camera's clock jumps by so many ticks.
    Jump(i32),
    /// The camera closes the connection.
    End,
    /// The connection is reset in the middle of a packet.
    Reset,
    /// Nothing more comes, and nothing is closed.
    Silence,
}

/// How one session goes. After its acts it plays plain pictures for ever.
#[derive(Clone, Debug)]
pub struct Plan {
    pub describe: Answer,
    pub setup: Answer,
    pub play: Answer,
    pub teardown: Answer,
    pub allows: Allows,
    pub parameters: Parameters,
    /// Whether the last packet of a picture carries the marker bit.
    pub markers: bool,
    /// An ONVIF metadata stream stands before the video in the SDP.
    pub has_metadata: bool,
    pub first_ticks: u32,
    pub acts: Vec<Act>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            describe: Answer::Well,
            setup: Answer::Well,
            play: Answer::Well,
            teardown: Answer::Well,
            allows: Allows::Both,
            parameters: Parameters::Stream,
            markers: true,
            has_metadata: false,
            first_ticks: 1000,
            acts: Vec::new(),
        }
    }
}

impl Plan {
    pub fn acts(acts: &[Act]) -> Self {
        Self {
            acts: acts.to_vec(),
            ..Self::default()
        }
    }
}

/// A running camera; stops when dropped.
pub struct FaultCamera {
    pub address: SocketAddr,
    log: Log,
    sent: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

type Log = Arc<Mutex<Vec<(usize, String)>>>;

impl FaultCamera {
    pub async fn start(plans: Vec<Plan>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, sent) = (Log::default(), Arc::default());
        let shared = Shared {
            plans: Arc::new(plans),
            log: log.clone(),
            sent: Arc::clone(&sent),
            next_session: Arc::default(),
        };
        let task = tokio::spawn(serve(listener, shared));
        Self {
            address,
            log,
            sent,
            task,
        }
    }

    /// Requests of the n-th session, `METHOD transport`.
    pub fn requests(&self, session: usize) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let of_session = log.iter().filter(|(n, _)| *n == session);
        of_session.map(|(_, request)| request.clone()).collect()
    }

    /// Acts done and pictures sent, by all sessions together.
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sessions that came as far as DESCRIBE.
    pub fn sessions(&self) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().map(|(n, _)| n + 1).max().unwrap_or(0)
    }
}

impl Drop for FaultCamera {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all connections of a camera share.
#[derive(Clone)]
struct Shared {
    plans: Arc<Vec<Plan>>,
    log: Log,
    sent: Arc<AtomicU32>,
    next_session: Arc<AtomicUsize>,
}

async fn serve(listener: TcpListener, shared: Shared) {
    // A set, so that the connections end with the camera.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = Connection {
            shared: shared.clone(),
            session: None,
            udp: None,
        };
        connections.spawn(connection.run(stream));
    }
}

struct Connection {
    shared: Shared,
    session: Option<usize>,
    /// Ours and the client's, once set up over UDP.
    udp: Option<(UdpSocket, SocketAddr)>,
}

/// What follows a request.
enum Next {
    GoOn,
    Play,
    Stop,
}

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum Ending {
    Close,
    Reset,
}

impl Connection {
    async fn run(mut self, mut stream: TcpStream) {
        if self.converse(&mut stream).await == Ending::Reset {
            // An RST instead of a FIN.
            stream.set_zero_linger().unwrap();
        }
    }

    async fn converse(&mut self, stream: &mut TcpStream) -> Ending {
        let (mut reader, mut writer) = stream.split();
        let mut buffer = Vec::new();
        loop {
            let Some(request) = read_request(&mut reader, &mut buffer).await else {
                return Ending::Close;
            };
            match self.on_request(&request, &mut writer).await {
                Next::GoOn => {}
                Next::Stop => return Ending::Close,
                Next::Play => break,
            }
        }
        let plan = self.plan();
        let mut player = Player::new(plan.clone());
        loop {
            let request = tokio::select! {
                biased;
                request = read_request(&mut reader, &mut buffer) => request,
                ending = player.step(&mut writer, self.udp.as_ref()) => {
                    self.shared.sent.fetch_add(1, Ordering::Relaxed);
                    match ending {
                        None => continue,
                        Some(ending) => return ending,
                    }
                }
            };
            let Some(request) = request else {
                return Ending::Close;
            };
            if let Next::Stop = self.on_request(&request, &mut writer).await {
                return Ending::Close;
            }
        }
    }

    fn plan(&self) -> &Plan {
        let plans = &self.shared.plans;
        let n = self.session.unwrap_or(0).min(plans.len() - 1);
        &plans[n]
    }

    async fn on_request(&mut self, request: &Request<Vec<u8>>, writer: &mut WriteHalf<'_>) -> Next {
        let next = &self.shared.next_session;
        let session = *self
            .session
            .get_or_insert_with(|| next.fetch_add(1, Ordering::Relaxed));
        let transport = request.header(&TRANSPORT).map_or("", |t| t.as_str());
        let entry = format!("{} {transport}", <&str>::from(request.method()));
        let entry = (session, entry.trim().to_owned());
        self.shared.log.lock().unwrap().push(entry);
        let plan = self.plan().clone();
        let answer = match request.method() {
            Method::Describe => plan.describe,
            Method::Setup => plan.setup,
            Method::Play => plan.play,
            Method::Teardown => plan.teardown,
            _ => Answer::Well,
        };
        let mut response = self.response(request, &plan, transport).await;
        match answer {
            Answer::Well => {}
            Answer::Never => return Next::GoOn,
            Answer::Hangup => return Next::Stop,
            Answer::Status(status) => response.set_status(StatusCode::from(status)),
            Answer::WrongCseq => response.insert_header(CSEQ, "9999"),
            Answer::Garbage => {
                let _ = writer
                    .write_all(b"\x16\x03\x01 this is no RTSP\r\n\r\n")
                    .await;
                return Next::GoOn;
            }
        }
        let mut bytes = Vec::new();
        response.write(&mut bytes).unwrap();
        let _ = writer.write_all(&bytes).await;
        match request.method() {
            Method::Play if answer == Answer::Well => Next::Play,
            Method::Teardown => Next::Stop,
            _ => Next::GoOn,
        }
    }

    async fn response(
        &mut self,
        request: &Request<Vec<u8>>,
        plan: &Plan,
        transport: &str,
    ) -> Response<Vec<u8>> {
        let cseq = request.header(&CSEQ).map_or("0", |c| c.as_str()).to_owned();
        let ok = Response::builder(Version::V1_0, StatusCode::Ok).header(CSEQ, cseq.clone());
        match request.method() {
            Method::Describe => ok
                .header(CONTENT_TYPE, "application/sdp")
                .header(CONTENT_BASE, request.request_uri().unwrap().as_str())
                .build(sdp(plan).into_bytes()),
            Method::Setup => match self.set_up(plan, transport).await {
                Some(transport) => ok
                    .header(SESSION, "fault;timeout=60")
                    .header(TRANSPORT, transport)
                    .build(Vec::new()),
                None => Response::builder(Version::V1_0, StatusCode::UnsupportedTransport)
                    .header(CSEQ, cseq)
                    .build(Vec::new()),
            },
            Method::Options => ok
                .header(PUBLIC, "DESCRIBE, SETUP, PLAY, TEARDOWN")
                .build(Vec::new()),
            _ => ok.header(SESSION, "fault").build(Vec::new()),
        }
    }

    async fn set_up(&mut self, plan: &Plan, transport: &str) -> Option<String> {
        let wants_tcp = transport.contains("RTP/AVP/TCP");
        let allowed = match plan.allows {
            Allows::Both => true,
            Allows::Udp => !wants_tcp,
            Allows::Neither => false,
        };
        if !allowed {
            return None;
        }
        if wants_tcp {
            return Some("RTP/AVP/TCP;unicast;interleaved=0-1".to_owned());
        }
        let ports = transport.split("client_port=").nth(1)?;
        let port: u16 = ports.split('-').next()?.parse().ok()?;
        let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
        let own = socket.local_addr().ok()?.port();
        self.udp = Some((socket, SocketAddr::from(([127, 0, 0, 1], port))));
        Some(format!(
            "RTP/AVP/UDP;unicast;client_port={ports};server_port={own}-{}",
            own.wrapping_add(1)
        ))
    }
}

async fn read_request(reader: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) -> Option<Request<Vec<u8>>> {
    loop {
        match Message::<Vec<u8>>::parse(buffer) {
            Ok((message, used)) => {
                buffer.drain(..used);
                if let Message::Request(request) = message {
                    return Some(request);
                }
            }
            Err(ParseError::Incomplete(_)) => {
                if reader.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            Err(ParseError::Error) => return None,
        }
    }
}

fn sdp(plan: &Plan) -> String {
    let sets = match plan.parameters {
        Parameters::Sdp => format!(";sprop-parameter-sets={}", h264::sprop(FIRST_WIDTH)),
        Parameters::Stream | Parameters::Nowhere => String::new(),
    };
    let metadata = match plan.has_metadata {
        true => {
            "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\n\
             a=control:track2\r\na=recvonly\r\n"
        }
        false => "",
    };
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=fault\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
         a=tool:fault camera\r\na=control:*\r\n{metadata}\
         m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 packetization-mode=1{sets}\r\na=control:track1\r\n"
    )
}

/// Sends the pictures of one session.
struct Player {
    plan: Plan,
    next_act: usize,
    /// Pictures left of the act under way.
    left: u32,
    since_key: u32,
    width: u32,
    sequence: u16,
    ticks: u32,
}

impl Player {
    fn new(plan: Plan) -> Self {
        Self {
            next_act: 0,
            left: 0,
            since_key: GOP,
            width: FIRST_WIDTH,
            sequence: 100,
            ticks: plan.first_ticks,
            plan,
        }
    }

    /// Does one thing; returns how the connection ends where it ends here.
    async fn step(
        &mut self,
        writer: &mut WriteHalf<'_>,
        udp: Option<&(UdpSocket, SocketAddr)>,
    ) -> Option<Ending> {
        // `select!` drops this when a request comes: in the pause that costs nothing, in the
        // middle of a write (a client that does not read) half a packet.
        tokio::time::sleep(PACE).await;
        let packets = if self.left > 0 {
            self.left -= 1;
            self.picture()
        } else {
            let act = self.plan.acts.get(self.next_act).copied();
            self.next_act += 1;
            match act {
                None => self.picture(),
                Some(Act::End) => return Some(Ending::Close),
                Some(Act::Silence) => {
                    self.next_act -= 1;
                    Vec::new()
                }
                Some(Act::Reset) => {
                    let _ = writer.write_all(b"$\0\x40\0half a packet").await;
                    return Some(Ending::Reset);
                }
                Some(Act::Report(ssrc)) => {
                    let _ = writer.write_all(&self.report(ssrc)).await;
                    Vec::new()
                }
                Some(act) => self.act(act),
            }
        };
        for packet in packets {
            match udp {
                Some((socket, client)) => drop(socket.send_to(&packet, client).await),
                None => {
                    let mut framed = vec![b'$', 0];
                    framed.extend((packet.len() as u16).to_be_bytes());
                    framed.extend(packet);
                    let _ = writer.write_all(&framed).await;
                }
            }
        }
        None
    }

    fn act(&mut self, act: Act) -> Vec<Vec<u8>> {
        match act {
            Act::Pictures(n) => self.left = n,
            Act::Key => return self.key(),
            Act::BadPackets(n) => {
                return (0..n).flat_map(|_| self.bad_picture()).collect();
            }
            Act::BadFragment => return self.spoilt(h264::fragments(&h264::idr(3000)), 1),
            Act::BadSlice => return self.spoilt(h264::idr_slices(4), 0),
            Act::HalfKey => {
                let fragments = h264::fragments(&h264::idr(3000));
                return self.send(fragments[15..].to_vec());
            }
            Act::Lose(n) => self.sequence = self.sequence.wrapping_add(n),
            Act::Swap => {
                let mut packets = self.delta();
                packets.extend(self.delta());
                packets.swap(0, 1);
                return packets;
            }
            Act::Width(width) => self.width = width,
            Act::Jump(ticks) => self.ticks = self.ticks.wrapping_add_signed(ticks),
            Act::End | Act::Reset | Act::Silence | Act::Report(_) => {}
        }
        Vec::new()
    }

    /// RFC 3550 section 6.4.1, without report blocks, on the channel of RTCP.
    fn report(&self, ssrc: u32) -> Vec<u8> {
        let mut packet = vec![b'$', 1, 0, 28, 0x80, 200, 0, 6];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(self.ticks.to_be_bytes());
        packet.extend([0; 8]);
        packet
    }

    fn picture(&mut self) -> Vec<Vec<u8>> {
        if self.since_key >= GOP {
            self.key()
        } else {
            self.delta()
        }
    }

    fn key(&mut self) -> Vec<Vec<u8>> {
        self.since_key = 1;
        let mut payloads = Vec::new();
        if self.plan.parameters == Parameters::Stream {
            payloads.push(h264::sps(self.width));
            payloads.push(h264::PPS.to_vec());
        }
        payloads.extend(h264::fragments(&h264::idr(3000)));
        self.send(payloads)
    }

    fn delta(&mut self) -> Vec<Vec<u8>> {
        self.since_key += 1;
        self.send(vec![h264::delta(400)])
    }

    fn bad_picture(&mut self) -> Vec<Vec<u8>> {
        self.send(vec![vec![0xff, 0xff, 0xff]])
    }

    /// A picture with one of its packets made unreadable.
    fn spoilt(&mut self, mut payloads: Vec<Vec<u8>>, bad: usize) -> Vec<Vec<u8>> {
        payloads[bad][0] |= 0x80; // forbidden_zero_bit
        self.send(payloads)
    }

    /// The packets of one picture (RFC 3550 section 5.1).
    fn send(&mut self, payloads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let last = payloads.len() - 1;
        let mut packets = Vec::new();
        for (n, payload) in payloads.into_iter().enumerate() {
            let marker = if n == last && self.plan.markers {
                0x80
            } else {
                0
            };
            let mut packet = vec![0x80, 96 | marker];
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.ticks.to_be_bytes());
            packet.extend(0x5eed_u32.to_be_bytes());
            packet.extend(payload);
            packets.push(packet);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.ticks = self.ticks.wrapping_add(TICKS_PER_PICTURE);
        packets
    }
}

/// Pictures from one key frame to the next.
pub const GOP: u32 = 10;

/// What the camera's clock says between two pictures (25 a second).
pub const TICKS_PER_PICTURE: u32 = 3600;

/// In macroblocks, before any [`Act::Width`].
pub const FIRST_WIDTH: u32 = 20;

/// Between two pictures: faster than the clock says, to have tests done sooner.
const PACE: Duration = Duration::from_millis(10);
