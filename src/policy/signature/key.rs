//! Which keys verify something by an algorithm. One that never could is refused when it is read, and not each bundle later.

use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;

/// What is said of a secret that could be guessed from a signature.
const TOO_SHORT: &str = "it is too short for a secret: it needs as many bytes as the digest has (32 for HS256, 48 for HS384, 64 for HS512); \
                         make one with `head -c 64 /dev/urandom`";
const NO_CURVE: &str = "it is no key for its algorithm, which needs one of the curve P-256 (ES256), P-384 (ES384) or P-521 (ES512); write the \
                        algorithm that the key is for";
const NO_RSA: &str = "it is no key for its algorithm, which needs one of RSA; write the algorithm that the key is for, such as ES256 for the \
                      curve P-256";
const RSA_LENGTH: &str = "it is a key of RSA with fewer than 2048 bits or more than 8192, which are not taken; make one of 3072 bits";
const EXPECTED: &str = "expected a `PUBLIC KEY` or a `CERTIFICATE` in PEM";

/// The key in the form in which it verifies.
pub(super) fn usable(
    algorithm: Algorithm,
    file: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if let Some(least) = algorithm.least_secret() {
        // Everyone may have a public key, and could sign with it.
        if pem::parse(&*file).is_ok() {
            return Err(
                "it is a key in PEM, and not a secret; write the algorithm of that key, such as RS256",
            );
        }
        return if file.len() < least { Err(TOO_SHORT) } else { Ok(file) };
    }
    let pem = pem::parse(&*file).map_err(|_| EXPECTED)?;
    let key = match pem.tag() {
        // The same bytes as inside a `PUBLIC KEY` of RSA.
        "RSA PUBLIC KEY" if algorithm.curve().is_none() => rsa(pem.contents())?,
        "RSA PUBLIC KEY" => return Err(NO_CURVE),
        "PUBLIC KEY" => {
            let (_, key) = SubjectPublicKeyInfo::from_der(pem.contents()).map_err(|_| EXPECTED)?;
            public(algorithm, &key)?
        }
        "CERTIFICATE" => {
            let (_, certificate) = X509Certificate::from_der(pem.contents()).map_err(|_| EXPECTED)?;
            public(algorithm, certificate.public_key())?
        }
        _ => return Err(EXPECTED),
    };
    Ok(Zeroizing::new(key))
}

fn public(algorithm: Algorithm, key: &SubjectPublicKeyInfo<'_>) -> Result<Vec<u8>, &'static str> {
    let bytes = &key.subject_public_key.data;
    let Some(wanted) = algorithm.curve() else { return rsa(bytes) };
    let named = key.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
    if named.is_some_and(|curve| curve.to_id_string() == wanted) { Ok(bytes.to_vec()) } else { Err(NO_CURVE) }
}

fn rsa(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (_, key) = RSAPublicKey::from_der(bytes).map_err(|_| NO_RSA)?;
    if (2048..=8192).contains(&key.key_size()) { Ok(bytes.to_vec()) } else { Err(RSA_LENGTH) }
}

/// Refuses what a key of another curve or length has signed: `opa sign` takes any of its kind.
pub(super) fn check_length(algorithm: Algorithm, signature: &[u8]) -> Result<(), &'static str> {
    match (algorithm, signature.len()) {
        (Algorithm::ES256, 64) | (Algorithm::ES384, 96) | (Algorithm::ES512, 132) => Ok(()),
        (Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512, _) => Err(NO_CURVE),
        _ if algorithm.least_secret().is_some() => Ok(()),
        (_, 256..=1024) => Ok(()),
        _ => Err(RSA_LENGTH),
    }
}
