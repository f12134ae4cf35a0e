//! The structure of a certificate as strictly as Go reads it (`crypto/x509:parser.go`, `parseCertificate`): what it refuses, another reader may
//! take.

use super::der::{Elements, identifier, malformed, unread};
use crate::rego::failure::Failure;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const IDENTIFIER: u8 = 0x06;
const NULL: u8 = 0x05;
/// `rsaEncryption` and `ecPublicKey`.
const RSA: &[i64] = &[1, 2, 840, 113_549, 1, 1, 1];
const EC: &[i64] = &[1, 2, 840, 10_045, 2, 1];

/// An error where Go has one.
pub(super) fn check(raw: &[u8]) -> Result<(), Failure> {
    let mut outer = Elements::within(raw, SEQUENCE)?;
    let mut inner = Elements::of(outer.read(SEQUENCE)?);
    let signed_by = outer.read(SEQUENCE)?;
    if outer.read(0x03)?.first() != Some(&0) {
        return unread("such a signature");
    }
    if inner.has(0xa0) {
        match Elements::within(inner.read(0xa0)?, INTEGER)?.rest() {
            [0..=2] => {}
            _ => return Err(malformed()),
        }
    }
    integer(inner.read(INTEGER)?)?;
    if inner.read(SEQUENCE)? != signed_by {
        return Failure::error("x509: inner and outer signature algorithm identifiers don't match");
    }
    identifier(Elements::of(signed_by).read(IDENTIFIER)?)?;
    inner.read(SEQUENCE)?;
    let mut validity = Elements::of(inner.read(SEQUENCE)?);
    for _ in 0..2 {
        time(validity.any()?)?;
    }
    inner.read(SEQUENCE)?;
    key(inner.read(SEQUENCE)?)?;
    if inner.has(0xa3) {
        let mut extensions = Elements::within(inner.read(0xa3)?, SEQUENCE)?;
        while !extensions.is_empty() {
            extension(extensions.read(SEQUENCE)?)?;
        }
    }
    // Go does not look at what follows.
    if inner.is_empty() { Ok(()) } else { unread("more than extensions at its end") }
}

fn extension(bytes: &[u8]) -> Result<(), Failure> {
    let mut parts = Elements::of(bytes);
    identifier(parts.read(IDENTIFIER)?)?;
    if parts.has(0x01) && !matches!(parts.read(0x01)?, [0 | 0xff]) {
        return Err(malformed());
    }
    parts.read(0x04).map(drop)
}

/// Digits in the form of their kind, and in UTC.
fn time((tag, bytes): (u8, &[u8])) -> Result<(), Failure> {
    let length = match tag {
        0x17 => 13,
        0x18 => 15,
        _ => return Err(malformed()),
    };
    let Some((b'Z', digits)) = bytes.split_last() else { return Err(malformed()) };
    if bytes.len() == length && digits.iter().all(u8::is_ascii_digit) { Ok(()) } else { Err(malformed()) }
}

/// In the fewest bytes.
fn integer(bytes: &[u8]) -> Result<(), Failure> {
    match bytes {
        [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(malformed()),
        _ => Ok(()),
    }
}

/// Whole bytes.
fn bits(bytes: &[u8]) -> Result<&[u8], Failure> {
    match bytes.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(malformed()),
    }
}

/// A public key: what is within its sequence.
pub(super) fn key(info: &[u8]) -> Result<(), Failure> {
    let mut info = Elements::of(info);
    let mut algorithm = Elements::of(info.read(SEQUENCE)?);
    let bytes = bits(info.read(0x03)?)?;
    let kind = identifier(algorithm.read(IDENTIFIER)?)?;
    if kind == RSA {
        if !algorithm.read(NULL)?.is_empty() {
            return Err(malformed());
        }
        let mut numbers = Elements::within(bytes, SEQUENCE)?;
        for _ in 0..2 {
            let number = numbers.read(INTEGER)?;
            integer(number)?;
            if number.first().is_some_and(|first| *first >= 0x80) || number == [0] {
                return Err(malformed());
            }
        }
    } else if kind == EC {
        identifier(algorithm.read(IDENTIFIER)?)?;
    }
    Ok(())
}
