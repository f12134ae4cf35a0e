//! `crypto.x509.parse_certificate_request`: a request (RFC 2986) as Go writes its structure in JSON (`crypto/x509.CertificateRequest`).

use std::collections::BTreeMap;

use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::der::{self, Elements, element, encoded, identifier, malformed, numbers};
use super::{base64, extensions, name, public_key, signature_kind, structure};
use crate::rego::builtins::signed::{Blocks, of_info};
use crate::rego::call::{self, Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const IDENTIFIER: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
/// The extensions that are asked for (`extensionRequest`).
const EXTENSIONS: &[i64] = &[1, 2, 840, 113_549, 1, 9, 14];
/// `unstructuredName` and `challengePassword`, which Go leaves out.
const LEFT_OUT: [&[i64]; 2] = [&[1, 2, 840, 113_549, 1, 9, 2], &[1, 2, 840, 113_549, 1, 9, 7]];
const ALTERNATIVE_NAMES: &[i64] = &[2, 5, 29, 17];
/// Extensions of a request that are read.
const MAX_EXTENSIONS: usize = 64;

fn unread<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Halt(format!("a certificate request with {what} is not read here")))
}

pub(in crate::rego::builtins) fn parse_request(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?;
    call.take(text.len() / 4)?;
    if text.starts_with(BEGIN) {
        return request(&first_block(text)?);
    }
    let bytes = base64(text)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains(super::BEGIN) => request(&first_block(text)?),
        _ => request(&bytes),
    }
}

fn first_block(text: &str) -> Result<Vec<u8>, Failure> {
    match (Blocks { rest: text }).next() {
        Some(Ok(("CERTIFICATE REQUEST", bytes))) => Ok(bytes),
        Some(Ok(_)) => Failure::error("invalid PEM-encoded certificate signing request"),
        Some(Err(failure)) => Err(failure),
        None => Err(malformed()),
    }
}

/// The next element with its tag and length, which has this tag.
fn whole<'a>(elements: &mut Elements<'a>, tag: u8) -> Result<&'a [u8], Failure> {
    let before = elements.rest();
    elements.read(tag)?;
    Ok(before.get(..before.len().saturating_sub(elements.rest().len())).unwrap_or_default())
}

/// Go's reader passes over some of what is not right in a structure, and not over the rest.
fn request(raw: &[u8]) -> Outcome {
    match (read(raw), raw) {
        (Err(Failure::Error(_)), [SEQUENCE, ..]) => unread("such a structure"),
        (other, _) => other,
    }
}

fn read(raw: &[u8]) -> Outcome {
    let Some((SEQUENCE, content, [])) = element(raw) else { return Err(malformed()) };
    let mut outer = Elements::of(content);
    let signed = whole(&mut outer, SEQUENCE)?;
    let algorithm = whole(&mut outer, SEQUENCE)?;
    let Some((0, signature)) = outer.read(0x03)?.split_first() else { return unread("such a signature") };
    let mut inner = Elements::within(signed, SEQUENCE)?;
    let version = match inner.read(INTEGER)? {
        [version @ ..=0x7f] => i64::from(*version),
        _ => return unread("such a version"),
    };
    let subject = whole(&mut inner, SEQUENCE)?;
    let info = whole(&mut inner, SEQUENCE)?;
    let asked = attributes(inner.read(0xa0)?)?;
    if !inner.is_empty() || !outer.is_empty() {
        return unread("more at its end");
    }
    let (key_kind, key) = key(info)?;
    let Ok(([], algorithm)) = AlgorithmIdentifier::from_der(algorithm) else {
        return unread("such an algorithm");
    };
    let mut members = asked.members()?;
    members.extend([
        ("PublicKey", key),
        ("PublicKeyAlgorithm", Value::int(key_kind)),
        ("Raw", encoded(raw)),
        ("RawSubject", encoded(subject)),
        ("RawSubjectPublicKeyInfo", encoded(info)),
        ("RawTBSCertificateRequest", encoded(signed)),
        ("Signature", encoded(signature)),
        ("SignatureAlgorithm", Value::int(signature_kind(&algorithm)?)),
        ("Subject", name(subject, text)?),
        ("Version", Value::int(version)),
    ]);
    Ok(call::object(members))
}

/// A text of a name. Go reads requests by another reader than certificates, which takes the bytes of old texts as they are.
fn text(tag: u8, bytes: &[u8]) -> Result<String, Failure> {
    if tag == 0x14 && !bytes.is_ascii() { unread("such a text") } else { der::text(tag, bytes) }
}

fn key(info: &[u8]) -> Result<(i64, Value), Failure> {
    structure::key(Elements::of(info).read(SEQUENCE)?)?;
    let Ok(([], info)) = SubjectPublicKeyInfo::from_der(info) else { return unread("such a key") };
    public_key(&of_info(&info, true)?)
}

/// What is asked for.
#[derive(Default)]
struct Asked<'a> {
    attributes: Vec<Value>,
    /// Id, whether it is critical, and value.
    extensions: Vec<(Vec<i64>, bool, &'a [u8])>,
}

fn attributes(bytes: &[u8]) -> Result<Asked<'_>, Failure> {
    let (mut all, mut asked) = (Elements::of(bytes), Asked::default());
    while !all.is_empty() {
        let mut attribute = Elements::of(all.read(SEQUENCE)?);
        let id = identifier(attribute.read(IDENTIFIER)?)?;
        let mut values = Elements::of(attribute.read(SET)?);
        if values.is_empty() || !attribute.is_empty() {
            return unread("such attributes");
        }
        // Texts are no lists of values, so Go passes over them.
        if LEFT_OUT.contains(&id.as_slice()) && !values.has(SEQUENCE) {
            continue;
        }
        if id != EXTENSIONS {
            return unread("other attributes");
        }
        let extensions = extensions_of(values.read(SEQUENCE)?)?;
        if !values.is_empty() {
            return unread("several lists of extensions");
        }
        asked.attributes.push(attribute_value(&extensions));
        asked.extensions.extend(extensions);
        if asked.extensions.len() > MAX_EXTENSIONS {
            return unread("more than 64 extensions");
        }
    }
    Ok(asked)
}

/// The identifier of an extension, whether it is critical, and its value.
type Extension<'a> = (Vec<i64>, bool, &'a [u8]);

fn extensions_of(bytes: &[u8]) -> Result<Vec<Extension<'_>>, Failure> {
    let (mut all, mut extensions) = (Elements::of(bytes), Vec::<Extension<'_>>::new());
    while !all.is_empty() {
        let mut extension = Elements::of(all.read(SEQUENCE)?);
        let id = identifier(extension.read(IDENTIFIER)?)?;
        let is_critical = match extension.has(BOOLEAN).then(|| extension.read(BOOLEAN)).transpose()? {
            // What is not critical says nothing of it: Go's attribute would have `false` for its value.
            Some([0xff]) => true,
            Some(_) => return unread("such an extension"),
            None => false,
        };
        let value = extension.read(OCTETS)?;
        if !extension.is_empty() {
            return unread("such an extension");
        }
        if extensions.iter().any(|(other, ..)| *other == id) {
            return Failure::error("x509: certificate request contains duplicate requested extensions");
        }
        extensions.push((id, is_critical, value));
    }
    Ok(extensions)
}

/// The extensions as Go reads them for a list of pairs: of a critical one, the value is that it is critical.
fn attribute_value(extensions: &[(Vec<i64>, bool, &[u8])]) -> Value {
    let pair = |(id, is_critical, value): &(Vec<i64>, bool, &[u8])| {
        let value = if *is_critical { Value::Bool(true) } else { encoded(value) };
        call::object([("Type", numbers(id)), ("Value", value)])
    };
    let list = Value::Array(vec![Value::Array(extensions.iter().map(pair).collect())]);
    call::object([("Type", numbers(EXTENSIONS)), ("Value", list)])
}

impl Asked<'_> {
    fn members(&self) -> Result<BTreeMap<&'static str, Value>, Failure> {
        let mut found = extensions::Found::default();
        let mut seen = Vec::new();
        for (id, is_critical, value) in &self.extensions {
            if seen.contains(&id) {
                return Failure::error("x509: certificate request contains duplicate requested extensions");
            }
            if id == ALTERNATIVE_NAMES {
                extensions::names(value, &mut found)?;
            }
            seen.push(id);
            let members =
                [("Critical", Value::Bool(*is_critical)), ("Id", numbers(id)), ("Value", encoded(value))];
            found.push("Extensions", call::object(members));
        }
        let mut members = found.members;
        members.remove("URIStrings");
        for list in ["DNSNames", "EmailAddresses", "Extensions", "ExtraExtensions", "IPAddresses", "URIs"] {
            members.entry(list).or_insert(Value::Null);
        }
        let attributes = self.attributes.clone();
        let attributes = if attributes.is_empty() { Value::Null } else { Value::Array(attributes) };
        members.insert("Attributes", attributes);
        Ok(members)
    }
}
