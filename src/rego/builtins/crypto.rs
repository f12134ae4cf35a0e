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

fn code<M: Mac + KeyInit>(operands: Operands<'_>) -> Outcome {
    let (message, key) = (operands.text(0)?, operands.text(1)?);
    let mut code = <M as KeyInit>::new_from_slice(key.as_bytes())
        .map_err(|error| Failure::Error(format!("the key is refused: {error}")))?;
    code.update(message.as_bytes());
    Ok(Value::String(hex(&code.finalize().into_bytes())))
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

/// Compares in constant time.
pub(super) fn hmac_equal(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (a, b) = (operands.text(0)?.as_bytes(), operands.text(1)?.as_bytes());
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    Ok(Value::Bool(a.len() == b.len() && difference == 0))
}
