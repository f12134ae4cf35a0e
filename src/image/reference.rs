//! Image names: `host/repository:tag@digest`, normalised as container runtimes do it.

use std::fmt;

use super::Error;

/// A normalised image name: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and optional port, such as `ghcr.io` or `127.0.0.1:5000`.
    pub registry: String,
    /// Repository, such as `library/nginx`.
    pub repository: String,
    /// Tag; `latest` when neither a tag nor a digest was written.
    pub tag: Option<String>,
    /// Digest, such as `sha256:…`; wins over the tag.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses an image name.
    pub fn parse(image: &str) -> Result<Self, Error> {
        let parsed: oci_client::Reference = image.parse().map_err(|e: oci_client::ParseError| {
            Error::ParseReference { image: image.to_string(), message: e.to_string() }
        })?;
        Ok(Self {
            registry: parsed.registry().to_string(),
            repository: parsed.repository().to_string(),
            tag: parsed.tag().map(String::from),
            digest: parsed.digest().map(String::from),
        })
    }

    /// The same repository at a digest.
    #[must_use]
    pub fn with_digest(&self, digest: &str) -> Self {
        Self { digest: Some(digest.to_string()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}
