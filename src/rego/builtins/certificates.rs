//! `crypto.x509.parse_certificates`: certificates as Go writes its structure in JSON (`crypto/x509.Certificate` of Go 1.26, to which OPA adds
//! `URIStrings`). What is rare in a certificate, and what Go may read in another way, ends the evaluation.

mod der;
mod extensions;
mod structure;

use base64::Engine as _;
use jiff::Timestamp;
use num_bigint::BigInt;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use der::{Elements, element, encoded, identifier, malformed, numbers, unread};

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
    let text = operands.text(0)?;
    call.take(text.len() / 4)?;
    let bytes = if text.starts_with(BEGIN) {
        blocks(text, "CERTIFICATE")?
    } else {
        let encoded: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
        let bytes = STANDARD.decode(encoded).map_err(|_| Failure::Error("illegal base64 data".into()))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.starts_with(BEGIN) => blocks(text, "CERTIFICATE")?,
            _ => bytes,
        }
    };
    let (mut rest, mut certificates) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (tag, _, behind) = element(rest).ok_or_else(malformed)?;
        let raw = rest.get(..rest.len().saturating_sub(behind.len())).unwrap_or_default();
        if tag != 0x30 {
            return Err(malformed());
        }
        certificates.push(certificate(raw)?);
        rest = behind;
    }
    Ok(Value::Array(certificates))
}

fn certificate(raw: &[u8]) -> Outcome {
    structure::check(raw)?;
    let Ok(([], certificate)) = X509Certificate::from_der(raw) else { return unread("such a structure") };
    let inner = &certificate.tbs_certificate;
    let serial = BigInt::from_signed_bytes_be(inner.raw_serial());
    if serial < BigInt::ZERO {
        return Failure::error("x509: negative serial number");
    }
    if inner.issuer_uid.is_some() || inner.subject_uid.is_some() {
        return unread("unique identifiers");
    }
    if !certificate.extensions().is_empty() && inner.version.0 != 2 {
        return unread("extensions in an old version");
    }
    let info = certificate.public_key();
    let (key_kind, key) = public_key(&of_info(info, true)?)?;
    let signature = inner.signature.oid().as_bytes();
    let has_parameters = inner.signature.parameters().is_some_and(|any| any.as_null().is_err());
    let mut members = extensions::read(certificate.extensions())?.members;
    for (names, default) in
        [(&LISTS[..], Value::Null), (&FLAGS[..], Value::Bool(false)), (&COUNTS[..], Value::int(0))]
    {
        for name in names {
            members.entry(name).or_insert_with(|| default.clone());
        }
    }
    members.extend([
        ("Issuer", name(inner.issuer.as_raw())?),
        ("NotAfter", time(inner.validity.not_after)?),
        ("NotBefore", time(inner.validity.not_before)?),
        ("PublicKey", key),
        ("PublicKeyAlgorithm", Value::int(key_kind)),
        ("Raw", encoded(raw)),
        ("RawIssuer", encoded(inner.issuer.as_raw())),
        ("RawSubject", encoded(inner.subject.as_raw())),
        ("RawSubjectPublicKeyInfo", encoded(info.raw)),
        ("RawTBSCertificate", encoded(inner.as_ref())),
        ("SerialNumber", Value::Number(Number::from_big(&serial))),
        ("Signature", encoded(&certificate.signature_value.data)),
        ("SignatureAlgorithm", Value::int(signature_kind(&identifier(signature)?, has_parameters)?)),
        ("Subject", name(inner.subject.as_raw())?),
        ("Version", Value::int(i64::from(inner.version.0) + 1)),
    ]);
    Ok(call::object(members))
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
        _ => return unread("a key of another kind than RSA, P-256, P-384 and Ed25519"),
    })
}

/// The number of an algorithm (`SignatureAlgorithm`).
fn signature_kind(id: &[i64], has_parameters: bool) -> Result<i64, Failure> {
    Ok(match id {
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

/// A name (`crypto/x509/pkix.Name`).
fn name(raw: &[u8]) -> Outcome {
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
            let text = der::text(tag, bytes)?;
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
