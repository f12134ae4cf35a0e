//! Makes CAs and serving certificates, and verifies them as a client would. All keys are ECDSA P-256.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::ring::default_provider;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Error;

/// How far in the past validity begins, for clients whose clocks are slow.
pub(super) const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// A new CA: certificate and key, both in PEM.
pub(super) fn ca(name: &str, now: SystemTime, lifetime: Duration) -> Result<(String, String), Error> {
    let key = KeyPair::generate().map_err(Error::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime).into();
    let certificate = params.self_signed(&key).map_err(Error::Make)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A new serving certificate signed by a CA: certificate (without the CA's) and key, both in PEM.
pub(super) fn serving(
    names: &[String],
    ca: &str,
    ca_key: &str,
    now: SystemTime,
    until: SystemTime,
) -> Result<(String, String), Error> {
    let signing = KeyPair::from_pem(ca_key).map_err(Error::Make)?;
    let issuer = Issuer::from_ca_cert_pem(ca, signing).map_err(Error::Make)?;
    let key = KeyPair::generate().map_err(Error::Make)?;
    let mut params = CertificateParams::new(names).map_err(Error::Make)?;
    params.distinguished_name.push(DnType::CommonName, "wasmgate");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = until.into();
    let certificate = params.signed_by(&key, &issuer).map_err(Error::Make)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Whether a TLS client's verifier accepts chain, name, usage and time.
pub(super) fn covers(
    chain: &[CertificateDer<'static>],
    ca_certs: &[CertificateDer<'static>],
    names: &[String],
    when: SystemTime,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ca_certs.iter().cloned());
    let Some((leaf, rest)) = chain.split_first() else { return false };
    let provider = Arc::new(default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let now = UnixTime::since_unix_epoch(when.duration_since(UNIX_EPOCH).unwrap_or_default());
    names.iter().all(|name| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| verifier.verify_server_cert(leaf, rest, &name, &[], now).is_ok())
    })
}

/// Like [`covers`], without checking a name.
pub(super) fn trusted(
    chain: &[CertificateDer<'static>],
    ca_certs: &[CertificateDer<'static>],
    when: SystemTime,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ca_certs.iter().cloned());
    let Some((leaf, rest)) = chain.split_first() else { return false };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let now = UnixTime::since_unix_epoch(when.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, rest, now, algorithms).is_ok()
}
