//! What `tests/netns/run.sh` runs inside its gateway namespace: that script says what is there.
#![allow(clippy::unwrap_used)] // the lint's exception for tests does not reach their helpers

mod viewer;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pinhole::config;
use pinhole::net::interfaces::addresses;
use pinhole::net::udp::{Outgoing, Refused, Settings, Udp};

const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The gateway's addresses, in the order that they are told in.
const EXPECTED: [&str; 7] = [
    "10.77.1.1",
    "fd77:1::1",
    "10.77.1.100",
    "fd77:2::1",
    "10.77.2.1",
    "fd77:20::1",
    "10.77.20.1",
];

fn told(ice: &config::Ice, listen: IpAddr) -> Vec<String> {
    addresses(ice, listen)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn named(interfaces: &[&str]) -> config::Ice {
    config::Ice {
        interfaces: interfaces.iter().map(ToString::to_string).collect(),
        ..config::Ice::default()
    }
}

fn run(line: &str) {
    let (program, arguments) = line.split_once(' ').unwrap();
    let status = Command::new(program).args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "{line}");
}

#[test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
fn every_interface_and_vlan_is_told_in_both_families_and_no_container() {
    assert_eq!(told(&config::Ice::default(), ANY), EXPECTED);
    let with_loopback = told(&config::Ice::default(), LOOPBACK);
    assert_eq!(with_loopback[..EXPECTED.len()], EXPECTED);
    assert_eq!(with_loopback[EXPECTED.len()..], ["127.0.0.1", "::1"]);
    assert_eq!(told(&named(&["docker*"]), ANY), ["172.17.0.1", "fd17::1"]);
    assert_eq!(
        told(&named(&["eth0.20"]), ANY),
        ["10.77.20.1", "fd77:20::1"]
    );
}

#[test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
fn a_cable_plugged_in_or_pulled_out_is_seen_the_next_time() {
    // eth8 is a spare: what other tests need stays as it is.
    let is_told = || told(&config::Ice::default(), ANY).contains(&"10.77.8.1".to_owned());
    assert!(!is_told(), "it is not plugged in yet");
    run("ip link set eth8 up");
    let until = Instant::now() + Duration::from_secs(10);
    while !is_told() {
        assert!(Instant::now() < until, "plugged in and not told");
        std::thread::sleep(Duration::from_millis(10)); // the kernel tells of the carrier later
    }
    run("ip addr add 10.77.8.7/24 dev eth8");
    assert!(told(&config::Ice::default(), ANY).contains(&"10.77.8.7".to_owned()));
    run("ip link set eth8 down");
    assert!(!is_told(), "pulled out and still told");
    run("ip addr del 10.77.8.7/24 dev eth8");
}

#[tokio::test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
async fn a_peer_is_answered_from_every_address_that_it_was_told() {
    let mut udp = open();
    let addresses = addresses(&config::Ice::default(), ANY);
    assert!(!addresses.is_empty());
    let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let mut peer = peer("as_a_peer", &list.join(","), udp.port());
    let mut answered = Vec::new();
    let ended = loop {
        if let Some(status) = peer.try_wait().unwrap() {
            break status;
        }
        if let Ok(ready) = tokio::time::timeout(Duration::from_millis(50), udp.readable()).await {
            ready.unwrap();
        }
        let mut answers = Vec::new();
        udp.receive(20, |datagram| {
            answers.push(Outgoing {
                from: datagram.to,
                to: datagram.from,
                bytes: datagram.bytes.to_vec(),
            });
        });
        assert_eq!(udp.send(&answers).lost, []);
        answered.extend(answers.iter().map(|answer| answer.from.ip()));
    };
    assert!(ended.success(), "the peer gave up");
    // More, where the first of them came before the link was ready.
    for address in addresses {
        let count = answered.iter().filter(|&&ip| ip == address).count();
        assert!(count >= ANSWERS, "{count} from {address}");
    }
}

#[tokio::test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
async fn a_link_that_cannot_keep_up_and_one_that_is_gone_are_told_apart() {
    let mut udp = open();
    let packets = |to: &str, count| {
        let packet = Outgoing {
            from: SocketAddr::new(ANY, 0),
            to: to.parse().unwrap(),
            bytes: [7_u8; 1200],
        };
        vec![packet; count]
    };
    assert_eq!(udp.send(&packets("10.77.2.2:9", 100)).taken, 100);
    run("tc qdisc replace dev eth1 root tbf rate 1mbit burst 10kb limit 100mb");
    let batch = packets("10.77.2.2:9", 10_000); // 12 MB, more than any send buffer of ours
    let sent = udp.send(&batch);
    assert_eq!(sent.lost, [], "what finds no room may be sent again");
    let rest = &batch[sent.taken..];
    assert!(!rest.is_empty());
    let left = rest.len() as u64;
    let lost = udp.give_up(rest).to_vec();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].why, lost[0].datagrams), (Refused::Full, left));
    assert_eq!(udp.counters().refused(Refused::Full), left);

    let mut other = open();
    let lost = other.send(&packets("10.99.0.1:9", 10)).lost;
    assert_eq!((lost[0].why, lost[0].datagrams), (Refused::Unreachable, 10));
    run("tc qdisc del dev eth1 root");
    assert!(udp.has_gso(), "neither is a reason to give up offload");
}

/// A board as it is deployed has room for a few key frames at most.
#[tokio::test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
async fn what_finds_the_send_buffer_full_leaves_later_and_in_order() {
    let mut udp = Udp::bind(&Settings {
        send_buffer: 8 << 10,
        ..settings()
    })
    .unwrap();
    let mut peer = peer("as_a_listener", "10.77.2.1", udp.port());
    let ready = tokio::time::timeout(Duration::from_secs(10), udp.readable()).await;
    ready.expect("the peer does not come").unwrap();
    let mut listener = None;
    udp.receive(1, |datagram| listener = Some((datagram.to, datagram.from)));
    let (from, to) = listener.unwrap();
    run("tc qdisc replace dev eth1 root tbf rate 50mbit burst 10kb limit 100mb");
    let packet = |n: u32| {
        let mut bytes = vec![0; 1200];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Outgoing { from, to, bytes }
    };
    let batch: Vec<_> = (0..IN_ORDER).map(packet).collect();
    let (mut taken, mut waits) = (0, 0);
    while taken < batch.len() {
        let sent = udp.send(&batch[taken..]);
        assert_eq!(sent.lost, []);
        taken += sent.taken;
        waits += 1;
        std::thread::sleep(Duration::from_millis(1)); // as the loop does
    }
    assert!(waits > 20, "the send buffer was never full");
    assert!(udp.has_gso());
    assert!(peer.wait().unwrap().success());
    run("tc qdisc del dev eth1 root");
}

/// Datagrams of the test above.
const IN_ORDER: u32 = 1000;

/// Runs in the peer's namespace, started by the test above.
#[test]
#[ignore = "started by another test, in the other namespace"]
fn as_a_listener() {
    let Some((addresses, port)) = task() else {
        return;
    };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.connect((addresses[0], port)).unwrap();
    socket.send(b"here I am").unwrap();
    for n in 0..IN_ORDER {
        let mut bytes = [0; 1500];
        let size = socket.recv(&mut bytes).unwrap();
        assert_eq!((size, &bytes[..4]), (1200, &n.to_be_bytes()[..]));
    }
}

#[test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
fn a_viewer_plays_over_each_interface_in_each_family() {
    let _daemon = daemon("size = \"320x240\"", None);
    let mut peer = peer("as_a_viewer", &EXPECTED.join(","), HTTP);
    assert!(peer.wait().unwrap().success());
}

/// A service has no right to a larger send buffer than any program gets, and key frames for some
/// viewers at once do not fit into that one.
#[test]
#[ignore = "needs the namespaces of tests/netns/run.sh"]
fn key_frames_for_several_viewers_wait_for_room_and_nothing_is_lost() {
    run("tc qdisc replace dev eth1 root tbf rate 20mbit burst 10kb limit 100mb");
    let _daemon = daemon("size = \"1280x720\"", Some(SMALL));
    let viewers: Vec<_> = (0..8)
        .map(|_| peer("as_one_of_many", "10.77.2.1", HTTP))
        .collect();
    for mut viewer in viewers {
        assert!(viewer.wait().unwrap().success());
    }
    let server = SocketAddr::from(([127, 0, 0, 1], HTTP));
    let metrics = viewer::request(server, "GET", "/metrics", "", "200");
    let value = |name: &str| {
        let mut lines = metrics.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse::<u64>().unwrap()
    };
    let held = value("pinhole_udp_datagrams_held_total");
    println!("{held} datagrams waited");
    assert!(held > 0, "the send buffer was never full");
    let lost = value("pinhole_udp_refused_total{reason=\"full\"}");
    assert_eq!(lost, 0, "{held} waited");
    run("tc qdisc del dev eth1 root");
}

/// Where the daemon serves.
const HTTP: u16 = 8080;
/// Bytes of a send buffer: to a test picture's key frame what a service's is to a camera's.
const SMALL: usize = 4 << 10;

/// Pinhole with camera `cam`, a test picture, with such a send buffer. It serves when this returns.
fn daemon(camera: &str, send_buffer: Option<usize>) -> Killed {
    let directory = std::env::temp_dir().join(format!("pinhole-netns-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("pinhole.toml");
    let config = format!(
        "[server]\nlisten = \"[::]:{HTTP}\"\n[access]\nanonymous = true\n\
         [[camera]]\nname = \"cam\"\nsource = \"pattern:\"\n{camera}\n"
    );
    std::fs::write(&file, config).unwrap();
    // tests/vm runs this where nothing was built.
    let program = std::env::var("PINHOLE_NETNS_PROGRAM");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_pinhole").to_owned());
    let mut daemon = Command::new(program);
    daemon.args(["run", "--config"]).arg(&file);
    if let Some(bytes) = send_buffer {
        daemon.env("PINHOLE_UDP_SEND_BUFFER", bytes.to_string());
    }
    let daemon = Killed(daemon.spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("::1", HTTP)).is_err() {
        assert!(Instant::now() < until, "pinhole does not start");
        std::thread::sleep(Duration::from_millis(20)); // nothing tells when a port opens
    }
    std::fs::remove_dir_all(&directory).unwrap();
    daemon
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs in the peer's namespace, started by a test above.
#[test]
#[ignore = "started by another test, in the other namespace"]
fn as_one_of_many() {
    if let Some((addresses, port)) = task() {
        viewer::play(SocketAddr::new(addresses[0], port), 60);
    }
}

/// Runs in the peer's namespace, started by a test above.
#[test]
#[ignore = "started by another test, in the other namespace"]
fn as_a_viewer() {
    let Some((addresses, port)) = task() else {
        return;
    };
    for address in addresses {
        let candidates = viewer::play(SocketAddr::new(address, port), 10);
        assert_eq!(candidates, EXPECTED, "told to the viewer at {address}");
    }
}

/// Runs in the peer's namespace, started by the test above.
#[test]
#[ignore = "started by another test, in the other namespace"]
fn as_a_peer() {
    let Some((addresses, port)) = task() else {
        return;
    };
    for address in addresses {
        let any = if address.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        // A connected socket hears nobody else.
        let connected = socket.connect((address, port));
        connected.unwrap_or_else(|why| panic!("{address}: {why}"));
        for n in 0..ANSWERS {
            let until = Instant::now() + Duration::from_secs(10);
            while let Err(why) = asks(&socket, n as u8) {
                assert!(Instant::now() < until, "{address} is silent: {why}");
                std::thread::sleep(Duration::from_millis(10)); // an error may come at once
            }
        }
    }
}

/// Sends this and waits for it to come back. A link that has just come up may lose the first.
fn asks(socket: &UdpSocket, n: u8) -> std::io::Result<()> {
    socket.send(&[n; 100])?;
    let mut answer = [0; 200];
    loop {
        let size = socket.recv(&mut answer)?;
        if answer[..size] == [n; 100] {
            return Ok(());
        }
    }
}

const ANSWERS: usize = 3;

fn open() -> Udp {
    Udp::bind(&settings()).unwrap()
}

fn settings() -> Settings {
    let ice = config::Ice {
        port: 0,
        ..config::Ice::default()
    };
    Settings::new(&ice)
}

/// What the process was started for: addresses and port.
fn task() -> Option<(Vec<IpAddr>, u16)> {
    let port = std::env::var("PINHOLE_NETNS_PORT").ok()?.parse().unwrap();
    let addresses = std::env::var("PINHOLE_NETNS_ADDRESSES").unwrap();
    Some((
        addresses.split(',').map(|ip| ip.parse().unwrap()).collect(),
        port,
    ))
}

/// Starts test `what` in the other namespace.
fn peer(what: &str, addresses: &str, port: u16) -> Child {
    let namespace = std::env::var("PINHOLE_NETNS_PEER").unwrap();
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace]).arg(this);
    // Its panics go to the error output: nobody sees the other.
    command.args(["--ignored", "--exact", what, "--nocapture"]);
    command.env("PINHOLE_NETNS_ADDRESSES", addresses);
    command.env("PINHOLE_NETNS_PORT", port.to_string());
    // Its own account of one test passed belongs into nobody's count.
    command.stdout(Stdio::null());
    command.spawn().unwrap()
}
