//! Tokens that are signed with a private key, verified by the public one as OPA does it (`open-policy-agent/opa:v1/topdown/tokens.go`,
//! `builtinJWTVerify`). A form of a key that the gate does not read ends the evaluation: `false` would be another answer than OPA's.

mod algorithm;
mod constraints;
mod curves;
mod keys;
mod rsa;
mod sign;

pub(super) use algorithm::{Algorithm, Form, Hash, is_right};
pub(super) use constraints::decode_verify;
pub(super) use curves::point_of;
use keys::NamedKey;
pub(super) use keys::{Blocks, Curve, PublicKey, STANDARD, blocks, of_info};
pub(super) use sign::{encode, encode_raw};

use super::encoding::base64url;
use super::token::{header, parts};
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// The parts of a header that say how to verify.
struct Header {
    algorithm: String,
    key: String,
    /// What the payload is.
    content: String,
    /// Whether it marks as critical what is not known here.
    is_critical: bool,
}

impl Header {
    /// Refuses what OPA refuses, also in parts that do not matter.
    fn read(header: &Value) -> Result<Self, Failure> {
        let text = |name: &str| match header.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Failure::error(format!("{name}: must be a string")),
        };
        let critical: &[Value] = match header.get("crit") {
            None => &[],
            Some(Value::Array(items)) if matches!(items.first(), Some(Value::String(_))) => items,
            Some(_) => return Failure::error("crit: must be a nonempty list of strings"),
        };
        text("typ")?;
        // Those behind something that is no text do not count.
        let mut names = critical.iter().map_while(|name| match name {
            Value::String(name) => Some(name.as_str()),
            _ => None,
        });
        let known = ["alg", "kid", "typ", "cty", "crit"];
        let is_critical = names.any(|name| !known.contains(&name) && header.get(name).is_some());
        Ok(Self { algorithm: text("alg")?, key: text("kid")?, content: text("cty")?, is_critical })
    }
}

/// Whether one of the keys signed: the one with the id that the header names, or any that may be for its algorithm.
fn by_any(
    keys: &[NamedKey],
    header: &Header,
    mut is_right: impl FnMut(&NamedKey) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    if let Some(own) = keys.iter().find(|named| !header.key.is_empty() && named.id == header.key) {
        return is_right(own);
    }
    let may_be = |named: &&NamedKey| named.algorithm.is_empty() || named.algorithm == header.algorithm;
    for named in keys.iter().filter(may_be) {
        if is_right(named)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn verify(call: &mut Call, operands: Operands<'_>, algorithm: Algorithm) -> Outcome {
    let [head, payload, signature] = parts(operands.text(0)?)?;
    let keys = keys::parse(operands.text(1)?)?;
    let signature = base64url(signature)?;
    let header = Header::read(&header(head)?)?;
    let signed = format!("{head}.{payload}");
    let how = (algorithm, Form::Any);
    by_any(&keys, &header, |named| is_right(call, how, &named.key, signed.as_bytes(), &signature))
        .map(Value::Bool)
}

macro_rules! functions {
    ($($name:ident: $algorithm:expr;)*) => {
        $(pub(super) fn $name(call: &mut Call, operands: Operands<'_>) -> Outcome {
            verify(call, operands, $algorithm)
        })*
    };
}

functions! {
    rs256: Algorithm::Pkcs1(Hash::Sha256);
    rs384: Algorithm::Pkcs1(Hash::Sha384);
    rs512: Algorithm::Pkcs1(Hash::Sha512);
    ps256: Algorithm::Pss(Hash::Sha256);
    ps384: Algorithm::Pss(Hash::Sha384);
    ps512: Algorithm::Pss(Hash::Sha512);
    es256: Algorithm::Ecdsa(Hash::Sha256);
    es384: Algorithm::Ecdsa(Hash::Sha384);
    es512: Algorithm::Ecdsa(Hash::Sha512);
    eddsa: Algorithm::EdDsa;
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
        // A point of P-224 (FIPS 186-4, appendix D.1.2.2, the base point).
        let p224 = "-----BEGIN PUBLIC KEY-----\nME4wEAYHKoZIzj0CAQYFK4EEACEDOgAEtw4MvWu0v38yE5C5SgPB01bCESI0MoDW\n\
                    EVwdIb03Y4i19yP7TCLf5s1DdaBaB0dkRNWBmYUAfjQ=\n-----END PUBLIC KEY-----\n";
        assert!(matches!(said(es256, p224), Err(Failure::Halt(reason)) if reason.ends_with("P-224")));
        assert_eq!(said(rs256, p224), Ok(Value::Bool(false)), "it is no key of RSA, on whatever curve");
        for key in [
            r#"{"kty": "RSA", "n": "AQ", "e": "AQAB", "d": "AQ"}"#,
            r#"{"kty": "RSA", "n": "A Q", "e": "AQAB"}"#,
            r#"{"kty": "RSA", "n": "AQ", "e": "AQAB", "alg": "RS1"}"#,
            r#"{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}"#,
            r#"{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}"#,
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
