//! `crypto.x509.…`: certificates as Go writes its structure in JSON (`crypto/x509.Certificate` of Go 1.26, to which OPA adds `URIStrings`),
//! whether they are a chain, requests and private keys. What is rare in a certificate, and what Go may read in another way, ends the
//! evaluation.

mod chain;
mod der;
mod extensions;
mod hosts;
mod pair;
mod private;
mod request;
mod structure;

use std::collections::BTreeMap;

use base64::Engine as _;
use jiff::Timestamp;
use num_bigint::BigInt;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::AlgorithmIdentifier;

pub(super) use chain::{verify, verify_with_options};
use der::{Elements, element, encoded, identifier, malformed, numbers, unread};
pub(super) use pair::parse_pair;
pub(super) use private::{parse_first_private_key, parse_private_keys};
pub(super) use request::parse_request;

use super::signed::{PublicKey, STANDARD, blocks, of_info};
use crate::rego::call::{self, Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::number::Number;
use crate::rego::value::Value;

const BEGIN: &str = "-----BEGIN";
/// Members that are lists, and `null` where nothing is in them.
const LISTS: [&str; 26] = [
    "AuthorityKeyId",
    "CRLDistributionPoints",
    "DNSNames",
    "EmailAddresses",
    "ExcludedDNSDomains",
    "ExcludedEmailAddresses",
    "ExcludedIPRanges",
    "ExcludedURIDomains",
    "ExtKeyUsage",
    "Extensions",
    "ExtraExtensions",
    "IPAddresses",
    "IssuingCertificateURL",
    "OCSPServer",
    "PermittedDNSDomains",
    "PermittedEmailAddresses",
    "PermittedIPRanges",
    "PermittedURIDomains",
    "Policies",
    "PolicyIdentifiers",
    "PolicyMappings",
    "SubjectKeyId",
    "URIStrings",
    "URIs",
    "UnhandledCriticalExtensions",
    "UnknownExtKeyUsage",
];
/// Members that are false where nothing says otherwise.
const FLAGS: [&str; 7] = [
    "BasicConstraintsValid",
    "InhibitAnyPolicyZero",
    "InhibitPolicyMappingZero",
    "IsCA",
    "MaxPathLenZero",
    "PermittedDNSDomainsCritical",
    "RequireExplicitPolicyZero",
];
/// Members that are zero where nothing says otherwise.
const COUNTS: [&str; 5] =
    ["InhibitAnyPolicy", "InhibitPolicyMapping", "KeyUsage", "MaxPathLen", "RequireExplicitPolicy"];

pub(super) fn parse(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let bytes = contents(call, operands.text(0)?)?;
    Ok(Value::Array(certificates(&bytes)?.iter().map(Certificate::value).collect()))
}

/// The bytes of the certificates of a text, in PEM, in Base64, or in both.
fn contents(call: &mut Call, text: &str) -> Result<Vec<u8>, Failure> {
    call.take(text.len() / 4)?;
    if text.starts_with(BEGIN) {
        return blocks(text, "CERTIFICATE");
    }
    let bytes = base64(text)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.starts_with(BEGIN) => blocks(text, "CERTIFICATE"),
        _ => Ok(bytes),
    }
}

/// Base64 with its padding, in any number of lines.
fn base64(text: &str) -> Result<Vec<u8>, Failure> {
    let encoded: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    STANDARD.decode(encoded).map_err(|_| Failure::Error("illegal base64 data".into()))
}

/// The certificates that lie one behind the other.
fn certificates(bytes: &[u8]) -> Result<Vec<Certificate<'_>>, Failure> {
    let (mut rest, mut certificates) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (tag, _, behind) = element(rest).ok_or_else(malformed)?;
        let raw = rest.get(..rest.len().saturating_sub(behind.len())).unwrap_or_default();
        if tag != 0x30 {
            return Err(malformed());
        }
        certificates.push(Certificate::read(raw)?);
        rest = behind;
    }
    Ok(certificates)
}

/// A certificate.
struct Certificate<'a> {
    raw: &'a [u8],
    parsed: X509Certificate<'a>,
    key: PublicKey,
    /// The number of its signature's algorithm (`SignatureAlgorithm`).
    algorithm: i64,
    /// What Go's structure has, by Go's names.
    members: BTreeMap<&'static str, Value>,
}

impl<'a> Certificate<'a> {
    fn read(raw: &'a [u8]) -> Result<Self, Failure> {
        structure::check(raw)?;
        let Ok(([], parsed)) = X509Certificate::from_der(raw) else { return unread("such a structure") };
        let inner = &parsed.tbs_certificate;
        let serial = BigInt::from_signed_bytes_be(inner.raw_serial());
        if serial < BigInt::ZERO {
            return Failure::error("x509: negative serial number");
        }
        if inner.issuer_uid.is_some() || inner.subject_uid.is_some() {
            return unread("unique identifiers");
        }
        if !parsed.extensions().is_empty() && inner.version.0 != 2 {
            return unread("extensions in an old version");
        }
        let key = of_info(parsed.public_key(), true)?;
        let (key_kind, key_value) = public_key(&key)?;
        let algorithm = signature_kind(&inner.signature)?;
        let mut members = extensions::read(parsed.extensions())?.members;
        add_missing(&mut members);
        members.extend([
            ("Issuer", name(inner.issuer.as_raw(), der::text)?),
            ("NotAfter", time(inner.validity.not_after)?),
            ("NotBefore", time(inner.validity.not_before)?),
            ("PublicKey", key_value),
            ("PublicKeyAlgorithm", Value::int(key_kind)),
            ("Raw", encoded(raw)),
            ("RawIssuer", encoded(inner.issuer.as_raw())),
            ("RawSubject", encoded(inner.subject.as_raw())),
            ("RawSubjectPublicKeyInfo", encoded(parsed.public_key().raw)),
            ("RawTBSCertificate", encoded(inner.as_ref())),
            ("SerialNumber", Value::Number(Number::from_big(&serial))),
            ("Signature", encoded(&parsed.signature_value.data)),
            ("SignatureAlgorithm", Value::int(algorithm)),
            ("Subject", name(inner.subject.as_raw(), der::text)?),
            ("Version", Value::int(i64::from(inner.version.0) + 1)),
        ]);
        Ok(Self { raw, parsed, key, algorithm, members })
    }

    /// The structure with what OPA adds.
    fn value(&self) -> Value {
        call::object(self.members.iter().map(|(name, value)| (*name, value.clone())))
    }

    /// The structure as Go has it.
    fn plain_value(&self) -> Value {
        let own = self.members.iter().filter(|(name, _)| **name != "URIStrings");
        call::object(own.map(|(name, value)| (*name, value.clone())))
    }
}

fn add_missing(members: &mut BTreeMap<&'static str, Value>) {
    for (names, default) in
        [(&LISTS[..], Value::Null), (&FLAGS[..], Value::Bool(false)), (&COUNTS[..], Value::int(0))]
    {
        for name in names {
            members.entry(name).or_insert_with(|| default.clone());
        }
    }
}

fn time(time: ASN1Time) -> Outcome {
    match Timestamp::from_second(time.timestamp()) {
        Ok(time) => Ok(Value::String(time.to_string())),
        Err(_) => unread("such a time"),
    }
}

/// The number of a key's kind (`PublicKeyAlgorithm`), and the key.
fn public_key(key: &PublicKey) -> Result<(i64, Value), Failure> {
    let number =
        |bytes: &[u8]| Value::Number(Number::from_big(&BigInt::from_bytes_be(num_bigint::Sign::Plus, bytes)));
    Ok(match key {
        PublicKey::Rsa { modulus, exponent } => {
            let members = [("E", number(&exponent.to_bytes_be())), ("N", number(&modulus.to_bytes_be()))];
            (1, call::object(members))
        }
        PublicKey::Curve(_, point) => {
            let coordinates = point.get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
            let curve = call::object([]);
            (3, call::object([("Curve", curve), ("X", number(x)), ("Y", number(y))]))
        }
        PublicKey::Ed25519(bytes) => (4, encoded(bytes)),
        _ => return unread("a key of another kind than RSA, P-256, P-384, P-521 and Ed25519"),
    })
}

/// The number of an algorithm (`SignatureAlgorithm`).
fn signature_kind(algorithm: &AlgorithmIdentifier<'_>) -> Result<i64, Failure> {
    let has_parameters = algorithm.parameters().is_some_and(|any| any.as_null().is_err());
    Ok(match identifier(algorithm.oid().as_bytes())?.as_slice() {
        _ if has_parameters => return unread("parameters of its signature"),
        [1, 2, 840, 113_549, 1, 1, 4] => 2,
        [1, 2, 840, 113_549, 1, 1, 5] | [1, 3, 14, 3, 2, 29] => 3,
        [1, 2, 840, 113_549, 1, 1, 11] => 4,
        [1, 2, 840, 113_549, 1, 1, 12] => 5,
        [1, 2, 840, 113_549, 1, 1, 13] => 6,
        [1, 2, 840, 10_045, 4, 1] => 9,
        [1, 2, 840, 10_045, 4, 3, 2] => 10,
        [1, 2, 840, 10_045, 4, 3, 3] => 11,
        [1, 2, 840, 10_045, 4, 3, 4] => 12,
        [1, 3, 101, 112] => 16,
        _ => return unread("a signature of this kind"),
    })
}

/// A name (`crypto/x509/pkix.Name`), whose texts are read by `text`.
fn name(raw: &[u8], text: fn(u8, &[u8]) -> Result<String, Failure>) -> Outcome {
    let mut lists: [(i64, &str, Vec<Value>); 7] = [
        (6, "Country", Vec::new()),
        (7, "Locality", Vec::new()),
        (8, "Province", Vec::new()),
        (9, "StreetAddress", Vec::new()),
        (10, "Organization", Vec::new()),
        (11, "OrganizationalUnit", Vec::new()),
        (17, "PostalCode", Vec::new()),
    ];
    let (mut common, mut serial, mut all) = (String::new(), String::new(), Vec::new());
    let mut sets = Elements::within(raw, 0x30)?;
    while !sets.is_empty() {
        let mut attributes = Elements::of(sets.read(0x31)?);
        while !attributes.is_empty() {
            let mut attribute = Elements::of(attributes.read(0x30)?);
            let id = identifier(attribute.read(0x06)?)?;
            let (tag, bytes) = attribute.any()?;
            let text = text(tag, bytes)?;
            all.push(call::object([("Type", numbers(&id)), ("Value", Value::text(text.as_str()))]));
            match id.as_slice() {
                [2, 5, 4, 3] => common = text,
                [2, 5, 4, 5] => serial = text,
                [2, 5, 4, kind] => {
                    if let Some((_, _, list)) = lists.iter_mut().find(|(known, ..)| known == kind) {
                        list.push(Value::String(text));
                    }
                }
                _ => {}
            }
        }
    }
    let list = |items: Vec<Value>| if items.is_empty() { Value::Null } else { Value::Array(items) };
    let named = lists.into_iter().map(|(_, name, items)| (name, list(items)));
    Ok(call::object(named.chain([
        ("CommonName", Value::String(common)),
        ("ExtraNames", Value::Null),
        ("Names", list(all)),
        ("SerialNumber", Value::String(serial)),
    ])))
}
