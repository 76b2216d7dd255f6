//! The whole core under whatever peers and cameras do: datagrams from strangers and from viewers,
//! commands, pictures, time. It never panics, always comes to rest, and keeps its limits.
#![no_main]

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pinhole::config::{Camera, Config, Latency, Pattern, Source};
use pinhole::gateway::{Gateway, Output};
use pinhole::media::{
    Abilities, AccessUnit, CameraId, Codec, DownReason, ErrorKind, LeftOut, SourceEvent, Stages,
};
use pinhole::session::{Certificate, install_crypto, new_certificate};
use pinhole::whep::{Command, Fragment, IfMatch, Outcome, SessionKey};

const OFFERS: [&str; 3] = [
    include_str!("../../data/offers/chromium-video-data.sdp"),
    include_str!("../../data/offers/gstreamer.sdp"),
    include_str!("../../data/offers/libdatachannel.sdp"),
];
const OURS: ([u8; 4], u16) = ([192, 0, 2, 1], 8555);
/// Outputs of one turn; a gateway that gives more never rests.
const MAX_OUTPUTS: usize = 2000;
/// Few, so that inputs reach the limit.
const MAX_VIEWERS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let mut world = World::new(data);
    while world.step().is_some() {
        world.settle();
    }
    world.gateway.drain();
    world.settle();
    for _ in 0..20 {
        world.now += Duration::from_secs(5);
        world.gateway.handle_timeout(world.now);
        world.settle();
    }
    assert!(
        world.gateway.session_statuses(world.now).is_empty(),
        "a drained viewer stays"
    );
});

struct World<'a> {
    input: &'a [u8],
    gateway: Gateway,
    now: Instant,
    sessions: Vec<(SessionKey, String)>,
    outbox: Vec<pinhole::session::Datagram>,
}

impl<'a> World<'a> {
    fn new(input: &'a [u8]) -> Self {
        let source = Source::Pattern(Pattern::default());
        let mut config = Config {
            cameras: vec![Camera::new("a", source.clone()), Camera::new("b", source)],
            ..Config::default()
        };
        config.latency = Latency::Low;
        config.limits.viewers = MAX_VIEWERS;
        let now = Instant::now();
        Self {
            input,
            gateway: Gateway::new(config, certificate().clone(), [7; 32], now),
            now,
            sessions: Vec::new(),
            outbox: Vec::new(),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.input.split_first()?;
        self.input = rest;
        Some(first)
    }

    /// The next bytes, their number before them in units of `unit`.
    fn bytes(&mut self, unit: usize) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?) * unit;
        let (bytes, rest) = self.input.split_at(length.min(self.input.len()));
        self.input = rest;
        Some(bytes)
    }

    /// One thing that happens; `None` at the end of the input.
    fn step(&mut self) -> Option<()> {
        match self.byte()? % 10 {
            0 => self.datagram()?,
            1 | 2 => self.request()?,
            3 => self.wait(Duration::from_millis(1))?,
            4 => self.wait(Duration::from_millis(200))?,
            5 => self.open()?,
            6 => self.patch()?,
            7 => self.close()?,
            8 => self.picture()?,
            _ => self.source()?,
        }
        self.gateway.handle_timeout(self.now);
        Some(())
    }

    /// Up to 255 units pass.
    fn wait(&mut self, unit: Duration) -> Option<()> {
        let units = self.byte()?;
        self.now += unit * u32::from(units);
        Some(())
    }

    fn settle(&mut self) {
        for _ in 0..MAX_OUTPUTS {
            match self.gateway.poll_output(self.now, &mut self.outbox) {
                Output::Send { .. } => {
                    for datagram in self.outbox.drain(..) {
                        assert!((1..=1500).contains(&datagram.bytes.len()));
                    }
                }
                Output::Demand(..) => {}
                Output::Wait { .. } => {
                    let viewers = self.gateway.session_statuses(self.now).len();
                    assert!(viewers <= MAX_VIEWERS);
                    return;
                }
            }
        }
        panic!("the gateway does not come to rest");
    }

    fn peer(&mut self) -> Option<SocketAddr> {
        Some(SocketAddr::from((
            [192, 0, 2, 9],
            5000 + u16::from(self.byte()? % 4),
        )))
    }

    fn datagram(&mut self) -> Option<()> {
        let from = self.peer()?;
        let bytes = self.bytes(6)?;
        self.gateway
            .handle_datagram(self.now, from, OURS.into(), bytes);
        if self.byte()? == 0 {
            self.gateway.handle_refused(from, 1);
        }
        Some(())
    }

    /// A STUN binding request that names a session, with whatever else (RFC 8489 section 5).
    fn request(&mut self) -> Option<()> {
        let from = self.peer()?;
        let which = usize::from(self.byte()?);
        let more = self.bytes(1)?;
        let Some((_, ufrag)) = self.sessions.get(which % self.sessions.len().max(1)) else {
            return Some(());
        };
        let name = format!("{ufrag}:abcd");
        let mut attributes = vec![0, 6, 0, name.len() as u8];
        attributes.extend_from_slice(name.as_bytes());
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        attributes.extend_from_slice(more);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        let mut message = vec![0, 1];
        message.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
        message.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        message.extend_from_slice(&[7; 12]);
        message.extend_from_slice(&attributes);
        self.gateway
            .handle_datagram(self.now, from, OURS.into(), &message);
        Some(())
    }

    fn open(&mut self) -> Option<()> {
        let which = self.byte()?;
        let command = Command::Open {
            camera: ["a", "b", "c"][usize::from(which / 16 % 3)].to_owned(),
            offer: OFFERS[usize::from(which) % OFFERS.len()].to_owned(),
            peer: [192, 0, 2, 9].into(),
        };
        let candidates = [OURS.into()];
        match self.gateway.handle_command(self.now, command, &candidates) {
            Outcome::Opened {
                session, answer, ..
            } => {
                let ufrag = answer
                    .lines()
                    .find_map(|line| line.strip_prefix("a=ice-ufrag:"));
                let ufrag = ufrag.expect("an answer has credentials").trim().to_owned();
                self.sessions.push((session, ufrag));
            }
            Outcome::Refused(_) => {}
            other => panic!("{other:?}"),
        }
        Some(())
    }

    fn session(&mut self) -> Option<SessionKey> {
        let which = usize::from(self.byte()?);
        let known = self.sessions.get(which % (self.sessions.len() + 1));
        Some(known.map_or(SessionKey(1), |(key, _)| *key))
    }

    fn patch(&mut self) -> Option<()> {
        let session = self.session()?;
        let body = self.bytes(2)?;
        let Ok(fragment) = Fragment::parse(body) else {
            return Some(());
        };
        let command = Command::Patch {
            session,
            if_match: IfMatch::Any,
            fragment,
        };
        let _ = self
            .gateway
            .handle_command(self.now, command, &[OURS.into()]);
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let session = self.session()?;
        let _ = self
            .gateway
            .handle_command(self.now, Command::Close { session }, &[]);
        Some(())
    }

    fn camera(&mut self) -> Option<CameraId> {
        Some(CameraId(u32::from(self.byte()? % 3)))
    }

    fn picture(&mut self) -> Option<()> {
        let camera = self.camera()?;
        let flags = self.byte()?;
        let ticks = i64::from(self.byte()?) << (flags >> 2);
        let data = self.bytes(8)?;
        let unit = AccessUnit {
            codec: Codec::H264,
            data: bytes::Bytes::copy_from_slice(data),
            is_key_frame: flags & 1 != 0,
            ticks: if flags & 2 != 0 {
                ticks
            } else {
                ticks.wrapping_neg()
            },
            received: self.now,
            after_loss: flags & 4 != 0,
            stages: Stages::default(),
        };
        self.gateway
            .handle_source(self.now, camera, SourceEvent::Unit(unit));
        Some(())
    }

    fn source(&mut self) -> Option<()> {
        let camera = self.camera()?;
        let abilities = |can| Abilities {
            can_force_key_frame: can,
            can_change_rate: can,
        };
        let event = match self.byte()? % 8 {
            0 => SourceEvent::Opening,
            1 => SourceEvent::Playing(abilities(true)),
            2 => SourceEvent::Playing(abilities(false)),
            3 => SourceEvent::Closed,
            4 => SourceEvent::Note("H.264".to_owned()),
            5 => SourceEvent::Error {
                kind: ErrorKind::Packet,
                in_a_row: 3,
                detail: String::new(),
            },
            6 => SourceEvent::LeftOut(LeftOut {
                lost: 2,
                ..LeftOut::default()
            }),
            _ => SourceEvent::Down {
                reason: DownReason::Unreachable,
                detail: String::new(),
                retry_at: Some(self.now),
            },
        };
        self.gateway.handle_source(self.now, camera, event);
        Some(())
    }
}

fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        install_crypto();
        new_certificate().expect("randomness")
    })
}
