//! Private keys in PKCS #1, PKCS #8 and SEC 1 (Go's `crypto/x509`), as Go writes them in JSON and as JSON Web Keys. They come from the rule
//! or its input and stay in the evaluation.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use num_bigint::{BigInt, BigUint, Sign};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::base64;
use super::der::{Elements, element, identifier};
use crate::rego::builtins::signed::{Blocks, Curve, point_of};
use crate::rego::call::{self, Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::number::Number;
use crate::rego::value::Value;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const IDENTIFIER: u8 = 0x06;
/// Bits of a modulus that is read: there is no use for shorter ones, and longer ones take long.
const RSA_BITS: std::ops::RangeInclusive<u64> = 512..=8192;
/// Steps of looking at a key of RSA of the largest size, or of finding the point of a key on a curve.
const STEPS: usize = 40_000;

/// A private key.
pub(super) enum PrivateKey {
    Rsa(Box<Rsa>),
    Curve {
        curve: Curve,
        /// As long as a coordinate.
        number: Vec<u8>,
        /// The public key, uncompressed.
        point: Vec<u8>,
    },
    Ed25519 {
        seed: Vec<u8>,
        public: Vec<u8>,
    },
}

/// The numbers of a key of RSA (RFC 8017, section 3.2).
pub(super) struct Rsa {
    pub n: BigUint,
    pub e: BigUint,
    d: BigUint,
    p: BigUint,
    q: BigUint,
    dp: BigUint,
    dq: BigUint,
    qi: BigUint,
}

/// What Go refuses too.
fn refused() -> Failure {
    Failure::Error("x509: failed to parse private key".into())
}

fn unread<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Halt(format!("a private key with {what} is not read here")))
}

/// Go's reader passes over some of what is not right in a structure, and not over the rest.
fn unclear<T>(read: Result<T, Failure>) -> Result<T, Failure> {
    read.or_else(|_| unread("such a structure"))
}

/// Bytes as a text. Those that are none have no key in PEM.
fn text_of(bytes: Vec<u8>) -> Result<String, Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => match String::from_utf8_lossy(error.as_bytes()).into_owned() {
            text if text.contains(super::BEGIN) => unread("bytes around it that are no text"),
            text => Ok(text),
        },
    }
}

/// The private keys of a text in PEM, or of one in Base64. Blocks of other kinds do not count.
fn keys(call: &mut Call, text: &str) -> Result<Vec<PrivateKey>, Failure> {
    call.take(text.len() / 4)?;
    let decoded = base64(text).ok().map(text_of).transpose()?;
    let mut keys = Vec::new();
    for block in (Blocks { rest: decoded.as_deref().unwrap_or(text) }) {
        let (kind, bytes) = block?;
        match kind {
            "RSA PRIVATE KEY" => keys.push(pkcs1(call, &bytes)?),
            "PRIVATE KEY" => keys.push(pkcs8(call, &bytes)?),
            "EC PRIVATE KEY" => keys.push(sec1(call, None, &bytes)?),
            _ => {}
        }
    }
    Ok(keys)
}

/// `crypto.parse_private_keys`.
pub(in crate::rego::builtins) fn parse_private_keys(call: &mut Call, operands: Operands<'_>) -> Outcome {
    match operands.text(0)? {
        "" => Ok(Value::Null),
        text => Ok(Value::Array(keys(call, text)?.iter().map(PrivateKey::value).collect())),
    }
}

/// `crypto.x509.parse_rsa_private_key`: the first key as a JSON Web Key, of whatever kind it is.
pub(in crate::rego::builtins) fn parse_first_private_key(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?;
    if text.is_empty() {
        return Failure::error("input PEM data was empty");
    }
    let keys = if text.starts_with(super::BEGIN) {
        keys(call, text)?
    } else {
        keys(call, &text_of(base64(text)?)?)?
    };
    Ok(keys.first().map_or(Value::Null, PrivateKey::web_key))
}

/// The structure of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pkcs1,
    Pkcs8,
    Sec1,
}

/// The structure, and what it has behind its version.
fn structure(bytes: &[u8]) -> Result<(Form, u8, Elements<'_>), Failure> {
    if bytes.first() != Some(&SEQUENCE) {
        return Err(refused());
    }
    let Some((_, content, [])) = element(bytes) else { return unread("such a structure") };
    let mut elements = Elements::of(content);
    let [version @ ..=0x7f] = unclear(elements.read(INTEGER))? else { return unread("such a version") };
    let form = match elements.rest().first() {
        Some(&INTEGER) => Form::Pkcs1,
        Some(&SEQUENCE) => Form::Pkcs8,
        Some(&OCTETS) => Form::Sec1,
        _ => return unread("such a structure"),
    };
    Ok((form, *version, elements))
}

/// A key of this structure.
fn of_form(bytes: &[u8], wanted: Form) -> Result<(u8, Elements<'_>), Failure> {
    let (form, version, elements) = structure(bytes)?;
    if form == wanted { Ok((version, elements)) } else { Err(refused()) }
}

/// Of any of the three structures.
pub(super) fn any(call: &mut Call, bytes: &[u8]) -> Result<PrivateKey, Failure> {
    match structure(bytes)?.0 {
        Form::Pkcs1 => pkcs1(call, bytes),
        Form::Pkcs8 => pkcs8(call, bytes),
        Form::Sec1 => sec1(call, None, bytes),
    }
}

/// A number that is positive, in the fewest bytes.
fn positive(elements: &mut Elements<'_>) -> Result<BigUint, Failure> {
    match unclear(elements.read(INTEGER))? {
        [] | [0x80..=0xff, ..] | [0] | [0, 0..=0x7f, ..] => unread("such numbers"),
        bytes => Ok(BigUint::from_bytes_be(bytes)),
    }
}

#[allow(clippy::many_single_char_names, reason = "RFC 8017 names the numbers so")]
fn pkcs1(call: &mut Call, bytes: &[u8]) -> Result<PrivateKey, Failure> {
    let (version, mut elements) = of_form(bytes, Form::Pkcs1)?;
    if version > 1 {
        return Err(refused());
    }
    let mut number = || positive(&mut elements);
    let (n, e, d) = (number()?, number()?, number()?);
    let (p, q) = (number()?, number()?);
    if !elements.has(INTEGER) {
        return unread("primes alone");
    }
    let mut number = || positive(&mut elements);
    let (dp, dq, qi) = (number()?, number()?, number()?);
    if !elements.is_empty() {
        return unread("more than two primes");
    }
    if !RSA_BITS.contains(&n.bits()) {
        return unread("fewer than 512 bits, or more than 8192");
    }
    call.take(STEPS)?;
    let key = Rsa { n, e, d, p, q, dp, dq, qi };
    if key.is_whole()? { Ok(PrivateKey::Rsa(Box::new(key))) } else { Err(refused()) }
}

impl Rsa {
    /// Whether the numbers fit together (Go's `crypto/internal/fips140/rsa`, `checkPrivateKey`). Go does not ask whether the factors are primes.
    #[allow(clippy::many_single_char_names, reason = "RFC 8017 names the numbers so")]
    fn is_whole(&self) -> Result<bool, Failure> {
        let Self { n, e, d, p, q, dp, dq, qi } = self;
        let one = BigUint::from(1_u32);
        let are_longer = [d, dp, dq, qi].iter().any(|number| number.bits() > n.bits());
        // What is multiplied is bounded before.
        if are_longer || p.bits().saturating_add(q.bits()) > n.bits().saturating_add(1) {
            return unread("such primes");
        }
        let product = p * q;
        // Go takes every multiple of the modulus for it.
        let is_other = product != *n && &product % n == BigUint::ZERO;
        if is_other || !p.bit(0) || !q.bit(0) || p.bits() < 64 || q.bits() < 64 {
            return unread("such primes");
        }
        let is_exponent =
            e.bit(0) && (BigUint::from(2_u32)..=BigUint::from(i32::MAX.unsigned_abs())).contains(e);
        let (less_p, less_q) = (p - &one, q - &one);
        let distance = if p > q { p - q } else { q - p };
        let half = n.bits() / 2;
        Ok(product == *n
            && is_exponent
            && dp < &less_p
            && dq < &less_q
            && e * dp % &less_p == one
            && e * dq % &less_q == one
            && qi < p
            && q * qi % p == one
            && d < n
            && d % &less_p == *dp
            && d % &less_q == *dq
            && distance.bits() > half.saturating_sub(100)
            && d.bits() > half)
    }
}

fn pkcs8(call: &mut Call, bytes: &[u8]) -> Result<PrivateKey, Failure> {
    let (_, mut elements) = of_form(bytes, Form::Pkcs8)?;
    let mut algorithm = Elements::of(unclear(elements.read(SEQUENCE))?);
    let kind = unclear(algorithm.read(IDENTIFIER).and_then(identifier))?;
    let key = unclear(elements.read(OCTETS))?;
    match kind.as_slice() {
        [1, 2, 840, 113_549, 1, 1, 1] if matches!(algorithm.rest(), [] | [0x05, 0]) => pkcs1(call, key),
        [1, 2, 840, 10_045, 2, 1] => match algorithm.read(IDENTIFIER) {
            Ok(curve) if algorithm.is_empty() => sec1(call, Some(curve), key),
            _ => unread("no name of its curve alone"),
        },
        [1, 3, 101, 112] => {
            let seed = match element(key) {
                Some((OCTETS, seed, [])) if algorithm.is_empty() => seed,
                _ => return unread("such a structure"),
            };
            call.take(STEPS)?;
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| refused())?;
            Ok(PrivateKey::Ed25519 { seed: seed.into(), public: pair.public_key().as_ref().into() })
        }
        [1, 2, 840, 113_549, 1, 1, 1] => unread("such parameters"),
        [1, 3, 101, 110] => unread("X25519"),
        _ => Err(refused()),
    }
}

/// On the curve that the structure around it names, or else the one that it names itself.
fn sec1(call: &mut Call, curve: Option<&[u8]>, bytes: &[u8]) -> Result<PrivateKey, Failure> {
    let (version, mut elements) = of_form(bytes, Form::Sec1)?;
    if version != 1 {
        return Err(refused());
    }
    let number = unclear(elements.read(OCTETS))?;
    let mut own = None;
    if elements.has(0xa0) {
        let inner = unclear(elements.read(0xa0))?;
        own = Some(unclear(Elements::of(inner).read(IDENTIFIER))?);
    }
    // Go does not use the public key, but it reads it.
    let is_whole =
        !elements.has(0xa1) || matches!(element(unclear(elements.read(0xa1))?), Some((0x03, [0, ..], [])));
    if !is_whole || !elements.is_empty() {
        return unread("such a public key beside it");
    }
    let Some(curve) = curve.or(own) else { return Err(refused()) };
    let name = unclear(identifier(curve))?;
    if name == [1, 3, 132, 0, 33] {
        return unread("P-224");
    }
    let dotted: Vec<String> = name.iter().map(i64::to_string).collect();
    let curve = Curve::of_identifier(&dotted.join(".")).ok_or_else(refused)?;
    // Zeros before it may be too many, or missing.
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = number.get(first..).unwrap_or_default();
    let padding = curve.length().checked_sub(number.len()).ok_or_else(refused)?;
    let number = [&*vec![0; padding], number].concat();
    call.take(STEPS)?;
    let point = point_of(curve, &number).ok_or_else(refused)?;
    Ok(PrivateKey::Curve { curve, number, point })
}

fn number(number: &BigUint) -> Value {
    Value::Number(Number::from_big(&BigInt::from_biguint(Sign::Plus, number.clone())))
}

fn number_of(bytes: &[u8]) -> Value {
    number(&BigUint::from_bytes_be(bytes))
}

/// The two numbers of an uncompressed point.
fn coordinates(point: &[u8]) -> (&[u8], &[u8]) {
    let both = point.get(1..).unwrap_or_default();
    both.split_at_checked(both.len() / 2).unwrap_or_default()
}

impl PrivateKey {
    /// As Go writes its structure in JSON.
    pub fn value(&self) -> Value {
        match self {
            Self::Rsa(rsa) => {
                let precomputed = [
                    ("CRTValues", Value::Array(Vec::new())),
                    ("Dp", number(&rsa.dp)),
                    ("Dq", number(&rsa.dq)),
                    ("Qinv", number(&rsa.qi)),
                ];
                call::object([
                    ("D", number(&rsa.d)),
                    ("E", number(&rsa.e)),
                    ("N", number(&rsa.n)),
                    ("Precomputed", call::object(precomputed)),
                    ("Primes", Value::Array(vec![number(&rsa.p), number(&rsa.q)])),
                ])
            }
            Self::Curve { number, point, .. } => {
                let (x, y) = coordinates(point);
                let curve = call::object([]);
                let members =
                    [("Curve", curve), ("D", number_of(number)), ("X", number_of(x)), ("Y", number_of(y))];
                call::object(members)
            }
            Self::Ed25519 { seed, public } => super::encoded(&[&**seed, &**public].concat()),
        }
    }

    /// As a JSON Web Key (RFC 7518, section 6; RFC 8037).
    fn web_key(&self) -> Value {
        let text = |bytes: &[u8]| Value::String(URL_SAFE_NO_PAD.encode(bytes));
        match self {
            Self::Rsa(rsa) => {
                let number = |number: &BigUint| text(&number.to_bytes_be());
                call::object([
                    ("d", number(&rsa.d)),
                    ("dp", number(&rsa.dp)),
                    ("dq", number(&rsa.dq)),
                    ("e", number(&rsa.e)),
                    ("kty", Value::text("RSA")),
                    ("n", number(&rsa.n)),
                    ("p", number(&rsa.p)),
                    ("q", number(&rsa.q)),
                    ("qi", number(&rsa.qi)),
                ])
            }
            Self::Curve { curve, number, point } => {
                let (x, y) = coordinates(point);
                call::object([
                    ("crv", Value::text(curve.name())),
                    ("d", text(number)),
                    ("kty", Value::text("EC")),
                    ("x", text(x)),
                    ("y", text(y)),
                ])
            }
            Self::Ed25519 { seed, public } => call::object([
                ("crv", Value::text("Ed25519")),
                ("d", text(seed)),
                ("kty", Value::text("OKP")),
                ("x", text(public)),
            ]),
        }
    }
}
