//! Content digests (OCI image-spec, `descriptor.md`, "Digests"): only the registered algorithms, parsed once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::malformed::Malformed;
use crate::text;

/// An algorithm that the OCI image-spec registers and that container runtimes verify
/// (`opencontainers/go-digest:algorithm.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// The usual one.
    Sha256,
    /// Known to container runtimes, rarely used.
    Sha384,
    /// Registered in addition to SHA-256.
    Sha512,
}

impl Algorithm {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Number of hex digits after the colon.
    pub const fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// `algorithm:hex`, with the right number of lower-case digits: safe in a URL, in a path and in an image name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: Arc<str>,
}

impl Digest {
    /// SHA-256 of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::by(Algorithm::Sha256, bytes)
    }

    /// Digest of bytes by an algorithm.
    pub fn by(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.digest()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits after the colon.
    pub fn encoded(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, encoded)| encoded)
    }

    /// Checks bytes against this digest.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Malformed> {
        self.verify_digest(&Self::by(self.algorithm, bytes))
    }

    /// Checks the digest of bytes, by the same algorithm, against this one.
    pub(crate) fn verify_digest(&self, actual: &Self) -> Result<(), Malformed> {
        if actual == self {
            Ok(())
        } else {
            Err(Malformed::new(format!("the bytes have the digest `{actual}`, not `{self}`")))
        }
    }
}

/// Makes the digest of bytes that arrive one part after the other.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha384 => Self::Sha384(Sha384::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn digest(self) -> Digest {
        let (algorithm, text) = match self {
            Self::Sha256(hash) => (Algorithm::Sha256, format!("sha256:{:x}", hash.finalize())),
            Self::Sha384(hash) => (Algorithm::Sha384, format!("sha384:{:x}", hash.finalize())),
            Self::Sha512(hash) => (Algorithm::Sha512, format!("sha512:{:x}", hash.finalize())),
        };
        Digest { algorithm, text: text.into() }
    }
}

impl FromStr for Digest {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let algorithm = text.split_once(':').and_then(|(name, encoded)| {
            let algorithm = Algorithm::named(name)?;
            (encoded.len() == algorithm.hex_digits() && encoded.bytes().all(hex)).then_some(algorithm)
        });
        match algorithm {
            Some(algorithm) => Ok(Self { algorithm, text: text.into() }),
            None => Err(Malformed::new(format!(
                "`{}` is not a digest; write `sha256:` and 64 hex digits",
                text::quoted(text, 100)
            ))),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.as_str().to_owned()
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Digest {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<String> for Digest {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<Digest> for String {
    fn eq(&self, other: &Digest) -> bool {
        self == other.as_str()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn bytes_are_verified_with_the_digests_own_algorithm() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
            let digest = Digest::by(algorithm, b"x");
            assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
            assert_eq!((digest.algorithm(), digest.encoded().len()), (algorithm, algorithm.hex_digits()));
            assert!(digest.verify(b"x").is_ok());
            let wrong = digest.verify(b"y").unwrap_err().to_string();
            assert!(wrong.contains(&format!("not `{digest}`")), "{wrong}");
        }
    }

    #[test]
    fn bytes_that_arrive_in_parts_have_the_digest_of_the_whole() {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            for part in ["a", "", "bc"] {
                hasher.update(part.as_bytes());
            }
            assert_eq!(hasher.digest(), Digest::by(algorithm, b"abc"));
        }
    }

    #[test]
    fn only_registered_algorithms_with_their_full_length_in_lower_case_are_digests() {
        let hex = |algorithm: &str, digit: &str, count: usize| format!("{algorithm}:{}", digit.repeat(count));
        for right in [hex("sha256", "a", 64), hex("sha384", "0", 96), hex("sha512", "f", 128)] {
            assert!(right.parse::<Digest>().is_ok(), "{right}");
        }
        let upper = EMPTY.to_uppercase().replace("SHA", "sha");
        for wrong in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &upper,
            &hex("sha256", "a", 63),
            &hex("sha256", "a", 96),
            &hex("sha384", "a", 64),
            &hex("SHA256", "a", 64),
            &hex("sha256", " ", 64),
        ] {
            let error = wrong.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("is not a digest; write `sha256:`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_serialised_form_is_the_text_and_is_checked() {
        let digest: Digest = serde_json::from_str(&format!("\"{EMPTY}\"")).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
        assert!(serde_json::from_str::<Digest>("\"sha256:1\"").is_err());
    }
}
