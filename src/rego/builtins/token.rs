//! `io.jwt.decode`, and the verification of tokens that are signed with a shared secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2_for_hmac::{Sha256, Sha384, Sha512};

use super::crypto::{code_of, is_equal};
use super::encoding::{base64url, hex};
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::json;
use crate::rego::value::Value;

/// Nesting depth of tokens.
pub(in crate::rego::builtins) const MAX_NESTED: usize = 8;

pub(in crate::rego::builtins) fn parts(token: &str) -> Result<[&str; 3], Failure> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => Ok([header, payload, signature]),
        _ => Failure::error("encoded JWT must have 3 parts"),
    }
}

/// A part that holds a JSON object.
pub(in crate::rego::builtins) fn object(part: &str, what: &str) -> Result<Value, Failure> {
    match json::parse(&text_of(&base64url(part)?)) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Err(Failure::Halt(reason)) => Err(Failure::Halt(reason)),
        _ => Failure::error(format!("invalid JWT {what}")),
    }
}

/// As Go reads a text of JSON: each byte that is no UTF-8 is U+FFFD.
pub(in crate::rego::builtins) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

pub(in crate::rego::builtins) fn header(part: &str) -> Result<Value, Failure> {
    let header = object(part, "header")?;
    if header.get("enc").is_some() {
        return Failure::error("JWT is a JWE object, which is not supported");
    }
    Ok(header)
}

pub(super) fn decode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let mut token = operands.text(0)?.to_string();
    for _ in 0..MAX_NESTED {
        let [head, payload, signature] = parts(&token)?;
        let head = header(head)?;
        let nested = match head.get("cty") {
            None => false,
            Some(Value::String(kind)) => kind == "JWT",
            Some(_) => return Failure::error("the content type of the JWT is not a string"),
        };
        if !nested {
            let signature = Value::String(hex(&base64url(signature)?));
            return Ok(Value::Array(vec![head, object(payload, "payload")?, signature]));
        }
        let inner = text_of(&base64url(payload)?);
        token = inner.trim_matches(['"', '\'']).to_string();
    }
    Err(Failure::Halt("tokens are nested more deeply than is read here".into()))
}

/// Whatever the header says, as in OPA.
fn verify<M: Mac + KeyInit>(operands: Operands<'_>) -> Outcome {
    let (token, secret) = (operands.text(0)?, operands.text(1)?);
    let [head, payload, signature] = parts(token)?;
    let signature = base64url(signature)?;
    let code = code_of::<M>(secret.as_bytes(), format!("{head}.{payload}").as_bytes())?;
    Ok(Value::Bool(is_equal(&code, &signature)))
}

pub(super) fn verify_hs256(_: &mut Call, operands: Operands<'_>) -> Outcome {
    verify::<Hmac<Sha256>>(operands)
}

pub(super) fn verify_hs384(_: &mut Call, operands: Operands<'_>) -> Outcome {
    verify::<Hmac<Sha384>>(operands)
}

pub(super) fn verify_hs512(_: &mut Call, operands: Operands<'_>) -> Outcome {
    verify::<Hmac<Sha512>>(operands)
}
