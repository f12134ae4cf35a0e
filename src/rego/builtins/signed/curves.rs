//! Signatures and points on the curves of NIST, with digests of any size. ring has no P-521, and of the others only the digests that it thinks
//! fit the curve; Go takes each digest with each curve.

use p521::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p521::elliptic_curve::sec1::ToSec1Point as _;

use super::keys::Curve;

/// Bytes of a number, with zeros before it where it is shorter; `None` where it is longer.
fn padded(digits: &[u8], length: usize) -> Option<Vec<u8>> {
    let padding = length.checked_sub(digits.len())?;
    Some([&*vec![0; padding], digits].concat())
}

macro_rules! on_curve {
    ($code:ident, $curve:expr, $is_right:ident, $point_of:ident) => {
        fn $is_right(point: &[u8], digest: &[u8], [r, s]: [&[u8]; 2]) -> Option<bool> {
            let length = $curve.length();
            let number = |digits: &[u8]| $code::FieldBytes::try_from(&*padded(digits, length)?).ok();
            let key = $code::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
            let signature = $code::ecdsa::Signature::from_scalars(number(r)?, number(s)?).ok()?;
            // Of a longer digest its first bytes count (SEC 1, section 4.1.4); the library refuses one that is much shorter.
            let digest = padded(digest.get(..length).unwrap_or(digest), length)?;
            Some(key.verify_prehash(&digest, &signature).is_ok())
        }

        fn $point_of(number: &[u8]) -> Option<Vec<u8>> {
            let key = $code::SecretKey::from_slice(&padded(number, $curve.length())?).ok()?;
            Some(key.public_key().to_sec1_point(false).as_bytes().to_vec())
        }
    };
}

on_curve!(p256, Curve::P256, is_right_on_p256, point_on_p256);
on_curve!(p384, Curve::P384, is_right_on_p384, point_on_p384);
on_curve!(p521, Curve::P521, is_right_on_p521, point_on_p521);

/// Whether two numbers, without zeros before them, are the signature of what has this digest, by the key at this point.
pub(super) fn is_right(curve: Curve, point: &[u8], digest: &[u8], numbers: [&[u8]; 2]) -> bool {
    let found = match curve {
        Curve::P256 => is_right_on_p256(point, digest, numbers),
        Curve::P384 => is_right_on_p384(point, digest, numbers),
        Curve::P521 => is_right_on_p521(point, digest, numbers),
    };
    found.unwrap_or(false)
}

/// The public key, uncompressed, of a private one; `None` if it is none of the curve.
pub(in crate::rego::builtins) fn point_of(curve: Curve, number: &[u8]) -> Option<Vec<u8>> {
    match curve {
        Curve::P256 => point_on_p256(number),
        Curve::P384 => point_on_p384(number),
        Curve::P521 => point_on_p521(number),
    }
}

/// A signature by P-521, as two numbers of its length.
pub(super) fn signed_by_p521(number: &[u8], digest: &[u8]) -> Option<Vec<u8>> {
    let key = p521::ecdsa::SigningKey::from_slice(number).ok()?;
    let signature: p521::ecdsa::Signature = key.sign_prehash(digest).ok()?;
    Some(signature.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{self, EcdsaKeyPair, KeyPair as _};
    use sha2_for_hmac::{Digest as _, Sha256, Sha384, Sha512};

    use super::*;

    /// A key of ring signs, which has another implementation.
    #[test]
    fn a_signature_of_another_library_is_right_and_nothing_near_it() {
        let random = SystemRandom::new();
        let how = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).unwrap();
        let signature = pair.sign(&random, b"text").unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        let (point, digest) = (pair.public_key().as_ref(), Sha256::digest(b"text"));
        assert!(is_right(Curve::P256, point, &digest, [r, s]));
        assert!(!is_right(Curve::P256, point, &Sha256::digest(b"texT"), [r, s]));
        assert!(!is_right(Curve::P256, point, &digest, [s, r]));
        assert!(!is_right(Curve::P256, point, &digest, [&[], s]));
        assert!(!is_right(Curve::P384, point, &digest, [r, s]), "a point of another curve");
    }

    #[test]
    fn each_digest_goes_with_p521() {
        let number = [&[0; 65][..], &[7]].concat();
        let point = point_of(Curve::P521, &number).unwrap();
        assert_eq!(point, point_of(Curve::P521, &[7]).unwrap(), "zeros before it may be missing");
        for digest in
            [Sha256::digest(b"a").to_vec(), Sha384::digest(b"a").to_vec(), Sha512::digest(b"a").to_vec()]
        {
            // What signs takes no digest that is much shorter than the curve; what verifies does.
            let long = padded(&digest, 66).unwrap();
            let signature = signed_by_p521(&number, &long).unwrap();
            let (r, s) = signature.split_at(66);
            assert!(is_right(Curve::P521, &point, &digest, [r, s]));
        }
        assert_eq!(point_of(Curve::P521, &[0; 66]), None);
        assert_eq!(point_of(Curve::P256, &[0xff; 32]), None, "no number below the order");
    }
}
