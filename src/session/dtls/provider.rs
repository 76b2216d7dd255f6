//! dimpl's cryptography for a server, with our question in the transcript ([`request`]) and RSA.

use dimpl::CryptoError;
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, SignatureAlgorithm,
    SignatureVerifier, aws_lc_rs,
};

use super::{request, rsa};

/// AWS-LC throughout.
pub(super) fn server() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &Hashes,
        signature_verification: &Verifier,
        ..aws_lc_rs::default_provider()
    }
}

/// For what dimpl hashes in DTLS 1.2: its transcript, in one piece.
#[derive(Debug)]
struct Hashes;

#[derive(Debug)]
struct Hash(Box<dyn HashContext>);

/// Of a client's CertificateVerify, which signs the transcript up to itself.
#[derive(Debug)]
struct Verifier;

impl HashProvider for Hashes {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let inner = aws_lc_rs::default_provider().hash_provider;
        Box::new(Hash(inner.create_hash(algorithm)))
    }
}

impl HashContext for Hash {
    fn update(&mut self, transcript: &[u8]) {
        let (before, question, after) = request::in_transcript(transcript);
        self.0.update(before);
        if let Some(question) = question {
            self.0.update(&question);
        }
        self.0.update(after);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        transcript: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let (before, question, after) = request::in_transcript(transcript);
        let question = question.as_ref().map_or(&[][..], |q| q);
        let signed = [before, question, after].concat();
        match rsa::Scheme::of(hash, algorithm) {
            Some(scheme) => rsa::verify(certificate, &signed, signature, scheme),
            None => aws_lc_rs::default_provider()
                .signature_verification
                .verify_signature(certificate, &signed, signature, hash, algorithm),
        }
    }
}
