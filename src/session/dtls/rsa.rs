//! Signatures by the key of an RSA certificate.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};
use dimpl::crypto::{HashAlgorithm, SignatureAlgorithm};
use dimpl::{CryptoError, CryptoOperation};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;

/// What we ask for (`request`); keys have 2048 to 8192 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// rsa_pkcs1_sha256, as every DTLS 1.2 has it.
    Pkcs1,
    /// rsa_pss_rsae_sha256 (RFC 8446 section 4.2.3).
    Pss,
}

/// rsaEncryption (RFC 8017 appendix A.1).
const RSA_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl Scheme {
    /// The one that the two bytes of a signature's algorithm name, if it is one of these.
    pub(super) fn of(hash: HashAlgorithm, algorithm: SignatureAlgorithm) -> Option<Self> {
        match (hash.as_u8(), algorithm.as_u8()) {
            (4, 1) => Some(Self::Pkcs1),
            (8, 4) => Some(Self::Pss),
            _ => None,
        }
    }
}

/// Whether the key in this certificate (DER) signed `signed`. That it is the viewer's certificate
/// is for its fingerprint to say.
pub(super) fn verify(
    certificate: &[u8],
    signed: &[u8],
    signature: &[u8],
    scheme: Scheme,
) -> Result<(), CryptoError> {
    let certificate =
        Certificate::from_der(certificate).map_err(|_| CryptoError::CertificateParseFailed)?;
    let key = certificate.tbs_certificate().subject_public_key_info();
    if key.algorithm.oid != RSA_KEY {
        return Err(CryptoError::UnsupportedPublicKeyAlgorithm);
    }
    let key = key.subject_public_key.as_bytes();
    let key = key.ok_or(CryptoError::InvalidSubjectPublicKey)?;
    let parameters = match scheme {
        Scheme::Pkcs1 => &RSA_PKCS1_2048_8192_SHA256,
        Scheme::Pss => &RSA_PSS_2048_8192_SHA256,
    };
    UnparsedPublicKey::new(parameters, key)
        .verify(signed, signature)
        .map_err(|_| CryptoError::OperationFailed(CryptoOperation::VerifySignature))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    use super::*;

    const TRANSCRIPT: &[u8] = b"what both ends said";

    fn certificate_of(key: &KeyPair) -> Vec<u8> {
        let named = CertificateParams::new(Vec::new()).unwrap();
        named.self_signed(key).unwrap().der().to_vec()
    }

    /// Signatures under both schemes.
    fn sign(key: &KeyPair) -> [(Scheme, Vec<u8>); 2] {
        let key = RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap();
        let random = SystemRandom::new();
        let (mut pkcs1, mut pss) = (vec![0; 256], vec![0; 256]);
        key.sign(&RSA_PKCS1_SHA256, &random, TRANSCRIPT, &mut pkcs1)
            .unwrap();
        key.sign(&RSA_PSS_SHA256, &random, TRANSCRIPT, &mut pss)
            .unwrap();
        [(Scheme::Pkcs1, pkcs1), (Scheme::Pss, pss)]
    }

    #[test]
    fn the_key_of_the_certificate_must_have_signed_these_bytes_so() {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let other = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = certificate_of(&key);
        let [pkcs1, pss] = sign(&key);
        let wrong = Err(CryptoError::OperationFailed(
            CryptoOperation::VerifySignature,
        ));
        for ((scheme, signature), (_, otherwise)) in [(&pkcs1, &pss), (&pss, &pkcs1)] {
            let check = |signed: &[u8], by: &[u8]| verify(&certificate, signed, by, *scheme);
            assert_eq!(check(TRANSCRIPT, signature), Ok(()));
            assert_eq!(check(b"something else", signature), wrong);
            assert_eq!(check(TRANSCRIPT, otherwise), wrong, "the other scheme");
            assert_eq!(check(TRANSCRIPT, &signature[1..]), wrong);
            assert_eq!(check(TRANSCRIPT, &[]), wrong);
            let others = verify(&certificate_of(&other), TRANSCRIPT, signature, *scheme);
            assert_eq!(others, wrong, "the other key");
        }
    }

    #[test]
    fn a_certificate_with_another_key_or_broken_is_an_error() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ecdsa = verify(&certificate_of(&key), TRANSCRIPT, &[0; 256], Scheme::Pss);
        assert_eq!(ecdsa, Err(CryptoError::UnsupportedPublicKeyAlgorithm));

        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = certificate_of(&key);
        let [(scheme, signature), _] = sign(&key);
        for len in 0..certificate.len() {
            assert!(verify(&certificate[..len], TRANSCRIPT, &signature, scheme).is_err());
        }
        // Any byte may be wrong: an error or, outside of the key, none; never a panic.
        for at in 0..certificate.len() {
            let mut broken = certificate.clone();
            broken[at] ^= 0x81;
            let _ = verify(&broken, TRANSCRIPT, &signature, scheme);
        }
    }
}
