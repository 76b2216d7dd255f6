//! DTLS: dimpl, and viewers whose certificate is RSA are let in (GStreamer's own, older stacks').
//!
//! In: str0m's calls. Out: str0m's outputs, as from its own provider.
//! Not here: SRTP, the fingerprint of the viewer's certificate (both str0m).
//!
//! Our certificate is ECDSA and dimpl speaks `ECDHE_ECDSA` alone, which is no hindrance to a
//! client with an RSA key: the cipher suite says how the server signs, the CertificateRequest how
//! a client may (RFC 5246 sections 7.4.4 and 7.4.6). But dimpl 0.9 asks for ECDSA, and that
//! question cannot be configured; a client without such a certificate answers with none. So:
//!
//! * [`request`]: our own question takes the place of dimpl's on its way out,
//! * [`provider`]: and in the transcript wherever dimpl lets its cryptography have it, so that
//!   what both ends hash and sign is what was on the wire; and RSA signatures are verified.
//!
//! All else is dimpl's. A mistake about the question can only make handshakes fail: nobody agrees
//! on keys with a peer that hashed something else. All of this can go once dimpl asks for RSA (its
//! `SignatureAndHashAlgorithm::supported`, the types in its request, its verifier).
//!
//! Where we are the client (an offer with `a=setup:passive`) dimpl is left as it is: it would need
//! the suites `ECDHE_RSA` for a server with an RSA key.

mod provider;
mod request;
mod rsa;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dimpl::{Config, Dtls};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};

/// For `str0m::crypto::CryptoProvider`.
#[derive(Debug)]
pub(super) struct Provider;

/// dimpl's settings for either role. Made once: dimpl tries out all of its cryptography each time.
#[derive(Clone)]
struct Configs {
    mtu: Option<usize>,
    server: Arc<Config>,
    client: Arc<Config>,
}

/// One end of one handshake.
struct Instance {
    dtls: Dtls,
    role: Role,
}

enum Role {
    /// Not said yet: made as a server, with what it takes to begin again as a client.
    Open {
        client: Arc<Config>,
        cert: DtlsCert,
        begun: Instant,
    },
    Client,
    /// A server that may still send its question. dimpl writes to this buffer, which holds any
    /// datagram of ours and the certificate of a peer; dropped with the handshake.
    Asking(Vec<u8>),
    /// A server whose handshake is done.
    Connected,
}

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        dimpl::certificate::generate_self_signed_certificate().ok()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        if version != DtlsVersion::Dtls12 {
            return Err(CryptoError::Other(format!("no {version} here")));
        }
        let configs = Configs::of(mtu)?;
        let dtls = Dtls::new_12(configs.server, cert.clone(), now);
        let role = Role::Open {
            client: configs.client,
            cert: cert.clone(),
            begun: now,
        };
        Ok(Box::new(Instance { dtls, role }))
    }
}

impl Configs {
    fn of(mtu: Option<usize>) -> Result<Self, CryptoError> {
        static FIRST: OnceLock<Configs> = OnceLock::new();
        if let Some(first) = FIRST.get().filter(|first| first.mtu == mtu) {
            return Ok(first.clone());
        }
        let made = Self::new(mtu).map_err(|e| CryptoError::Other(format!("DTLS: {e}")))?;
        let _ = FIRST.set(made.clone()); // another length comes from a test alone
        Ok(made)
    }

    fn new(mtu: Option<usize>) -> Result<Self, DtlsImplError> {
        // ICE has shown already that the peer is where it says, so no cookie.
        let builder = || Config::builder().use_server_cookie(false);
        let (mut server, mut client) = (builder(), builder());
        if let Some(mtu) = mtu {
            server = server.mtu(mtu.saturating_sub(request::GROWTH));
            client = client.mtu(mtu);
        }
        Ok(Self {
            mtu,
            server: Arc::new(server.with_crypto_provider(provider::server()).build()?),
            client: Arc::new(client.build()?),
        })
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        let Role::Open {
            client,
            cert,
            begun,
        } = &self.role
        else {
            return; // str0m says it once
        };
        if active {
            self.dtls = Dtls::new_12(Arc::clone(client), cert.clone(), *begun);
            self.dtls.set_active(true);
            self.role = Role::Client;
        } else {
            self.role = Role::Asking(Vec::new());
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let Role::Asking(written) = &mut self.role else {
            return self.dtls.poll_output(buf);
        };
        written.resize(buf.len(), 0);
        match self.dtls.poll_output(written) {
            DtlsOutput::Packet(packet) => {
                fill(buf, &request::in_datagram(packet), DtlsOutput::Packet)
            }
            DtlsOutput::PeerCert(der) => fill(buf, der, DtlsOutput::PeerCert),
            DtlsOutput::ApplicationData(data) => fill(buf, data, DtlsOutput::ApplicationData),
            DtlsOutput::Connected => {
                self.role = Role::Connected;
                DtlsOutput::Connected
            }
            DtlsOutput::KeyingMaterial(keys, profile) => DtlsOutput::KeyingMaterial(keys, profile),
            DtlsOutput::Timeout(at) => DtlsOutput::Timeout(at),
            DtlsOutput::BufferTooSmall { needed } => DtlsOutput::BufferTooSmall { needed },
            DtlsOutput::CloseNotify => DtlsOutput::CloseNotify,
            // What dimpl does not know yet, str0m does not either: both take this for an error.
            _ => DtlsOutput::BufferTooSmall { needed: usize::MAX },
        }
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

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instance(..)") // has keys
    }
}

/// `bytes` at the head of `buf`, as an output.
fn fill<'a>(
    buf: &'a mut [u8],
    bytes: &[u8],
    output: impl FnOnce(&'a [u8]) -> DtlsOutput<'a>,
) -> DtlsOutput<'a> {
    match buf.get_mut(..bytes.len()) {
        Some(room) => {
            room.copy_from_slice(bytes);
            output(room)
        }
        None => DtlsOutput::BufferTooSmall {
            needed: bytes.len(),
        },
    }
}
