//! A WHEP client with one socket at one address of its own: it plays over that path or not at all.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// Joins camera `cam` at `server` and waits for `frames` pictures. The answer's candidates.
pub fn play(server: SocketAddr, frames: usize) -> Vec<String> {
    pinhole::session::install_crypto();
    let socket = UdpSocket::bind((own_address_towards(server), 0)).unwrap();
    let own = socket.local_addr().unwrap();
    let mut rtc = RtcConfig::new()
        .clear_codecs()
        .enable_h264(true)
        .build(Instant::now());
    rtc.add_local_candidate(Candidate::host(own, "udp").unwrap());
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let (session, answer) = post(server, &offer.to_sdp_string());
    let parsed = SdpAnswer::from_sdp_string(&answer).unwrap();
    rtc.sdp_api().accept_answer(pending, parsed).unwrap();
    receive(&mut rtc, &socket, frames).unwrap_or_else(|got| {
        panic!("from {own} to {server}: {got} pictures of {frames}; answer:\n{answer}")
    });
    request(server, "DELETE", &session, "", "200");
    let lines = answer
        .lines()
        .filter_map(|line| line.strip_prefix("a=candidate:"));
    let address = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    lines.filter_map(address).collect()
}

/// The address of ours that this route starts from.
fn own_address_towards(server: SocketAddr) -> IpAddr {
    let any = if server.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let probe = UdpSocket::bind(any).unwrap();
    probe.connect(server).unwrap();
    probe.local_addr().unwrap().ip()
}

/// Path of the session, answer.
fn post(server: SocketAddr, offer: &str) -> (String, String) {
    let response = request(server, "POST", "/whep/cam", offer, "201");
    let (head, answer) = response.split_once("\r\n\r\n").unwrap();
    let location = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let path = value
            .trim()
            .find("/whep/")
            .map(|at| value.trim()[at..].to_owned());
        path.filter(|_| name.eq_ignore_ascii_case("location"))
    };
    (head.lines().find_map(location).unwrap(), answer.to_owned())
}

pub fn request(server: SocketAddr, method: &str, path: &str, body: &str, status: &str) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/sdp\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let expected = format!("HTTP/1.1 {status}");
    assert!(
        response.starts_with(&expected),
        "{method} {path}: {response}"
    );
    response
}

/// Runs the client until it has so many pictures; how many it got in 15 seconds otherwise.
fn receive(rtc: &mut Rtc, socket: &UdpSocket, frames: usize) -> Result<(), usize> {
    let until = Instant::now() + Duration::from_secs(15);
    let own = socket.local_addr().unwrap();
    let mut got = 0;
    let mut buffer = [0; 2000];
    while got < frames {
        if Instant::now() > until {
            return Err(got);
        }
        let timeout = match rtc.poll_output().unwrap() {
            Output::Transmit(packet) => {
                // A path to an address that we cannot reach from here is not an error.
                let _ = socket.send_to(&packet.contents, packet.destination);
                continue;
            }
            Output::Event(event) => {
                got += usize::from(matches!(event, Event::MediaData(_)));
                continue;
            }
            Output::Timeout(timeout) => timeout,
        };
        let wait = timeout.saturating_duration_since(Instant::now());
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(100));
        socket.set_read_timeout(Some(wait)).unwrap();
        let input = match socket.recv_from(&mut buffer) {
            Ok((size, from)) => {
                let receive = Receive::new(Protocol::Udp, from, own, &buffer[..size]);
                Input::Receive(Instant::now(), receive.unwrap())
            }
            Err(_) => Input::Timeout(Instant::now()),
        };
        rtc.handle_input(input).unwrap();
    }
    Ok(())
}
