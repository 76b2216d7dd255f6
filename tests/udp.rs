//! The media port against real sockets on loopback.
#![allow(clippy::unwrap_used)] // the lint's exception for tests does not reach their helpers

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use pinhole::config;
use pinhole::net::udp::{BATCH, Lost, MAX_DATAGRAM, Outgoing, Refused, Settings, Udp};

const LOCAL: [&str; 2] = ["127.0.0.1", "::1"];

fn open(gso: bool) -> Udp {
    open_with(Settings { gso, ..settings() })
}

fn settings() -> Settings {
    let ice = config::Ice {
        port: 0,
        ..config::Ice::default()
    };
    Settings::new(&ice)
}

fn open_with(settings: Settings) -> Udp {
    Udp::bind(&settings).unwrap()
}

/// A viewer's socket that hears only the address of ours that it talks to, as a browser does.
fn viewer_of(udp: &Udp, ours: &str) -> UdpSocket {
    let ours: IpAddr = ours.parse().unwrap();
    let any = if ours.is_ipv6() {
        "[::1]:0"
    } else {
        "127.0.0.1:0"
    };
    let viewer = UdpSocket::bind(any).unwrap();
    viewer.connect((ours, udp.port())).unwrap();
    viewer
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    viewer
}

fn ours(udp: &Udp, ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), udp.port())
}

/// Bytes that tell their place in the batch and every position in themselves.
fn payload(n: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| (n * 31 + i * 7) as u8).collect()
}

fn next(viewer: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let size = viewer.recv(&mut bytes).unwrap();
    bytes.truncate(size);
    bytes
}

/// Everything that arrives within `budget` batches, after waiting for the first.
async fn received(udp: &mut Udp, budget: usize) -> (Vec<(SocketAddr, SocketAddr, Vec<u8>)>, bool) {
    udp.readable().await.unwrap();
    let mut all = Vec::new();
    let turn = udp.receive(budget, |datagram| {
        all.push((datagram.from, datagram.to, datagram.bytes.to_vec()));
    });
    assert_eq!(turn.datagrams, all.len());
    (all, turn.has_more)
}

/// A key frame's packets, the short last one, some reports, and a full packet again.
const SIZES: [usize; 50] = {
    let mut sizes = [1200; 50];
    sizes[40] = 700;
    (sizes[41], sizes[42], sizes[43], sizes[44]) = (300, 300, 300, 300);
    (sizes[45], sizes[46], sizes[47]) = (1, 1, 2);
    sizes
};

async fn a_mixed_batch_arrives(gso: bool, ip: &str) -> Udp {
    let mut udp = open(gso);
    let viewer = viewer_of(&udp, ip);
    let batch: Vec<_> = SIZES
        .iter()
        .enumerate()
        .map(|(n, &size)| Outgoing {
            from: ours(&udp, ip),
            to: viewer.local_addr().unwrap(),
            bytes: payload(n, size),
        })
        .collect();
    assert_eq!(udp.send(&batch).lost, []);
    for (n, sent) in batch.iter().enumerate() {
        assert_eq!(
            next(&viewer),
            sent.bytes,
            "datagram {n} with gso {gso} from {ip}"
        );
    }
    assert_eq!(udp.counters().datagrams_out, SIZES.len() as u64);
    assert_eq!(udp.counters().bytes_out, SIZES.iter().sum::<usize>() as u64);
    udp
}

#[tokio::test]
async fn a_mixed_batch_arrives_intact_and_in_order_in_a_few_system_calls() {
    for ip in LOCAL {
        let udp = a_mixed_batch_arrives(true, ip).await;
        // 32 | 8 and the short one | 300s and a 1 | 1 | 2 | 1200s
        assert_eq!(udp.counters().calls_out, 6);
        assert!(udp.has_gso());
    }
}

#[tokio::test]
async fn without_offload_the_same_arrives_one_by_one() {
    for ip in LOCAL {
        let udp = a_mixed_batch_arrives(false, ip).await;
        assert_eq!(udp.counters().calls_out, SIZES.len() as u64);
        assert!(!udp.has_gso());
    }
}

#[tokio::test]
async fn an_answer_leaves_from_the_address_that_was_asked() {
    let mut udp = open(true);
    for ip in ["127.0.0.1", "127.0.0.2", "::1"] {
        let viewer = viewer_of(&udp, ip);
        viewer.send(b"who is there?").unwrap();
        let (all, has_more) = received(&mut udp, 20).await;
        let asked = (
            viewer.local_addr().unwrap(),
            ours(&udp, ip),
            b"who is there?".to_vec(),
        );
        assert_eq!(all, std::slice::from_ref(&asked));
        assert!(!has_more);
        // The viewer's socket is connected: it would not hear an answer from elsewhere.
        for answers in [1, 3] {
            let answer = Outgoing {
                from: asked.1,
                to: asked.0,
                bytes: b"me",
            };
            assert_eq!(udp.send(&vec![answer; answers]).lost, []);
            for _ in 0..answers {
                assert_eq!(next(&viewer), b"me");
            }
        }
    }
}

#[tokio::test]
async fn both_families_share_a_port_that_nobody_else_gets() {
    let udp = open(true);
    for ip in LOCAL {
        assert!(udp.has_family_of(ip.parse().unwrap()));
    }
    let again = Udp::bind(&Settings {
        port: udp.port(),
        ..settings()
    });
    let text = again.unwrap_err().to_string();
    assert!(text.contains(&format!("ice.port {}", udp.port())), "{text}");
}

#[tokio::test]
async fn a_refused_datagram_is_counted_by_kind_and_its_destination_named() {
    let mut udp = open(true);
    let viewer = viewer_of(&udp, "127.0.0.1");
    let to = viewer.local_addr().unwrap();
    let from = ours(&udp, "127.0.0.1");
    let datagram = |from, to, n, size| Outgoing {
        from,
        to,
        bytes: payload(n, size),
    };
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 9));
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let batch = [
        datagram(from, to, 0, 100),
        datagram(from, to, 1, 70_000),
        datagram(from, to, 2, 100),
        datagram(from, nobody, 3, 50),
        datagram(from, nobody, 4, 50),
        datagram(anywhere, broadcast, 5, 50),
        datagram(from, to, 6, 100),
    ];
    let lost = |to, datagrams, why| Lost { to, datagrams, why };
    let expected = [
        lost(to, 1, Refused::TooLong),
        lost(nobody, 2, Refused::BadAddress),
        lost(broadcast, 1, Refused::Forbidden),
    ];
    assert_eq!(udp.send(&batch).lost, expected);
    for n in [0, 2, 6] {
        assert_eq!(
            next(&viewer),
            payload(n, 100),
            "what is around a refused one still arrives"
        );
    }
    assert_eq!(udp.counters().refused(Refused::TooLong), 1);
    assert_eq!(udp.counters().refused(Refused::BadAddress), 2);
    assert_eq!(udp.counters().refused(Refused::Forbidden), 1);
    assert_eq!(udp.counters().datagrams_out, 3);
    assert_eq!(
        udp.send(&batch[..1]).lost,
        [],
        "an old loss is not told twice"
    );
}

#[tokio::test]
async fn datagrams_that_cannot_leave_at_all_do_not_turn_offload_off() {
    let mut udp = open(true);
    let viewer = viewer_of(&udp, "127.0.0.1");
    let no_port = Outgoing {
        from: ours(&udp, "127.0.0.1"),
        to: SocketAddr::from(([127, 0, 0, 1], 0)),
        bytes: payload(0, 500),
    };
    let address_that_went_away = Outgoing {
        from: SocketAddr::from(([203, 0, 113, 9], 1)),
        to: viewer.local_addr().unwrap(),
        bytes: payload(0, 500),
    };
    for n in 1..=20 {
        for stray in [&no_port, &address_that_went_away] {
            let lost = udp.send(&vec![stray.clone(); 10]).lost;
            assert_eq!(lost.iter().map(|lost| lost.datagrams).sum::<u64>(), 10);
        }
        let calls = udp.counters().calls_out;
        assert!(
            calls <= n * 4,
            "a refused run is not tried datagram by datagram"
        );
    }
    assert!(udp.has_gso());
}

#[tokio::test]
async fn the_largest_datagrams_leave_in_runs_and_alone() {
    let mut udp = open(true);
    for ip in LOCAL {
        let viewer = viewer_of(&udp, ip);
        setsockopt(&viewer, sockopt::RcvBuf, &(1 << 20)).unwrap();
        for (size, count) in [(65_000, 1), (1400, 64), (1023, 64)] {
            let one = Outgoing {
                from: ours(&udp, ip),
                to: viewer.local_addr().unwrap(),
                bytes: payload(size, size),
            };
            assert_eq!(udp.send(&vec![one.clone(); count]).lost, []);
            for _ in 0..count {
                assert_eq!(next(&viewer), one.bytes);
            }
        }
    }
    assert!(udp.has_gso());
}

#[tokio::test]
async fn a_datagram_too_long_for_a_peer_of_ours_is_dropped_and_counted() {
    let mut udp = open(true);
    for ip in LOCAL {
        let viewer = viewer_of(&udp, ip);
        for size in [MAX_DATAGRAM + 1, 60_000, 0, MAX_DATAGRAM] {
            viewer.send(&payload(7, size)).unwrap();
        }
        let (all, _) = received(&mut udp, 20).await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].2, payload(7, MAX_DATAGRAM));
    }
    assert_eq!(udp.counters().truncated, 4);
    assert_eq!(udp.counters().unusable, 2, "the empty ones");
    assert_eq!(udp.counters().datagrams_in, 2);
}

#[tokio::test]
async fn a_flood_costs_one_turn_no_more_than_its_budget() {
    let mut udp = open(true);
    let flooder = viewer_of(&udp, "127.0.0.1");
    for n in 0..5 * BATCH {
        flooder.send(&payload(n, 50)).unwrap();
    }
    let (first, has_more) = received(&mut udp, 2).await;
    assert_eq!((first.len(), has_more), (2 * BATCH, true));
    let (rest, has_more) = received(&mut udp, 20).await;
    assert_eq!((rest.len(), has_more), (3 * BATCH, false));
    let in_order = first.iter().chain(&rest).enumerate();
    for (n, (_, _, bytes)) in in_order {
        assert_eq!(*bytes, payload(n, 50));
    }
    assert!(
        udp.readable().now_or_never().is_none(),
        "an empty socket is not readable"
    );
}

#[tokio::test]
async fn a_flood_in_one_family_leaves_the_other_its_turn() {
    let mut udp = open(true);
    let flooder = viewer_of(&udp, "127.0.0.1");
    let viewer = viewer_of(&udp, "::1");
    for n in 0..10 * BATCH {
        flooder.send(&payload(n, 50)).unwrap();
    }
    viewer.send(b"me too").unwrap();
    udp.readable().await.unwrap();
    let (all, has_more) = received(&mut udp, 2).await;
    assert!(all.iter().any(|(_, _, bytes)| bytes == b"me too"));
    assert!(has_more);
}

#[tokio::test]
async fn the_receive_buffers_are_as_good_on_the_thousandth_round() {
    let mut udp = open(true);
    let viewers = ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| (ip, viewer_of(&udp, ip)));
    for round in 0..1000 {
        let (ip, viewer) = &viewers[round % viewers.len()];
        let sizes = [1 + round % 1500, 60_000 * (round % 2), 20];
        for size in sizes {
            viewer.send(&payload(round, size)).unwrap();
        }
        let (all, _) = received(&mut udp, 20).await;
        let all: Vec<_> = all
            .iter()
            .map(|(_, to, bytes)| (*to, bytes.len()))
            .collect();
        assert_eq!(all, [(ours(&udp, ip), sizes[0]), (ours(&udp, ip), 20)]);
    }
}

#[tokio::test]
async fn the_code_point_of_the_config_is_on_what_viewers_receive() {
    let mut udp = open_with(Settings {
        dscp: 34,
        ..settings()
    });
    for ip in LOCAL {
        let viewer = viewer_of(&udp, ip);
        if ip.contains(':') {
            setsockopt(&viewer, sockopt::Ipv6RecvTClass, &true).unwrap();
        } else {
            setsockopt(&viewer, sockopt::IpRecvTos, &true).unwrap();
        }
        let one = Outgoing {
            from: ours(&udp, ip),
            to: viewer.local_addr().unwrap(),
            bytes: payload(0, 100),
        };
        assert_eq!(udp.send(&vec![one; 3]).lost, []);
        for _ in 0..3 {
            assert_eq!(field(&viewer), 34 << 2);
        }
    }
}

/// The differentiated services field of the next datagram.
fn field(viewer: &UdpSocket) -> i32 {
    let mut bytes = [0; 2000];
    let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!(i32, i32);
    let fd = viewer.as_raw_fd();
    let message =
        recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut space), MsgFlags::empty()).unwrap();
    let field = message.cmsgs().unwrap().find_map(|control| {
        if let ControlMessageOwned::Ipv4Tos(field) = control {
            return Some(i32::from(field));
        }
        if let ControlMessageOwned::Ipv6TClass(field) = control {
            return Some(field);
        }
        None
    });
    field.expect("the receiver asked for it")
}

/// The kernel says that there is room to send again whenever a datagram has left: a loop that
/// waited for that too would wake for nothing after every picture.
#[tokio::test]
async fn nothing_wakes_the_loop_but_what_arrives() {
    const EPOLLIN: u32 = 0x1;
    const EPOLLOUT: u32 = 0x4;
    let _udp = open(true);
    let mut waits = Vec::new();
    for fd in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let is = |fd: &std::path::Path, kind: &str| {
            std::fs::read_link(fd).is_ok_and(|link| link.to_string_lossy().starts_with(kind))
        };
        if !is(&fd.path(), "anon_inode:[eventpoll]") {
            continue;
        }
        let info = std::path::Path::new("/proc/self/fdinfo").join(fd.file_name());
        // `tfd: 9 events: 80002001 data: ...`, one line per descriptor (proc_pid_fdinfo(5)).
        for line in std::fs::read_to_string(info).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let ["tfd:", target, "events:", events, ..] = words[..]
                && is(&fd.path().with_file_name(target), "socket:")
            {
                waits.push(u32::from_str_radix(events, 16).unwrap());
            }
        }
    }
    assert!(!waits.is_empty());
    assert!(
        waits.iter().all(|w| w & (EPOLLIN | EPOLLOUT) == EPOLLIN),
        "{waits:x?}"
    );
}
