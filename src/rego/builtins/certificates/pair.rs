//! `crypto.x509.parse_keypair`: a certificate and the private key for it, as Go writes `crypto/tls.Certificate` in JSON.

use super::private::{self, PrivateKey};
use super::{BEGIN, Certificate, base64, encoded};
use crate::rego::builtins::signed::{Blocks, PublicKey};
use crate::rego::call::{self, Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

pub(in crate::rego::builtins) fn parse_pair(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let certificates = contents(call, operands.text(0)?, |kind| kind == "CERTIFICATE", usize::MAX)?;
    let is_key = |kind: &str| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    let keys = contents(call, operands.text(1)?, is_key, 1)?;
    let (Some(first), Some(key)) = (certificates.first(), keys.first()) else {
        return Failure::error("tls: failed to find any PEM data");
    };
    let certificate = Certificate::read(first)?;
    let key = private::any(call, key)?;
    if !is_for(&key, &certificate.key) {
        return Failure::error("tls: private key does not match public key");
    }
    Ok(call::object([
        ("Certificate", Value::Array(certificates.iter().map(|bytes| encoded(bytes)).collect())),
        ("Leaf", certificate.plain_value()),
        ("OCSPStaple", Value::Null),
        ("PrivateKey", key.value()),
        ("SignedCertificateTimestamps", Value::Null),
        ("SupportedSignatureAlgorithms", Value::Null),
    ]))
}

/// The blocks of some kinds in PEM, or in PEM in Base64; or the one that is in Base64. Those behind the last that is wanted do not count.
fn contents(
    call: &mut Call,
    text: &str,
    is_wanted: impl Fn(&str) -> bool,
    most: usize,
) -> Result<Vec<Vec<u8>>, Failure> {
    call.take(text.len() / 4)?;
    let decoded;
    let text = if text.starts_with(BEGIN) {
        text
    } else {
        decoded = base64(text)?;
        match std::str::from_utf8(&decoded) {
            Ok(text) if text.starts_with(BEGIN) => text,
            _ => return Ok(vec![decoded]),
        }
    };
    let mut found = Vec::new();
    for block in (Blocks { rest: text }) {
        let (kind, bytes) = block?;
        if is_wanted(kind) {
            found.push(bytes);
        }
        if found.len() >= most {
            break;
        }
    }
    Ok(found)
}

fn is_for(private: &PrivateKey, public: &PublicKey) -> bool {
    match (private, public) {
        (PrivateKey::Rsa(rsa), PublicKey::Rsa { modulus, exponent }) => {
            rsa.n == *modulus && rsa.e == *exponent
        }
        (PrivateKey::Curve { curve, point, .. }, PublicKey::Curve(other, own)) => {
            curve == other && point == own
        }
        (PrivateKey::Ed25519 { public, .. }, PublicKey::Ed25519(own)) => public == own,
        _ => false,
    }
}
