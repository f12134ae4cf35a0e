//! To be filled.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, ImageFacts};

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Manifest and config; layers only where these say that the image is Wasm.
    Config,
    /// Also the files of the root file system: the pod will run under a Wasm runtime, or its `command` names a `.wasm` file.
    Layers,
}

/// Where images come from and how long a look-up may take.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// Looks images up, and remembers what it saw.
#[derive(Debug)]
pub struct Inspector {}

impl Inspector {
    /// An inspector.
    pub fn new(_options: Options) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Facts about one image, from the cache or from its source, within `budget`.
    pub async fn inspect(
        &self,
        image: &str,
        _depth: Depth,
        _budget: Duration,
    ) -> Result<Arc<ImageFacts>, Arc<Error>> {
        Err(Arc::new(Error::TimedOut { image: image.to_string(), budget_ms: 0 }))
    }
}
