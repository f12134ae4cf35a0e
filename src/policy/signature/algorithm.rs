//! The algorithms of signatures.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a bundle can be signed: all algorithms of `opa sign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// ECDSA with P-521 and SHA-512.
    ES512,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
    ];

    /// The bytes that a secret has at least (RFC 7518, section 3.2); none where the key is no secret.
    pub(super) const fn least_secret(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            _ => None,
        }
    }

    /// The curve of its keys (RFC 5480, section 2.1.1.1); none where they are of another kind.
    pub(super) const fn curve(self) -> Option<&'static str> {
        match self {
            Self::ES256 => Some("1.2.840.10045.3.1.7"),
            Self::ES384 => Some("1.3.132.0.34"),
            Self::ES512 => Some("1.3.132.0.35"),
            _ => None,
        }
    }

    /// Its name in JWTs (RFC 7518, section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        found.ok_or_else(|| format!("write one of {}", known()))
    }
}
