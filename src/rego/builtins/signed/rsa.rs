//! Verifies RSA signatures of keys of any size (RFC 8017, sections 8.1.2 and 8.2.2), as Go's `crypto/rsa` does. Nothing here is secret.

use num_bigint::BigUint;
use sha2_for_hmac::Digest;

use crate::rego::failure::Failure;

/// Smallest key, in bits: a signature by a smaller one is never right in Go.
const LEAST_BITS: u64 = 1024;
/// Largest key, in bits: a larger one would take long.
const MOST_BITS: u64 = 8192;
/// Largest exponent: larger ones are not right in Go.
const MOST_EXPONENT: u32 = i32::MAX.unsigned_abs();

/// A modulus and an exponent.
type Key<'a> = (&'a BigUint, &'a BigUint);

/// The message that was signed, as long as the modulus; `None` for what is no signature by this key.
fn recovered((modulus, exponent): Key<'_>, signature: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    if modulus.bits() > MOST_BITS {
        return Err(Failure::Halt(format!("the gate takes no RSA keys of more than {MOST_BITS} bits")));
    }
    let length = length_of(modulus);
    let number = BigUint::from_bytes_be(signature);
    let is_key = modulus.bits() >= LEAST_BITS
        && modulus.bit(0)
        && exponent.bit(0)
        && (BigUint::from(3_u32)..=BigUint::from(MOST_EXPONENT)).contains(exponent);
    if !is_key || signature.len() != length || number >= *modulus {
        return Ok(None);
    }
    let bytes = number.modpow(exponent, modulus).to_bytes_be();
    let padding = vec![0; length.saturating_sub(bytes.len())];
    Ok(Some([padding, bytes].concat()))
}

fn length_of(modulus: &BigUint) -> usize {
    usize::try_from(modulus.bits().div_ceil(8)).unwrap_or(usize::MAX)
}

/// RSASSA-PKCS1-v1_5.
pub(super) fn pkcs1<D: Digest>(key: Key<'_>, signed: &[u8], signature: &[u8]) -> Result<bool, Failure> {
    let Some(found) = recovered(key, signature)? else { return Ok(false) };
    let digest = D::digest(signed);
    // The algorithm of the digest in DER: they differ in one number (RFC 8017, section 9.2, note 1).
    let (length, number) = match digest.len() {
        32 => (0x20, 1),
        48 => (0x30, 2),
        _ => (0x40, 3),
    };
    let algorithm = [
        0x30,
        length + 0x11,
        0x30,
        0x0d,
        0x06,
        0x09,
        0x60,
        0x86,
        0x48,
        0x01,
        0x65,
        0x03,
        0x04,
        0x02,
        number,
        0x05,
        0x00,
        0x04,
        length,
    ];
    let padding = found.len().saturating_sub(algorithm.len() + digest.len() + 3);
    let wanted = [&[0, 1], &*vec![0xff; padding], &[0], &algorithm, &digest].concat();
    Ok(padding >= 8 && found == wanted)
}

/// RSASSA-PSS with the same digest in both places, and a salt of any length or one as long as the digest.
pub(super) fn pss<D: Digest>(
    key: Key<'_>,
    signed: &[u8],
    signature: &[u8],
    any_salt: bool,
) -> Result<bool, Failure> {
    let Some(found) = recovered(key, signature)? else { return Ok(false) };
    let bits = key.0.bits().saturating_sub(1);
    Ok(is_encoded::<D>(&found, bits, signed, any_salt).unwrap_or(false))
}

/// Section 9.1.2. `None` where it is too short.
fn is_encoded<D: Digest>(found: &[u8], bits: u64, signed: &[u8], any_salt: bool) -> Option<bool> {
    let length = usize::try_from(bits.div_ceil(8)).ok()?;
    let (surplus, encoded) = found.split_at_checked(found.len().checked_sub(length)?)?;
    let digest = D::digest(signed);
    let (&last, rest) = encoded.split_last()?;
    let (masked, hash) = rest.split_at_checked(rest.len().checked_sub(digest.len())?)?;
    let mask = 0xff_u8
        .checked_shr(u32::try_from(length.checked_mul(8)?).ok()?.checked_sub(u32::try_from(bits).ok()?)?)?;
    let (&first, _) = masked.split_first()?;
    if last != 0xbc || first & !mask != 0 || surplus.iter().any(|byte| *byte != 0) {
        return Some(false);
    }
    let mut block: Vec<u8> = masked.iter().zip(stream::<D>(hash)).map(|(byte, mask)| byte ^ mask).collect();
    *block.first_mut()? &= mask;
    // Zeros, a one, and the salt.
    let one = block.iter().position(|byte| *byte != 0)?;
    let (&mark, salt) = block.get(one..)?.split_first()?;
    let is_as_long = any_salt || salt.len() == digest.len();
    let again = D::new().chain_update([0; 8]).chain_update(digest).chain_update(salt).finalize();
    Some(mark == 1 && is_as_long && again.as_slice() == hash)
}

/// MGF1 of a seed (appendix B.2.1), without end.
fn stream<D: Digest>(seed: &[u8]) -> impl Iterator<Item = u8> {
    (0..=u32::MAX).flat_map(move |counter| {
        D::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize().to_vec()
    })
}
