//! Asks one source for its bundle, in whatever way it is asked.

use std::time::Duration;

use super::disk::Disk;
use super::fetched::Fetched;
use super::http::Http;
use super::oci::{Oci, Registries};
use super::options::{BundleSource, Origin};
use super::{Error, disk};

/// One source.
#[derive(Debug)]
pub(super) enum Fetcher {
    Disk(Disk),
    Http(Http),
    Oci(Oci),
}

impl Fetcher {
    /// The source as it is configured. `registries` are what bundles in registries are asked for.
    pub fn new(source: &BundleSource, registries: Option<&Registries>) -> Result<Self, Error> {
        let failed =
            |message: String| Error::FetchBundle { bundle: source.name(), from: source.shown(), message };
        Ok(match source.origin().map_err(|wrong| failed(wrong.message))? {
            Origin::Path(path) => Self::Disk(Disk::new(source.name(), path)),
            Origin::Http(url) => Self::Http(Http::new(source.clone(), url)),
            Origin::Oci(reference) => {
                let registries = registries.ok_or_else(|| failed("no registry may be asked".into()))?;
                Self::Oci(Oci::new(source.name(), reference, registries.clone()))
            }
        })
    }

    /// Asks for the bundle, unless it is still of `version`; an empty one is that of no bundle.
    pub async fn fetch(&mut self, version: &str) -> Result<Fetched, Error> {
        match self {
            Self::Disk(disk) => disk.fetch(version).await,
            Self::Http(http) => http.fetch(version).await,
            Self::Oci(oci) => oci.fetch(version).await,
        }
    }

    /// The version with which the first bundle is asked for where `version` was kept. Files are read anew, since that costs
    /// nothing.
    pub fn known<'a>(&self, version: &'a str) -> &'a str {
        if matches!(self, Self::Disk(_)) { "" } else { version }
    }

    /// Whether the source may hold back its answer until it has another bundle.
    pub fn may_hold(&self) -> bool {
        matches!(self, Self::Http(http) if http.may_wait())
    }

    /// The time until the source is asked again.
    pub fn pause(&self, source: &BundleSource) -> Duration {
        match self {
            Self::Disk(_) => disk::INTERVAL,
            Self::Http(http) if http.waits() => super::options::SHORTEST_POLL,
            Self::Http(_) | Self::Oci(_) => source.poll_interval,
        }
    }
}

/// What the source says, unless it takes too long.
pub(super) async fn asked(
    fetcher: &mut Fetcher,
    source: &BundleSource,
    version: &str,
    bound: Duration,
) -> Result<Fetched, Error> {
    let late = |_| {
        let message = format!("the bundle was not there after {} seconds", bound.as_secs());
        Error::FetchBundle { bundle: source.name(), from: source.shown(), message }
    };
    tokio::time::timeout(bound, fetcher.fetch(version)).await.map_err(late)?
}
