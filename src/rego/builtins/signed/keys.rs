//! Public keys as rules write them: a certificate or a key in PEM, or JSON Web Keys (RFC 7517). What is written otherwise than tools write it,
//! and what a Go library might read in its own way, ends the evaluation.

use std::fmt::Display;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::{Engine as _, alphabet};
use num_bigint::BigUint;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::rego::failure::Failure;
use crate::rego::json;
use crate::rego::value::{Object, Value};

const BEGIN: &str = "-----BEGIN ";
/// The blanks that may end a line in PEM.
const BLANKS: [char; 3] = [' ', '\t', '\r'];
/// As Go decodes it: padded, and whatever the unused bits are.
pub(in crate::rego::builtins) const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// The algorithms of keys that OPA knows. It leaves out other keys, if the library knows them at all.
const ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512", "PS256", "PS384", "PS512", "RS256",
    "RS384", "RS512",
];
/// The members of a key that are read, and those that say nothing about it.
const MEMBERS: [&str; 12] = ["alg", "crv", "e", "k", "kid", "kty", "n", "use", "x", "x5t", "x5t#S256", "y"];

/// A key, and what a key set says of it.
pub(super) struct NamedKey {
    pub key: PublicKey,
    /// Its algorithm; empty where that is not said.
    pub algorithm: String,
    /// Its id; empty where it has none.
    pub id: String,
}

/// A public key.
pub(in crate::rego::builtins) enum PublicKey {
    Rsa {
        modulus: BigUint,
        exponent: BigUint,
    },
    /// A point, uncompressed.
    Curve(Curve, Vec<u8>),
    /// On a curve of this name, which the gate has no code for.
    OtherCurve(&'static str),
    Ed25519(Vec<u8>),
    /// A secret that both sides have: it verifies what `io.jwt.decode_verify` is given, and nothing else.
    Shared(Vec<u8>),
    /// Of a kind that signs no tokens.
    Other,
}

/// A key that signs.
pub(super) enum PrivateKey {
    /// `n`, `e`, `d`, `p`, `q`, `dp`, `dq`, `qi` (RFC 7518, section 6.3).
    Rsa([Vec<u8>; 8]),
    /// The public point, uncompressed, and the number.
    Curve {
        curve: Curve,
        point: Vec<u8>,
        number: Vec<u8>,
    },
    Ed25519 {
        public: Vec<u8>,
        seed: Vec<u8>,
    },
    Shared(Vec<u8>),
}

/// A curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rego::builtins) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// By its name in a JSON Web Key (RFC 7518, section 6.2.1.1).
    pub(in crate::rego::builtins) const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The curve that an object identifier names, and that there is code for.
    pub(in crate::rego::builtins) fn of_identifier(id: &str) -> Option<Self> {
        match id {
            "1.2.840.10045.3.1.7" => Some(Self::P256),
            "1.3.132.0.34" => Some(Self::P384),
            "1.3.132.0.35" => Some(Self::P521),
            _ => None,
        }
    }

    /// Bytes of a coordinate.
    pub(in crate::rego::builtins) const fn length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The curve of a name in a JSON Web Key.
    fn named(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.name() == name)
    }

    /// The prime and `b` of `y² = x³ - 3x + b` (FIPS 186-4, appendix D.1.2).
    fn equation(self) -> Option<[BigUint; 2]> {
        let [p, b]: [&[u8]; 2] = match self {
            Self::P256 => [
                b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
                b"5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
            ],
            Self::P384 => [
                b"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
                b"b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
            ],
            Self::P521 => [
                b"1ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                  ffffffffffffffffffffffffffffffff",
                b"51953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf\
                  073573df883d2c34f1ef451fd46b503f00",
            ],
        };
        Some([BigUint::parse_bytes(p, 16)?, BigUint::parse_bytes(b, 16)?])
    }

    /// The key at this point; `None` if it is not one of the curve.
    pub(in crate::rego::builtins) fn key(self, point: &[u8]) -> Option<PublicKey> {
        let (&form, coordinates) = point.split_first()?;
        let (x, y) = coordinates.split_at_checked(self.length())?;
        let [p, b] = self.equation()?;
        let is_whole = form == 4 && y.len() == self.length();
        let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
        let (left, right) = (&y * &y + &x * 3_u32, &x * &x * &x + b);
        let is_on_it = x < p && y < p && left % &p == right % &p;
        (is_whole && is_on_it).then(|| PublicKey::Curve(self, point.to_vec()))
    }
}

/// The keys that a text holds.
pub(super) fn parse(text: &str) -> Result<Vec<NamedKey>, Failure> {
    match block(text)? {
        Some((kind, bytes)) => {
            Ok(vec![NamedKey { key: encoded(kind, &bytes)?, algorithm: String::new(), id: String::new() }])
        }
        None => key_set(text),
    }
}

fn unread<T>(what: impl Display) -> Result<T, Failure> {
    Err(Failure::Halt(format!("{what}, which the gate does not read")))
}

// === PEM ===

/// The kind and the content of the first block; `None` if there is none.
fn block(text: &str) -> Result<Option<(&str, Vec<u8>)>, Failure> {
    let start = if text.starts_with(BEGIN) { Some(0) } else { text.find("\n-----BEGIN ").map(|at| at + 1) };
    let Some(block) = start.and_then(|start| text.get(start..)?.strip_prefix(BEGIN)) else { return Ok(None) };
    let Some((kind, inside, rest)) = apart(block) else {
        // Go looks for another one.
        return if block.contains(BEGIN) {
            unread("the key is behind something else in PEM")
        } else {
            Failure::error("it is neither a PEM block nor a key set")
        };
    };
    if inside.contains(':') {
        return unread("the PEM block has headers");
    }
    let encoded: String =
        inside.chars().filter(|letter| !BLANKS.contains(letter) && *letter != '\n').collect();
    match STANDARD.decode(encoded) {
        Ok(_) if !rest.is_empty() => Failure::error("extra data after a PEM certificate block"),
        Ok(bytes) => Ok(Some((kind, bytes))),
        Err(_) if rest.contains(BEGIN) => unread("the key is behind something else in PEM"),
        Err(_) => Failure::error("it is neither a PEM block nor a key set"),
    }
}

/// The contents of all blocks, one behind the other, which are of one kind. What follows the last of them does not count.
pub(in crate::rego::builtins) fn blocks(text: &str, wanted: &str) -> Result<Vec<u8>, Failure> {
    let mut contents = Vec::new();
    for block in (Blocks { rest: text }) {
        let (kind, bytes) = block?;
        if kind != wanted {
            return Failure::error(format!("PEM block type is '{kind}', expected {wanted}"));
        }
        contents.extend(bytes);
    }
    Ok(contents)
}

/// The blocks of a text in PEM, each with its kind. One of a form that tools do not write ends the evaluation.
pub(in crate::rego::builtins) struct Blocks<'a> {
    pub rest: &'a str,
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<(&'a str, Vec<u8>), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = std::mem::take(&mut self.rest);
        let Some(block) = text.trim_start_matches(['\n', ' ', '\t', '\r']).strip_prefix(BEGIN) else {
            return text.contains(BEGIN).then(|| unread("the text has a PEM block behind something else"));
        };
        let Some((kind, inside, behind)) = apart(block) else {
            return Some(unread("the text has a PEM block of another form"));
        };
        self.rest = behind;
        let encoded: String =
            inside.chars().filter(|letter| !BLANKS.contains(letter) && *letter != '\n').collect();
        Some(match STANDARD.decode(encoded).ok().filter(|_| !inside.contains(':')) {
            Some(bytes) => Ok((kind, bytes)),
            None => unread("the text has a PEM block of another form"),
        })
    }
}

/// The kind of a block, what is in it, and what is behind it.
fn apart(block: &str) -> Option<(&str, &str, &str)> {
    let (first, body) = block.split_once('\n')?;
    let kind = first.trim_end_matches(BLANKS).strip_suffix("-----")?;
    let (inside, end) = body.split_once("-----END ")?;
    let end = end.strip_prefix(kind)?.strip_prefix("-----")?;
    let (last, rest) = end.split_once('\n').unwrap_or((end, ""));
    let is_whole = (inside.is_empty() || inside.ends_with('\n')) && last.trim_end_matches(BLANKS).is_empty();
    is_whole.then_some((kind, inside, rest))
}

fn encoded(kind: &str, bytes: &[u8]) -> Result<PublicKey, Failure> {
    match kind {
        "CERTIFICATE" => match X509Certificate::from_der(bytes) {
            Ok(([], certificate)) => of_info(certificate.public_key(), true),
            _ => Failure::error("failed to parse a PEM certificate"),
        },
        "PUBLIC KEY" => match SubjectPublicKeyInfo::from_der(bytes) {
            Ok(([], info)) => of_info(&info, false),
            _ => Failure::error("failed to parse a PEM public key"),
        },
        _ => Failure::error("failed to extract a Key from the PEM certificate"),
    }
}

/// The key of a certificate, or one alone.
pub(in crate::rego::builtins) fn of_info(
    info: &SubjectPublicKeyInfo<'_>,
    is_certificate: bool,
) -> Result<PublicKey, Failure> {
    let key = &*info.subject_public_key.data;
    let parameters = info.algorithm.parameters.as_ref();
    let found = match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => match info.parsed() {
            Ok(public_key::PublicKey::RSA(rsa)) if parameters.is_some_and(|any| any.as_null().is_ok()) => {
                let number = BigUint::from_bytes_be;
                Some(PublicKey::Rsa { modulus: number(rsa.modulus), exponent: number(rsa.exponent) })
            }
            _ => None,
        },
        "1.2.840.10045.2.1" => {
            let curve = parameters.and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
            match curve.as_deref() {
                Some("1.3.132.0.33") => Some(PublicKey::OtherCurve("P-224")),
                Some(id) => Curve::of_identifier(id).and_then(|curve| curve.key(key)),
                None => None,
            }
        }
        "1.3.101.112" => (key.len() == 32 && parameters.is_none()).then(|| PublicKey::Ed25519(key.to_vec())),
        // X25519 and DSA.
        "1.3.101.110" | "1.2.840.10040.4.1" => Some(PublicKey::Other),
        // Of a certificate whose key Go does not know, the rest is read.
        _ => is_certificate.then_some(PublicKey::Other),
    };
    found.map_or_else(|| Failure::error("failed to parse a public key"), Ok)
}

// === JSON Web Keys ===

/// The object that is a key, or has a list of them.
fn key_document(text: &str) -> Result<Object, Failure> {
    match json::parse(text) {
        Ok(Value::Object(document)) => Ok(document),
        Err(Failure::Halt(reason)) => Err(Failure::Halt(reason)),
        _ => Failure::error("failed to parse a JWK key (set)"),
    }
}

fn key_set(text: &str) -> Result<Vec<NamedKey>, Failure> {
    let document = key_document(text)?;
    match document.get(&Value::text("keys")) {
        None => Ok(vec![web_key(&document)?]),
        Some(Value::Array(keys)) if document.len() == 1 => keys
            .iter()
            .map(|key| match key {
                Value::Object(key) => web_key(key),
                _ => unread("the key set has something else than keys"),
            })
            .collect(),
        Some(_) => unread("the key set has other members, or no list of keys"),
    }
}

/// A member of a key; empty where it is absent or no text.
fn text_of<'a>(members: &'a Object, name: &str) -> &'a str {
    match members.get(&Value::text(name)) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

/// A member of a key that is bytes; `None` if there are none.
fn bytes_of(members: &Object, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text_of(members, name)).ok().filter(|bytes| !bytes.is_empty())
}

/// Whether a key has texts alone, of names that are read, and algorithm and use are ones that OPA's library knows.
fn is_readable(members: &Object, more: &[&str]) -> Result<(), Failure> {
    let is_known = |(name, value): (&Value, &Value)| matches!((name, value), (Value::String(name), Value::String(_)) if MEMBERS.contains(&name.as_str()) || more.contains(&name.as_str()));
    if !members.iter().all(is_known) {
        return unread(format!("the key set has a key with other members than {}", MEMBERS.join(", ")));
    }
    let algorithm = text_of(members, "alg");
    let is_known = algorithm.is_empty() || ALGORITHMS.contains(&algorithm);
    if !is_known || !["", "sig", "enc"].contains(&text_of(members, "use")) {
        return unread("the key set has a key of another algorithm or use");
    }
    Ok(())
}

fn web_key(members: &Object) -> Result<NamedKey, Failure> {
    is_readable(members, &[])?;
    let text = |name: &str| text_of(members, name);
    let bytes = |name: &str| bytes_of(members, name);
    let algorithm = text("alg");
    let number = |name: &str| bytes(name).map(|bytes| BigUint::from_bytes_be(&bytes));
    let point = || Some([vec![4], bytes("x")?, bytes("y")?].concat());
    let key = match (text("kty"), text("crv")) {
        ("RSA", "") => {
            number("n").zip(number("e")).map(|(modulus, exponent)| PublicKey::Rsa { modulus, exponent })
        }
        ("EC", curve) => Curve::named(curve).zip(point()).and_then(|(curve, point)| curve.key(&point)),
        ("oct", "") => bytes("k").map(PublicKey::Shared),
        ("OKP", "Ed25519") => bytes("x").filter(|bytes| bytes.len() == 32).map(PublicKey::Ed25519),
        _ => None,
    };
    match key {
        Some(key) => Ok(NamedKey { key, algorithm: algorithm.into(), id: text("kid").into() }),
        None => unread("the key set has a key of another kind or form"),
    }
}

/// The first key of a text, with which it signs. One that has no private part is an error, as in OPA.
pub(super) fn private(text: &str) -> Result<PrivateKey, Failure> {
    let document = key_document(text)?;
    match document.get(&Value::text("keys")) {
        None => private_web_key(&document),
        Some(Value::Array(keys)) if document.len() == 1 => match keys.as_slice() {
            [] => Failure::error("no keys found in JWK set"),
            [Value::Object(key)] => private_web_key(key),
            _ => unread("the key set has several keys, or something else than keys"),
        },
        Some(_) => unread("the key set has other members, or no list of keys"),
    }
}

fn private_web_key(members: &Object) -> Result<PrivateKey, Failure> {
    let has = |name: &str| members.contains_key(&Value::text(name));
    is_readable(members, &["d", "p", "q", "dp", "dq", "qi"])?;
    let kind = text_of(members, "kty");
    if ["RSA", "EC", "OKP"].contains(&kind) && !has("d") {
        return Failure::error("the key is a public one");
    }
    let bytes = |name: &str| bytes_of(members, name);
    let on_curve = |curve: Curve| {
        let (point, number) = ([vec![4], bytes("x")?, bytes("y")?].concat(), bytes("d")?);
        curve.key(&point)?;
        (number.len() == curve.length()).then_some(PrivateKey::Curve { curve, point, number })
    };
    let found = match (kind, text_of(members, "crv")) {
        ("RSA", "") => {
            let numbers = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(bytes);
            numbers
                .iter()
                .all(Option::is_some)
                .then(|| PrivateKey::Rsa(numbers.map(Option::unwrap_or_default)))
        }
        ("EC", curve) => Curve::named(curve).and_then(on_curve),
        ("OKP", "Ed25519") => match (bytes("x"), bytes("d")) {
            (Some(public), Some(seed)) if public.len() == 32 && seed.len() == 32 => {
                Some(PrivateKey::Ed25519 { public, seed })
            }
            _ => None,
        },
        ("oct", "") => bytes("k").map(PrivateKey::Shared),
        _ => None,
    };
    found.map_or_else(|| unread("the key is of another kind or form"), Ok)
}
