//! What kind of private key a file holds, for the message about one that cannot be used.

use rustls_pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::{Any, Class, FromDer, Oid, Tag};

/// The kinds that the TLS library can sign with (`rustls:src/crypto/ring/sign.rs`; of RSA, `ring:src/rsa/keypair.rs`).
pub(super) const USABLE: &str = "EC on curve P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits";

/// A kind of key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// RSA, with the bits of its modulus.
    Rsa(usize),
    /// On an elliptic curve, by its name or object identifier.
    Curve(String),
    /// Another algorithm, by its name or object identifier.
    Other(String),
}

impl Kind {
    /// The kind of a key; `None` for bytes that are no key.
    pub(super) fn of(key: &PrivateKeyDer<'_>) -> Option<Self> {
        match key {
            PrivateKeyDer::Pkcs1(der) => rsa(der.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(der) => sec1(der.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(der) => pkcs8(der.secret_pkcs8_der()),
            _ => None,
        }
    }

    fn curve(oid: String) -> Self {
        Self::Curve(match oid.as_str() {
            "1.2.840.10045.3.1.7" => "P-256".into(),
            "1.3.132.0.34" => "P-384".into(),
            "1.3.132.0.35" => "P-521".into(),
            "1.3.132.0.10" => "secp256k1".into(),
            _ => oid,
        })
    }

    /// Whether the TLS library can sign with it.
    pub(super) fn is_usable(&self) -> bool {
        match self {
            Self::Rsa(bits) => (2048..=4096).contains(bits),
            Self::Curve(name) => matches!(name.as_str(), "P-256" | "P-384"),
            Self::Other(name) => name == "Ed25519",
        }
    }

    /// The kind with its article, as in "it is an RSA key of 8192 bits".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Rsa(bits) => format!("an RSA key of {bits} bits"),
            Self::Curve(name) => format!("an EC key on curve {name}"),
            Self::Other(name) => format!("a key of algorithm {name}"),
        }
    }
}

/// No form of a key has more fields.
const MOST_FIELDS: usize = 16;

/// The fields of the sequence that the bytes begin with.
fn fields(der: &[u8]) -> Option<Vec<Any<'_>>> {
    fields_of(&Any::from_der(der).ok()?.1)
}

fn fields_of<'a>(sequence: &Any<'a>) -> Option<Vec<Any<'a>>> {
    if sequence.tag() != Tag::Sequence {
        return None;
    }
    let mut rest = sequence.data;
    let mut found = Vec::new();
    while found.len() < MOST_FIELDS
        && let Ok((after, field)) = Any::from_der(rest)
    {
        found.push(field);
        rest = after;
    }
    Some(found)
}

fn oid(field: &Any<'_>) -> Option<String> {
    Some(Oid::try_from(field.clone()).ok()?.to_id_string())
}

/// RFC 8017, A.1.2: the version, and then the modulus.
fn rsa(der: &[u8]) -> Option<Kind> {
    let fields = fields(der)?;
    let modulus = fields.get(1).filter(|field| field.tag() == Tag::Integer)?.data;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    let bytes = modulus.len().saturating_sub(zeros);
    Some(Kind::Rsa((bytes * 8).saturating_sub(first.leading_zeros() as usize)))
}

/// RFC 5915: the curve is the field tagged 0.
fn sec1(der: &[u8]) -> Option<Kind> {
    let fields = fields(der)?;
    let tagged = |field: &&Any<'_>| field.class() == Class::ContextSpecific && field.tag().0 == 0;
    let (_, curve) = Any::from_der(fields.iter().find(tagged)?.data).ok()?;
    oid(&curve).map(Kind::curve)
}

/// RFC 5958: the version, the algorithm with its parameters, and the key in its own form.
fn pkcs8(der: &[u8]) -> Option<Kind> {
    let outer = fields(der)?;
    let algorithm = fields_of(outer.get(1)?)?;
    let parameters = algorithm.get(1).and_then(oid);
    Some(match oid(algorithm.first()?)?.as_str() {
        "1.2.840.113549.1.1.1" => rsa(outer.get(2)?.data)?,
        "1.2.840.10045.2.1" => Kind::curve(parameters.unwrap_or_default()),
        "1.3.101.112" => Kind::Other("Ed25519".into()),
        "1.3.101.113" => Kind::Other("Ed448".into()),
        "1.2.840.113549.1.1.10" => Kind::Other("RSA-PSS".into()),
        "1.2.840.10040.4.1" => Kind::Other("DSA".into()),
        other => Kind::Other(other.into()),
    })
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;

    fn kind(pem: &str) -> Option<Kind> {
        Kind::of(&PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap())
    }

    /// `testdata/README.md` says how the keys were made.
    #[test]
    fn the_kind_of_a_key_is_read_from_each_of_its_forms() {
        for (pem, text, usable) in [
            (include_str!("testdata/p521.key"), "an EC key on curve P-521", false),
            (include_str!("testdata/p521-sec1.key"), "an EC key on curve P-521", false),
            (include_str!("testdata/rsa8192.key"), "an RSA key of 8192 bits", false),
            (include_str!("testdata/ed448.key"), "a key of algorithm Ed448", false),
            (include_str!("testdata/pkcs1.key"), "an RSA key of 2048 bits", true),
            (include_str!("testdata/sec1.key"), "an EC key on curve P-256", true),
        ] {
            let kind = kind(pem).unwrap();
            assert_eq!((kind.describe().as_str(), kind.is_usable()), (text, usable));
        }
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let made = rcgen::KeyPair::generate_for(algorithm).unwrap();
            assert!(kind(&made.serialize_pem()).unwrap().is_usable());
        }
    }

    #[test]
    fn bytes_that_are_no_key_have_no_kind() {
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0],
            &[0x30, 2, 5, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0xff; 40],
        ] {
            for key in [
                PrivateKeyDer::Pkcs8(der.to_vec().into()),
                PrivateKeyDer::Pkcs1(der.to_vec().into()),
                PrivateKeyDer::Sec1(der.to_vec().into()),
            ] {
                assert_eq!(Kind::of(&key), None, "{der:?}");
            }
        }
    }
}
