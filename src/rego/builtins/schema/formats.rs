//! The formats that the validator knows (`open-policy-agent/opa:internal/gojsonschema/format_checkers.go`). Others hold always.

use std::net::IpAddr;

use super::super::clock;
use super::super::identity::uri_parts;
use crate::rego::call::Call;
use crate::rego::failure::Failure;

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const TIME: &str = "15:04:05";
const TIME_IN_ZONE: &str = "15:04:05Z07:00";
const DATE: &str = "2006-01-02";
const HOSTNAME: &str = r"^([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])(\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]{0,61}[a-zA-Z0-9]))*$";
const URI_TEMPLATE: &str = "^([^{]*({[^}]*})?)*$";
const UUID: &str = "^(?i)[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$";
const POINTER: &str = "^(?:/(?:[^~/]|~0|~1)*)*$";
const RELATIVE_POINTER: &str = "^(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~0|~1)*)*)$";

/// Whether a text is in a format.
pub(super) fn holds(call: &mut Call, format: &str, text: &str) -> Result<bool, Failure> {
    let any = |layouts: &[&str]| layouts.iter().any(|layout| clock::read(layout, text).is_some());
    call.take(text.len() / 16)?;
    Ok(match format {
        "date" => any(&[DATE]),
        "time" => any(&[TIME_IN_ZONE, TIME]),
        "date-time" => any(&[TIME, TIME_IN_ZONE, DATE, RFC3339]),
        "hostname" => text.len() < 256 && is_match(call, HOSTNAME, text)?,
        "email" | "idn-email" => is_address(text)?,
        "ipv4" => text.parse::<IpAddr>().is_ok() && text.contains('.'),
        "ipv6" => text.parse::<IpAddr>().is_ok() && text.contains(':'),
        "uri" | "iri" => {
            uri_parts(text).is_some_and(|(scheme, _)| !scheme.is_empty()) && !text.contains('\\')
        }
        "uri-reference" | "iri-reference" => uri_parts(text).is_some() && !text.contains('\\'),
        "uri-template" => match uri_parts(text).filter(|_| !text.contains('\\')) {
            Some((_, path)) => is_match(call, URI_TEMPLATE, &path)?,
            None => false,
        },
        "uuid" => is_match(call, UUID, text)?,
        "regex" => match call.expression(text) {
            Ok(_) => true,
            Err(Failure::Halt(reason)) => return Err(Failure::Halt(reason)),
            Err(_) => false,
        },
        "json-pointer" => is_match(call, POINTER, text)?,
        "relative-json-pointer" => is_match(call, RELATIVE_POINTER, text)?,
        _ => true,
    })
}

fn is_match(call: &mut Call, pattern: &str, text: &str) -> Result<bool, Failure> {
    Ok(call.expression(pattern)?.is_match(text.as_bytes()))
}

/// Whether Go's `net/mail` reads it as an address: `name@host` of plain words is one, and what has neither an `@` nor anything that is
/// quoted is none. Names before an address, quotes, comments and other alphabets end the evaluation.
fn is_address(text: &str) -> Result<bool, Failure> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~. @".contains(letter);
    if !text.chars().all(is_plain) {
        return Err(Failure::Halt("an address that is not `name@host` is not read here".into()));
    }
    let is_word = |text: &str| !text.contains(' ') && text.split('.').all(|part| !part.is_empty());
    match text.split_once('@') {
        None => Ok(false),
        Some((name, host)) if is_word(name) && is_word(host) && !host.contains('@') => Ok(true),
        Some((name, host)) if name.is_empty() || host.is_empty() => Ok(false),
        Some(_) => Err(Failure::Halt("an address that is not `name@host` is not read here".into())),
    }
}
