//! Whether a signature is right, by the algorithm that a token names (RFC 7518, section 3.1), and what that costs.

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2_for_hmac::{Sha256, Sha384, Sha512};

use super::keys::{Curve, PublicKey};
use super::rsa;
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Steps of a verification on a curve, about 0.1 ms; a step is what one value costs to copy.
const CURVE_STEPS: usize = 2_000;
/// Bits of a modulus by which a multiplication of two such numbers takes one step.
const RSA_BITS_PER_STEP: u64 = 256;

/// A digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hmac(Hash),
    Pkcs1(Hash),
    Pss(Hash),
    Ecdsa(Hash),
    EdDsa,
}

impl Algorithm {
    /// By the name in a header. The Go library that verifies for OPA takes its own names too (`lestrrat-go/dsig:algorithms.go`).
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" | "HMAC_WITH_SHA256" => Self::Hmac(Hash::Sha256),
            "HS384" | "HMAC_WITH_SHA384" => Self::Hmac(Hash::Sha384),
            "HS512" | "HMAC_WITH_SHA512" => Self::Hmac(Hash::Sha512),
            "RS256" | "RSA_PKCS1v15_WITH_SHA256" => Self::Pkcs1(Hash::Sha256),
            "RS384" | "RSA_PKCS1v15_WITH_SHA384" => Self::Pkcs1(Hash::Sha384),
            "RS512" | "RSA_PKCS1v15_WITH_SHA512" => Self::Pkcs1(Hash::Sha512),
            "PS256" | "RSA_PSS_WITH_SHA256" => Self::Pss(Hash::Sha256),
            "PS384" | "RSA_PSS_WITH_SHA384" => Self::Pss(Hash::Sha384),
            "PS512" | "RSA_PSS_WITH_SHA512" => Self::Pss(Hash::Sha512),
            "ES256" | "ECDSA_WITH_P256_AND_SHA256" => Self::Ecdsa(Hash::Sha256),
            "ES384" | "ECDSA_WITH_P384_AND_SHA384" => Self::Ecdsa(Hash::Sha384),
            "ES512" | "ECDSA_WITH_P521_AND_SHA512" => Self::Ecdsa(Hash::Sha512),
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// What is asked about a signature beside the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As `io.jwt.verify_…` takes it: a salt of any length, and two numbers of any length.
    Any,
    /// As `io.jwt.decode_verify` takes it: a salt as long as the digest, and numbers as long as those of the curve.
    Exact,
}

/// Whether the signature of a text is right; not by a key of another kind than the algorithm's.
pub(super) fn is_right(
    call: &mut Call,
    (algorithm, form): (Algorithm, Form),
    key: &PublicKey,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, Failure> {
    match (algorithm, key) {
        (Algorithm::Hmac(hash), PublicKey::Shared(secret)) => code_is_right(hash, secret, signed, signature),
        (Algorithm::Pkcs1(hash), PublicKey::Rsa { modulus, exponent }) => {
            call.take(rsa_steps(modulus.bits(), exponent.bits()))?;
            let key = (modulus, exponent);
            match hash {
                Hash::Sha256 => rsa::pkcs1::<Sha256>(key, signed, signature),
                Hash::Sha384 => rsa::pkcs1::<Sha384>(key, signed, signature),
                Hash::Sha512 => rsa::pkcs1::<Sha512>(key, signed, signature),
            }
        }
        (Algorithm::Pss(hash), PublicKey::Rsa { modulus, exponent }) => {
            call.take(rsa_steps(modulus.bits(), exponent.bits()))?;
            let (key, any_salt) = ((modulus, exponent), form == Form::Any);
            match hash {
                Hash::Sha256 => rsa::pss::<Sha256>(key, signed, signature, any_salt),
                Hash::Sha384 => rsa::pss::<Sha384>(key, signed, signature, any_salt),
                Hash::Sha512 => rsa::pss::<Sha512>(key, signed, signature, any_salt),
            }
        }
        (Algorithm::Ecdsa(_), PublicKey::OtherCurve(name)) => {
            Err(Failure::Halt(format!("the gate has no code to verify signatures by {name}")))
        }
        (Algorithm::Ecdsa(hash), PublicKey::Curve(curve, point)) => {
            if form == Form::Exact && signature.len() != curve.length().saturating_mul(2) {
                return Ok(false);
            }
            by_curve(call, hash, (*curve, point), signed, signature)
        }
        (Algorithm::EdDsa, PublicKey::Ed25519(bytes)) => {
            call.take(CURVE_STEPS)?;
            Ok(UnparsedPublicKey::new(&signature::ED25519, bytes).verify(signed, signature).is_ok())
        }
        _ => Ok(false),
    }
}

/// Squarings and multiplications, each of which grows with the square of the modulus.
fn rsa_steps(modulus_bits: u64, exponent_bits: u64) -> usize {
    let one = (modulus_bits / RSA_BITS_PER_STEP).saturating_add(1);
    let all = one.saturating_mul(one).saturating_mul(exponent_bits.min(32).saturating_mul(2));
    usize::try_from(all).unwrap_or(usize::MAX)
}

fn code_is_right(hash: Hash, secret: &[u8], signed: &[u8], signature: &[u8]) -> Result<bool, Failure> {
    fn of<M: Mac + KeyInit>(secret: &[u8], signed: &[u8], signature: &[u8]) -> Result<bool, Failure> {
        let mut code = <M as KeyInit>::new_from_slice(secret)
            .map_err(|error| Failure::Error(format!("the secret is refused: {error}")))?;
        code.update(signed);
        Ok(code.verify_slice(signature).is_ok())
    }
    match hash {
        Hash::Sha256 => of::<Hmac<Sha256>>(secret, signed, signature),
        Hash::Sha384 => of::<Hmac<Sha384>>(secret, signed, signature),
        Hash::Sha512 => of::<Hmac<Sha512>>(secret, signed, signature),
    }
}

/// By ECDSA: the first half of the signature is one number, and the rest the other, however long they are. The digest is that of the
/// algorithm, whatever the curve is.
fn by_curve(
    call: &mut Call,
    hash: Hash,
    (curve, point): (Curve, &[u8]),
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, Failure> {
    let (r, s) = signature.split_at_checked(signature.len() / 2).unwrap_or_default();
    let algorithm: &'static dyn VerificationAlgorithm = match (curve, hash) {
        (Curve::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (_, Hash::Sha512) => {
            return Err(Failure::Halt("the gate has no code to verify SHA-512 on this curve".into()));
        }
    };
    call.take(CURVE_STEPS)?;
    let encoded = tagged(0x30, &[integer(r), integer(s)].concat());
    Ok(UnparsedPublicKey::new(algorithm, point).verify(signed, &encoded).is_ok())
}

/// A number without zeros before it.
fn digits(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes.get(first..).unwrap_or_default()
}

/// A number in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let digits = digits(bytes);
    // The first bit would be a sign.
    let padding: &[u8] = if digits.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    tagged(0x02, &[padding, digits].concat())
}

/// Content with its tag and its length in DER. What is longer than any signature is not written, and no signature.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => [&[tag, length], content].concat(),
        Ok(length) => [&[tag, 0x81, length], content].concat(),
        Err(_) => Vec::new(),
    }
}
