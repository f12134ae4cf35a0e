//! Whether a signature is right, by the algorithm that a token names (RFC 7518, section 3.1), and what that costs.

use hmac::Hmac;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2_for_hmac::{Digest as _, Sha256, Sha384, Sha512};

use super::keys::{Curve, PublicKey};
use super::{curves, rsa};
use crate::rego::builtins::crypto::{code_of, is_equal};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Steps of a verification on a curve, about 0.1 ms; a step is what one value costs to copy.
const CURVE_STEPS: usize = 2_000;
/// Steps of a verification by code without tables.
const LARGE_CURVE_STEPS: usize = 40_000;
/// Bits of a modulus by which a multiplication of two such numbers takes one step.
const RSA_BITS_PER_STEP: u64 = 256;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// A digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rego::builtins) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The one of three that is for this digest.
    pub(super) fn of<T>(self, [sha256, sha384, sha512]: [T; 3]) -> T {
        match self {
            Self::Sha256 => sha256,
            Self::Sha384 => sha384,
            Self::Sha512 => sha512,
        }
    }

    /// The code of a message by a secret.
    pub(super) fn code(self, secret: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
        let how = [code_of::<Hmac<Sha256>>, code_of::<Hmac<Sha384>>, code_of::<Hmac<Sha512>>];
        self.of(how)(secret, message)
    }

    pub(super) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// How a token or a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rego::builtins) enum Algorithm {
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
pub(in crate::rego::builtins) enum Form {
    /// As `io.jwt.verify_…` takes it: a salt of any length, and two numbers of any length.
    Any,
    /// As `io.jwt.decode_verify` takes it: a salt as long as the digest, and numbers as long as those of the curve.
    Exact,
    /// As certificates have it: two numbers in DER.
    Der,
}

/// Whether the signature of a text is right; not by a key of another kind than the algorithm's.
pub(in crate::rego::builtins) fn is_right(
    call: &mut Call,
    (algorithm, form): (Algorithm, Form),
    key: &PublicKey,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, Failure> {
    match (algorithm, key) {
        (Algorithm::Hmac(hash), PublicKey::Shared(secret)) => {
            Ok(is_equal(&hash.code(secret, signed)?, signature))
        }
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
            let Some(numbers) = numbers(form, *curve, signature) else { return Ok(false) };
            by_curve(call, hash, (*curve, point), signed, numbers)
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

/// The two numbers of a signature by ECDSA, without zeros before them; `None` if it is of another form.
fn numbers(form: Form, curve: Curve, signature: &[u8]) -> Option<[&[u8]; 2]> {
    let (r, s) = match form {
        Form::Any => signature.split_at_checked(signature.len() / 2)?,
        Form::Exact if signature.len() != curve.length().saturating_mul(2) => return None,
        Form::Exact => signature.split_at_checked(curve.length())?,
        Form::Der => return pair(signature),
    };
    Some([digits(r), digits(s)])
}

/// A sequence of two positive numbers in DER, and nothing behind it (Go's `crypto/ecdsa`, `parseSignature`).
fn pair(encoded: &[u8]) -> Option<[&[u8]; 2]> {
    let (inner, []) = content(SEQUENCE, encoded)? else { return None };
    let (r, rest) = content(INTEGER, inner)?;
    let (s, []) = content(INTEGER, rest)? else { return None };
    let positive = |bytes: &[u8]| !matches!(bytes, [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..]);
    (positive(r) && positive(s)).then(|| [digits(r), digits(s)])
}

/// What is in the element of this tag, and what is behind it. Longer ones than signatures have are not read.
fn content(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes {
        [found, length @ 0..=0x7f, rest @ ..] if *found == tag => (*length, rest),
        [found, 0x81, length @ 0x80..=0xff, rest @ ..] if *found == tag => (*length, rest),
        _ => return None,
    };
    rest.split_at_checked(usize::from(length))
}

/// By ECDSA. The digest is that of the algorithm, whatever the curve is.
fn by_curve(
    call: &mut Call,
    hash: Hash,
    (curve, point): (Curve, &[u8]),
    signed: &[u8],
    [r, s]: [&[u8]; 2],
) -> Result<bool, Failure> {
    let algorithm: &'static dyn VerificationAlgorithm = match (curve, hash) {
        (Curve::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (Curve::P521, _) | (_, Hash::Sha512) => {
            call.take(LARGE_CURVE_STEPS)?;
            return Ok(curves::is_right(curve, point, &hash.digest(signed), [r, s]));
        }
    };
    call.take(CURVE_STEPS)?;
    let encoded = tagged(SEQUENCE, &[integer(r), integer(s)].concat());
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
    tagged(INTEGER, &[padding, digits].concat())
}

/// Content with its tag and its length in DER. What is longer than any signature is not written, and no signature.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => [&[tag, length], content].concat(),
        Ok(length) => [&[tag, 0x81, length], content].concat(),
        Err(_) => Vec::new(),
    }
}
