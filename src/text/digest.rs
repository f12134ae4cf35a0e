//! Numbers for texts.

use sha2::{Digest as _, Sha256};

/// The first eight bytes of the SHA-256 of a text, as a number. What is named by it has the same name each time.
pub fn short_digest(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
}
