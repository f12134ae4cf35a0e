//! `io.jwt.encode_sign` and `io.jwt.encode_sign_raw` (`open-policy-agent/opa:v1/topdown/tokens.go`, `commonBuiltinJWTEncodeSign`). What is
//! signed by RSASSA-PSS or ECDSA has a random part in Go too, so such an evaluation is not kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use sha2_for_hmac::{Digest as _, Sha256};

use super::algorithm::{Algorithm, Hash};
use super::curves;
use super::keys::{self, Curve, PrivateKey};
use crate::rego::builtins::encoding::hex;
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::json;
use crate::rego::value::Value;

/// Steps of a signature by RSA, about 5 ms with the largest key that ring takes.
const RSA_STEPS: usize = 100_000;
/// Steps of a signature on a curve.
const CURVE_STEPS: usize = 40_000;
/// The algorithms that OPA signs with.
const ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512", "PS256", "PS384", "PS512", "RS256",
    "RS384", "RS512",
];

pub(in crate::rego::builtins) fn encode(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let [headers, payload, key] =
        [operands.at(0)?, operands.at(1)?, operands.at(2)?].map(Value::to_json_text);
    token(call, &headers, &payload, &key)
}

pub(in crate::rego::builtins) fn encode_raw(call: &mut Call, operands: Operands<'_>) -> Outcome {
    token(call, operands.text(0)?, operands.text(1)?, operands.text(2)?)
}

fn token(call: &mut Call, headers: &str, payload: &str, key: &str) -> Outcome {
    let private = keys::private(key)?;
    let (algorithm, is_token) = header(headers)?;
    if is_token && !json::is_valid(payload)? {
        return Failure::error("type is JWT but payload is not JSON");
    }
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(headers), encode(payload));
    let signature = sign(call, algorithm, &private, signed.as_bytes())?;
    let token = Value::String(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)));
    if matches!(algorithm, Algorithm::Pss(_) | Algorithm::Ecdsa(_)) {
        let name = Sha256::new().chain_update(key).chain_update([0]).chain_update(&signed).finalize();
        return Ok(call.random(format!("io.jwt.encode_sign {}", hex(&name)), || token));
    }
    Ok(token)
}

/// The algorithm, and whether the payload must be JSON. The library that reads the header for OPA reads more than JSON and takes the first
/// of equal names, so what is not plain JSON ends the evaluation.
fn header(text: &str) -> Result<(Algorithm, bool), Failure> {
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Failure::error("missing or invalid `alg` header");
    }
    let unread = |_| Failure::Halt("the header is not JSON with distinct names".into());
    let header = json::parse_distinct(text).map_err(unread)?;
    let Some(Value::String(algorithm)) = header.get("alg") else {
        return Failure::error("missing or invalid `alg` header");
    };
    let is_token = match header.get("typ") {
        Some(Value::String(kind)) => kind == "JWT",
        _ => true,
    };
    match Algorithm::named(algorithm).filter(|_| ALGORITHMS.contains(&algorithm.as_str())) {
        Some(algorithm) => Ok((algorithm, is_token)),
        None => Failure::error(format!("unknown JWS algorithm: {algorithm}")),
    }
}

fn sign(call: &mut Call, algorithm: Algorithm, key: &PrivateKey, signed: &[u8]) -> Result<Vec<u8>, Failure> {
    match (algorithm, key) {
        (Algorithm::Hmac(hash), PrivateKey::Shared(secret)) => hash.code(secret, signed),
        (Algorithm::Pkcs1(hash), PrivateKey::Rsa(numbers)) => {
            call.take(RSA_STEPS)?;
            by_rsa(numbers, signed, hash.of([&RSA_PKCS1_SHA256, &RSA_PKCS1_SHA384, &RSA_PKCS1_SHA512]))
        }
        (Algorithm::Pss(hash), PrivateKey::Rsa(numbers)) => {
            call.take(RSA_STEPS)?;
            by_rsa(numbers, signed, hash.of([&RSA_PSS_SHA256, &RSA_PSS_SHA384, &RSA_PSS_SHA512]))
        }
        (Algorithm::Ecdsa(hash), PrivateKey::Curve { curve, point, number }) => {
            call.take(CURVE_STEPS)?;
            by_curve(hash, (*curve, point), number, signed)
        }
        (Algorithm::EdDsa, PrivateKey::Ed25519 { public, seed }) => {
            call.take(CURVE_STEPS)?;
            match Ed25519KeyPair::from_seed_and_public_key(seed, public) {
                Ok(pair) => Ok(pair.sign(signed).as_ref().to_vec()),
                Err(_) => Failure::error("ed25519: invalid x value given d value"),
            }
        }
        _ => Failure::error("the key is not one of the algorithm"),
    }
}

/// The numbers in the order `n`, `e`, `d`, `p`, `q`, `dp`, `dq`, `qi`.
#[allow(clippy::many_single_char_names, reason = "RFC 7518 names the numbers so")]
fn by_rsa(
    [n, e, d, p, q, dp, dq, qi]: &[Vec<u8>; 8],
    signed: &[u8],
    how: &'static dyn RsaEncoding,
) -> Result<Vec<u8>, Failure> {
    let public_key = PublicKeyComponents { n, e };
    let components = KeyPairComponents { public_key, d, p, q, dP: dp, dQ: dq, qInv: qi };
    let pair = KeyPair::from_components(&components).map_err(|rejected| {
        Failure::Halt(format!(
            "the gate signs by whole RSA keys of 2048 to 4096 bits, not by this one: {rejected}"
        ))
    })?;
    let mut signature = vec![0; pair.public().modulus_len()];
    match pair.sign(how, &SystemRandom::new(), signed, &mut signature) {
        Ok(()) => Ok(signature),
        Err(_) => Err(Failure::Halt("the RSA key does not sign".into())),
    }
}

fn by_curve(
    hash: Hash,
    (curve, point): (Curve, &[u8]),
    number: &[u8],
    signed: &[u8],
) -> Result<Vec<u8>, Failure> {
    let refused = || Failure::Halt("the key on the curve is not whole".into());
    if let (Curve::P521, Hash::Sha512) = (curve, hash) {
        let signature = curves::signed_by_p521(number, &hash.digest(signed));
        let is_whole = curves::point_of(curve, number).as_deref() == Some(point);
        return signature.filter(|_| is_whole).ok_or_else(refused);
    }
    let how: &'static EcdsaSigningAlgorithm = match (curve, hash) {
        (Curve::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        (Curve::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => return Err(Failure::Halt("the gate signs on a curve by the digest of its size alone".into())),
    };
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(how, number, point, &random);
    let signature = pair.map_err(|_| refused())?.sign(&random, signed).map_err(|_| refused())?;
    Ok(signature.as_ref().to_vec())
}
