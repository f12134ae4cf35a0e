//! Where manifests and blobs come from: a registry or an image layout on disk.

use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{Error, reference::Reference};

pub(crate) use super::malformed::shorten;

/// A content descriptor (OCI image-spec, `descriptor.md`), as far as detection needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// `algorithm:hex`.
    pub digest: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
}

/// A manifest or index as it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The bytes; their digest has been verified when the reference named one.
    pub bytes: Bytes,
    /// Digest of the bytes, computed here: by the algorithm of the reference's own digest when it names one, else
    /// `sha256:…`.
    pub digest: String,
}

/// Something that serves manifests and blobs. Every byte that it returns has been verified against the digest it was asked for by.
pub trait Source: Send + Sync {
    /// The manifest or index that a reference names. Refuses more than `limit` bytes.
    fn manifest(
        &self,
        reference: &Reference,
        limit: u64,
    ) -> impl Future<Output = Result<FetchedManifest, Error>> + Send;

    /// A config or layer. Refuses more than `limit` bytes, whatever size the descriptor claims.
    fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;
}

/// Algorithm and hex part of a digest. Refuses everything but the registered algorithms with lower-case hex digits of
/// the right number (OCI image-spec, `descriptor.md`, "Digests"), so what passes is safe in a URL and in a path.
pub(crate) fn split_digest(digest: &str) -> Result<(&str, &str), String> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match digest.split_once(':') {
        Some((algorithm @ ("sha256" | "sha384" | "sha512"), encoded))
            if encoded.bytes().all(hex) && Some(encoded.len()) == hex_digits(algorithm) =>
        {
            Ok((algorithm, encoded))
        }
        _ => Err(format!("`{}` is no digest; it takes `sha256:` and 64 hex digits", shorten(digest, 100))),
    }
}

fn hex_digits(algorithm: &str) -> Option<usize> {
    match algorithm {
        "sha256" => Some(64),
        "sha384" => Some(96),
        "sha512" => Some(128),
        _ => None,
    }
}

/// `sha256:…` of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Checks bytes against the digest that they were asked for by.
pub(crate) fn verify(digest: &str, bytes: &[u8]) -> Result<(), String> {
    let actual = match split_digest(digest)?.0 {
        "sha512" => format!("sha512:{:x}", Sha512::digest(bytes)),
        "sha384" => format!("sha384:{:x}", Sha384::digest(bytes)),
        _ => sha256(bytes),
    };
    if actual == digest {
        Ok(())
    } else {
        Err(format!("the bytes have the digest `{actual}`, not `{digest}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn bytes_are_held_against_their_digest() {
        assert_eq!(sha256(b""), EMPTY);
        assert_eq!(verify(EMPTY, b""), Ok(()));
        assert!(verify(EMPTY, b"x").unwrap_err().contains("not `sha256:e3b0"));
        let sha512 = format!("sha512:{:x}", Sha512::digest(b"x"));
        assert_eq!(verify(&sha512, b"x"), Ok(()));
        assert!(verify(&sha512, b"y").is_err());
    }

    #[test]
    fn only_well_formed_digests_reach_a_url_or_a_path() {
        let upper = EMPTY.to_uppercase().replace("SHA", "sha");
        for digest in
            ["", "sha256", "sha256:", "sha256:../../etc", "md5:d41d8cd98f00b204e9800998ecf8427e", &upper]
        {
            assert!(split_digest(digest).is_err(), "{digest}");
        }
        assert!(split_digest(EMPTY).is_ok());
    }

    #[test]
    fn foreign_text_is_shortened_to_one_harmless_line() {
        assert_eq!(shorten(" a\u{1b}[2Jb\nc ", 100), "a [2Jb c");
        assert_eq!(shorten("abcdef", 3), "abc…");
    }
}
