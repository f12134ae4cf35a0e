//! What was seen of an image.

use serde::{Deserialize, Serialize};

/// One observation, from which the kind follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// Where it was seen, such as `manifest.config.mediaType` or `layer sha256:… bytes 0..8`.
    pub seen: String,
    /// What was found there.
    pub value: String,
}
