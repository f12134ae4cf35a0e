//! Tokens that are signed with a private key, verified by the public one as OPA does it (`open-policy-agent/opa:v1/topdown/tokens.go`,
//! `builtinJWTVerify`). A form of a key that the gate does not read ends the evaluation: `false` would be another answer than OPA's.

mod keys;
mod rsa;

use keys::{Curve, NamedKey, PublicKey};
use num_bigint::BigUint;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2_for_hmac::{Sha256, Sha384, Sha512};

use super::encoding::base64url;
use super::token::{header, parts};
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Whether a signature of these bytes is right.
type Verify = fn(&PublicKey, &[u8], &[u8]) -> Result<bool, Failure>;

/// The parts of a header that say which key it was.
struct Header {
    algorithm: String,
    key: String,
}

impl Header {
    /// Refuses what OPA refuses, also in parts that do not matter.
    fn read(header: &Value) -> Result<Self, Failure> {
        let text = |name: &str| match header.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Failure::error(format!("{name}: must be a string")),
        };
        match header.get("crit") {
            None => {}
            Some(Value::Array(items)) if matches!(items.first(), Some(Value::String(_))) => {}
            Some(_) => return Failure::error("crit: must be a nonempty list of strings"),
        }
        for name in ["typ", "cty"] {
            text(name)?;
        }
        Ok(Self { algorithm: text("alg")?, key: text("kid")? })
    }
}

fn verify(operands: Operands<'_>, is_right: Verify) -> Outcome {
    let [head, payload, signature] = parts(operands.text(0)?)?;
    let keys = keys::parse(operands.text(1)?)?;
    let signature = base64url(signature)?;
    let Header { algorithm, key: id } = Header::read(&header(head)?)?;
    let signed = format!("{head}.{payload}");
    let by = |named: &NamedKey| is_right(&named.key, signed.as_bytes(), &signature);
    if let Some(own) = keys.iter().find(|named| !id.is_empty() && named.id == id) {
        return by(own).map(Value::Bool);
    }
    for named in keys.iter().filter(|named| named.algorithm.is_empty() || named.algorithm == algorithm) {
        if by(named)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// Whether a signature by this modulus and exponent is right.
type ByRsa = fn((&BigUint, &BigUint), &[u8], &[u8]) -> Result<bool, Failure>;

fn by_rsa(key: &PublicKey, how: ByRsa, signed: &[u8], signature: &[u8]) -> Result<bool, Failure> {
    match key {
        PublicKey::Rsa { modulus, exponent } => how((modulus, exponent), signed, signature),
        _ => Ok(false),
    }
}

macro_rules! rsa_functions {
    ($($name:ident: $how:expr;)*) => {
        $(pub(super) fn $name(_: &mut Call, operands: Operands<'_>) -> Outcome {
            verify(operands, |key, signed, signature| by_rsa(key, $how, signed, signature))
        })*
    };
}

rsa_functions! {
    rs256: rsa::pkcs1::<Sha256>;
    rs384: rsa::pkcs1::<Sha384>;
    rs512: rsa::pkcs1::<Sha512>;
    ps256: rsa::pss::<Sha256>;
    ps384: rsa::pss::<Sha384>;
    ps512: rsa::pss::<Sha512>;
}

pub(super) fn es256(_: &mut Call, operands: Operands<'_>) -> Outcome {
    verify(operands, |key, signed, signature| {
        by_curve(
            key,
            [&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
            signed,
            signature,
        )
    })
}

pub(super) fn es384(_: &mut Call, operands: Operands<'_>) -> Outcome {
    verify(operands, |key, signed, signature| {
        by_curve(
            key,
            [&signature::ECDSA_P256_SHA384_ASN1, &signature::ECDSA_P384_SHA384_ASN1],
            signed,
            signature,
        )
    })
}

pub(super) fn eddsa(_: &mut Call, operands: Operands<'_>) -> Outcome {
    verify(operands, |key, signed, signature| match key {
        PublicKey::Ed25519(bytes) => {
            Ok(UnparsedPublicKey::new(&signature::ED25519, bytes).verify(signed, signature).is_ok())
        }
        _ => Ok(false),
    })
}

/// By ECDSA: the first half of the signature is one number, and the rest the other, however long they are. The digest is that of the
/// function, whatever the curve is.
fn by_curve(
    key: &PublicKey,
    [p256, p384]: [&'static dyn VerificationAlgorithm; 2],
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, Failure> {
    let (curve, point) = match key {
        PublicKey::Curve(curve, point) => (curve, point),
        PublicKey::OtherCurve(name) => {
            return Err(Failure::Halt(format!("the gate has no code to verify signatures by {name}")));
        }
        _ => return Ok(false),
    };
    let algorithm = match curve {
        Curve::P256 => p256,
        Curve::P384 => p384,
    };
    let (r, s) = signature.split_at_checked(signature.len() / 2).unwrap_or_default();
    let numbers = [integer(r), integer(s)].concat();
    let encoded = tagged(0x30, &numbers);
    Ok(UnparsedPublicKey::new(algorithm, point).verify(signed, &encoded).is_ok())
}

/// A number in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(first..).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJhIjogMX0.AAAA";

    fn said(by: fn(&mut Call, Operands<'_>) -> Outcome, key: &str) -> Outcome {
        by(&mut Call::within(1 << 20), Operands(&[Value::text(TOKEN), Value::text(key)]))
    }

    /// `false` would be another answer than OPA's, and a rule that is broken by `not` would be broken, and one without it never.
    #[test]
    fn a_key_that_the_gate_does_not_read_ends_the_evaluation() {
        let p521 = r#"{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}"#;
        assert!(matches!(said(es256, p521), Err(Failure::Halt(reason)) if reason.ends_with("P-521")));
        assert_eq!(said(rs256, p521), Ok(Value::Bool(false)), "it is no key of RSA, on whatever curve");
        for key in [
            r#"{"kty": "RSA", "n": "AQ", "e": "AQAB", "d": "AQ"}"#,
            r#"{"kty": "RSA", "n": "A Q", "e": "AQAB"}"#,
            r#"{"kty": "RSA", "n": "AQ", "e": "AQAB", "alg": "RS1"}"#,
            r#"{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}"#,
            r#"{"keys": [1]}"#,
            r#"{"keys": {}}"#,
            "-----BEGIN A-----\nB: c\n\nAAAA\n-----END A-----\n",
            "-----BEGIN A-----\nAAAA\n-----END B-----\n-----BEGIN C-----\n",
        ] {
            for by in [rs256, es256] {
                assert!(matches!(said(by, key), Err(Failure::Halt(_))), "{key}: {:?}", said(by, key));
            }
        }
        let large = format!(r#"{{"kty": "RSA", "n": "{}", "e": "AQAB"}}"#, "_".repeat(4 << 10));
        assert!(matches!(said(ps256, &large), Err(Failure::Halt(_))));
    }
}
