//! The process's DTLS identity.

use str0m::config::DtlsCert;
use str0m::crypto::CryptoProvider;

use super::dtls;

/// The DTLS certificate of this process: made at start, kept in memory only, shared by all
/// sessions (making one costs tens of milliseconds).
#[derive(Clone)]
pub struct Certificate(pub(super) DtlsCert);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate(..)")
    }
}

/// Chooses the cryptography for the whole process. Call once, before anything else here.
pub fn install_crypto() {
    provider().install_process_default();
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        dtls_provider: &dtls::Provider,
        ..str0m::crypto::from_feature_flags()
    }
}

/// Makes a fresh certificate; `None` if the cryptography is not installed or has no randomness.
pub fn new_certificate() -> Option<Certificate> {
    provider()
        .dtls_provider
        .generate_certificate()
        .map(Certificate)
}
