//! A viewer whose DTLS certificate is RSA, as GStreamer's is, and ones that only pretend.
//!
//! It is a str0m like the others, on dimpl too, which as a client signs with ECDSA keys alone: its
//! key says that it is one and signs with RSA. The algorithm that its CertificateVerify names is
//! put right on the wire and, since both ends hash the wire, in its transcript.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm,
    SigningKey, aws_lc_rs as dimpl_crypto,
};
use dimpl::{Config, CryptoError as DimplError, Dtls};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};

use crate::camera::Camera;
use crate::link::{Quality, is_dtls};
use crate::peer::{Habits, Peer};
use crate::world::{World, config};
use crate::{ms, secs};

/// How the viewer signs its handshake.
#[derive(Clone, Copy, Debug)]
pub struct Rsa {
    scheme: Scheme,
    truth: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Pkcs1,
    Pss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Honest,
    /// Shows the certificate that its offer names, signs with another one's key.
    OtherKey,
    /// Shows and signs for a certificate that its offer does not name.
    OtherCertificate,
}

static PKCS1: Rsa = Rsa::honest(Scheme::Pkcs1);
static PSS: Rsa = Rsa::honest(Scheme::Pss);
static OTHER_KEY: Rsa = Rsa {
    scheme: Scheme::Pkcs1,
    truth: Truth::OtherKey,
};
static OTHER_CERTIFICATE: Rsa = Rsa {
    scheme: Scheme::Pkcs1,
    truth: Truth::OtherCertificate,
};

fn watches_with(rsa: &'static Rsa) -> Habits {
    Habits {
        dtls: Some(rsa),
        ..Habits::BROWSER
    }
}

#[test]
fn a_viewer_with_an_rsa_certificate_plays_as_soon_as_others() {
    for rsa in [&PKCS1, &PSS] {
        let mut world = World::passthrough(1);
        world.run_for(ms(6500));
        let viewer = world.join(0, watches_with(rsa), Quality::PERFECT);
        world.run_for(ms(1500));
        let took = first_picture(&world, viewer);
        assert!(took <= ms(100), "{rsa:?}: {took:?}");
        let peer = world.peer(viewer);
        assert!(peer.shown.len() > 40, "and plays on");
        assert_eq!(peer.plis, 0);
        assert_eq!(world.sessions()[0].state, "playing");
    }
}

#[test]
fn whatever_of_its_handshake_is_lost_is_sent_again() {
    // Our question is in the first datagram down, its certificate and signature in the second and
    // third up (RSA does not fit in one).
    for (down, up) in [(1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (2, 2), (0, 3)] {
        let mut world = World::passthrough(2);
        world.run_for(secs(5));
        let viewer = world.join(0, watches_with(&PKCS1), Quality::PERFECT);
        world.viewers[viewer].down.lose_dtls = down;
        world.viewers[viewer].up.lose_dtls = up;
        world.run_for(secs(12));
        let took = first_picture(&world, viewer);
        println!("{down} lost down, {up} up: {took:?}");
        // Sent again after 1, 2 and 4 s, each a quarter more at most.
        assert!(took <= secs(9), "{took:?}");
    }
}

#[test]
fn the_question_may_be_cut_anywhere_between_two_datagrams() {
    let mut most = 0;
    for mtu in (576..820).step_by(2) {
        let mut config = config(1);
        config.ice.mtu = mtu;
        let mut world = World::new(4, config, Camera::new);
        world.run_for(secs(1));
        let viewer = world.join(0, watches_with(&PKCS1), Quality::PERFECT);
        world.run_for(ms(60));
        assert!(world.peer(viewer).is_connected, "mtu {mtu}");
        let sent = world.viewers[viewer].down.tap.iter();
        let handshake = sent.filter(|bytes| is_dtls(bytes));
        let flight: Vec<_> = handshake.map(Vec::len).collect();
        assert!(
            flight.iter().all(|len| *len <= mtu),
            "mtu {mtu}: {flight:?}"
        );
        most = most.max(flight.len());
    }
    assert_eq!(most, 3, "two datagrams with our flight, then the end");
}

#[test]
fn it_connects_over_a_lossy_link() {
    for seed in 0..20 {
        let mut world = World::passthrough(seed);
        world.run_for(secs(5));
        let viewer = world.join(0, watches_with(&PSS), Quality::with_loss(0.05));
        world.run_for(secs(14));
        let connected = world.peer(viewer).connected_at.expect("connected");
        println!("{:?}", connected - world.viewers[viewer].posted);
        first_picture(&world, viewer);
    }
}

#[test]
fn one_that_signs_with_another_key_is_not_let_in() {
    refuses(&OTHER_KEY);
}

#[test]
fn one_with_another_certificate_than_its_offer_names_is_not_let_in() {
    refuses(&OTHER_CERTIFICATE);
}

fn refuses(rsa: &'static Rsa) {
    let mut world = World::passthrough(3);
    world.run_for(secs(5));
    let viewer = world.join(0, watches_with(rsa), Quality::PERFECT);
    for _ in 0..20 {
        world.run_for(secs(1));
        assert!(world.sessions().iter().all(|s| s.state == "connecting"));
    }
    assert!(world.sessions().is_empty(), "half open, and let go");
    let peer = world.peer(viewer);
    assert!(!peer.is_connected && peer.received_packets == 0);
    // And the next one, who is what it says, plays.
    let viewer = world.join(0, watches_with(&PKCS1), Quality::PERFECT);
    world.run_for(secs(1));
    first_picture(&world, viewer);
}

fn first_picture(world: &World, viewer: usize) -> std::time::Duration {
    let peer: &Peer = world.peer(viewer);
    let first = peer.shown.first().expect("a picture");
    first.at - world.viewers[viewer].posted
}

impl Rsa {
    const fn honest(scheme: Scheme) -> Self {
        let truth = Truth::Honest;
        Self { scheme, truth }
    }

    /// Its algorithm as a CertificateVerify names it: rsa_pkcs1_sha256, rsa_pss_rsae_sha256.
    fn name(&self) -> [u8; 2] {
        match self.scheme {
            Scheme::Pkcs1 => [4, 1],
            Scheme::Pss => [8, 4],
        }
    }

    /// Puts the name right in a CertificateVerify that begins here, head first.
    fn sign_as(&self, message: &mut [u8]) {
        if message.first() == Some(&CERTIFICATE_VERIFY) && message[6..9] == [0, 0, 0] {
            message[HEAD..HEAD + 2].copy_from_slice(&self.name());
        }
    }

    fn in_datagram(&self, datagram: &mut [u8]) {
        let mut rest = datagram;
        while rest.len() > RECORD_HEAD {
            let len = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            let (record, more) = rest.split_at_mut(RECORD_HEAD + len);
            if record[0] == 22 && record[3..5] == [0, 0] {
                self.sign_as(&mut record[RECORD_HEAD..]);
            }
            rest = more;
        }
    }

    fn in_transcript(&self, transcript: &mut [u8]) {
        let mut rest = transcript;
        while let [_, a, b, c, ..] = *rest {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let (message, more) = rest.split_at_mut(HEAD + len);
            self.sign_as(message);
            rest = more;
        }
    }
}

const CERTIFICATE_VERIFY: u8 = 15;
const RECORD_HEAD: usize = 13;
const HEAD: usize = 12;

/// One of two certificates; making an RSA key takes a while.
fn certificate(which: usize) -> DtlsCert {
    static MADE: [OnceLock<DtlsCert>; 2] = [OnceLock::new(), OnceLock::new()];
    let make = || {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let named = rcgen::CertificateParams::new(Vec::new()).unwrap();
        DtlsCert {
            certificate: named.self_signed(&key).unwrap().der().to_vec(),
            private_key: key.serialize_der(),
        }
    };
    MADE[which].get_or_init(make).clone()
}

impl DtlsProvider for Rsa {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        Some(certificate(0))
    }

    fn new_dtls(
        &self,
        _: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let this: &'static Self = Box::leak(Box::new(*self));
        let provider = CryptoProvider {
            key_provider: this,
            hash_provider: this,
            ..dimpl_crypto::default_provider()
        };
        let config = Config::builder()
            .with_crypto_provider(provider)
            .mtu(mtu.unwrap())
            .build()
            .unwrap();
        let shown = certificate(usize::from(self.truth == Truth::OtherCertificate));
        let dtls = Dtls::new_12(Arc::new(config), shown, now);
        Ok(Box::new(Client { dtls, rsa: *self }))
    }
}

impl KeyProvider for Rsa {
    fn load_private_key(&self, key: &[u8]) -> Result<Box<dyn SigningKey>, DimplError> {
        let other = certificate(1).private_key;
        let der = if self.truth == Truth::OtherKey {
            &other[..]
        } else {
            key
        };
        let key = RsaKeyPair::from_pkcs8(der).unwrap();
        let scheme = self.scheme;
        Ok(Box::new(Key { key, scheme }))
    }
}

#[derive(Debug)]
struct Key {
    key: RsaKeyPair,
    scheme: Scheme,
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], _: HashAlgorithm, out: &mut Buf) -> Result<(), DimplError> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        match self.scheme {
            Scheme::Pkcs1 => self
                .key
                .sign(&RSA_PKCS1_SHA256, &random, data, &mut signature),
            Scheme::Pss => self
                .key
                .sign(&RSA_PSS_SHA256, &random, data, &mut signature),
        }
        .unwrap();
        out.clear();
        out.extend_from_slice(&signature);
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA // so that dimpl uses it at all
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

#[derive(Debug)]
struct Hash {
    inner: Box<dyn HashContext>,
    rsa: Rsa,
}

impl HashProvider for Rsa {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let hashes = dimpl_crypto::default_provider().hash_provider;
        let inner = hashes.create_hash(algorithm);
        Box::new(Hash { inner, rsa: *self })
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        let mut data = data.to_vec();
        self.rsa.in_transcript(&mut data);
        self.inner.update(&data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.inner.clone_and_finalize(out);
    }
}

struct Client {
    dtls: Dtls,
    rsa: Rsa,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(..)")
    }
}

impl DtlsInstance for Client {
    fn set_active(&mut self, active: bool) {
        assert!(active, "a client");
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let mut written = vec![0; buf.len()];
        let (bytes, output): (_, fn(&'a [u8]) -> DtlsOutput<'a>) =
            match self.dtls.poll_output(&mut written) {
                DtlsOutput::Packet(packet) => (packet, DtlsOutput::Packet),
                DtlsOutput::PeerCert(der) => (der, DtlsOutput::PeerCert),
                DtlsOutput::KeyingMaterial(keys, profile) => {
                    return DtlsOutput::KeyingMaterial(keys, profile);
                }
                DtlsOutput::Timeout(at) => return DtlsOutput::Timeout(at),
                DtlsOutput::Connected => return DtlsOutput::Connected,
                DtlsOutput::CloseNotify => return DtlsOutput::CloseNotify,
                other => panic!("{other:?}"),
            };
        let room = &mut buf[..bytes.len()];
        room.copy_from_slice(bytes);
        if matches!(output(&[]), DtlsOutput::Packet(_)) {
            self.rsa.in_datagram(room);
        }
        output(room)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}
