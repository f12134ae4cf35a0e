//! Digests, codes that prove a message, and certificates as far as they are read.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2_for_hmac::{Digest, Sha256, Sha512};

use super::encoding::hex;
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

fn digest<D: Digest>(operands: Operands<'_>) -> Outcome {
    Ok(Value::String(hex(&D::digest(operands.text(0)?.as_bytes()))))
}

pub(super) fn md5(_: &mut Call, operands: Operands<'_>) -> Outcome {
    digest::<Md5>(operands)
}

pub(super) fn sha1(_: &mut Call, operands: Operands<'_>) -> Outcome {
    digest::<Sha1>(operands)
}

pub(super) fn sha256(_: &mut Call, operands: Operands<'_>) -> Outcome {
    digest::<Sha256>(operands)
}

/// The code of a message by a secret.
pub(super) fn code_of<M: Mac + KeyInit>(secret: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut code = <M as KeyInit>::new_from_slice(secret)
        .map_err(|error| Failure::Error(format!("the secret is refused: {error}")))?;
    code.update(message);
    Ok(code.finalize().into_bytes().to_vec())
}

/// In a time that does not depend on where they differ.
pub(super) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && difference == 0
}

fn code<M: Mac + KeyInit>(operands: Operands<'_>) -> Outcome {
    let (message, key) = (operands.text(0)?, operands.text(1)?);
    Ok(Value::String(hex(&code_of::<M>(key.as_bytes(), message.as_bytes())?)))
}

pub(super) fn hmac_md5(_: &mut Call, operands: Operands<'_>) -> Outcome {
    code::<Hmac<Md5>>(operands)
}

pub(super) fn hmac_sha1(_: &mut Call, operands: Operands<'_>) -> Outcome {
    code::<Hmac<Sha1>>(operands)
}

pub(super) fn hmac_sha256(_: &mut Call, operands: Operands<'_>) -> Outcome {
    code::<Hmac<Sha256>>(operands)
}

pub(super) fn hmac_sha512(_: &mut Call, operands: Operands<'_>) -> Outcome {
    code::<Hmac<Sha512>>(operands)
}

pub(super) fn hmac_equal(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Bool(is_equal(operands.text(0)?.as_bytes(), operands.text(1)?.as_bytes())))
}
