//! The places that are asked for an image: the mirrors, then its registry.

use std::collections::BTreeMap;

use reqwest::Url;

use super::Error;
use super::credentials::DOCKER_HUB;
use super::guard::Guard;
use super::message::FetchFailure;
use crate::image::Digest;
use crate::image::reference::{Reference, registry_name};
use crate::text;

/// Manifests and indexes, in OCI's media types and in Docker's.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Host that serves Docker Hub's API (`containerd:core/remotes/docker/registry.go`, `DefaultHost`).
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The content that is requested.
#[derive(Debug, Clone, Copy)]
pub(super) enum Requested<'a> {
    Manifest { tag: Option<&'a str>, digest: Option<&'a Digest> },
    Blob { digest: &'a Digest },
}

impl<'a> Requested<'a> {
    pub(super) fn digest(&self) -> Option<&'a Digest> {
        match self {
            Self::Manifest { digest, .. } => *digest,
            Self::Blob { digest } => Some(digest),
        }
    }

    pub(super) fn accept(&self) -> Option<&'static str> {
        matches!(self, Self::Manifest { .. }).then_some(ACCEPTED)
    }

    fn path(&self) -> String {
        match self {
            Self::Manifest { digest: Some(digest), .. } => format!("manifests/{digest}"),
            Self::Manifest { tag, digest: None } => format!("manifests/{}", tag.unwrap_or("latest")),
            Self::Blob { digest } => format!("blobs/{digest}"),
        }
    }
}

/// A place that is asked for an image: its registry, or a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    /// The name in credentials and messages.
    pub(super) registry: String,
    pub(super) repository: String,
    scheme: &'static str,
    /// The registry that it stands in for, when it is a mirror.
    pub(super) stands_for: Option<String>,
}

impl Site {
    pub(super) fn url(&self, requested: &Requested<'_>) -> Result<Url, FetchFailure> {
        let host = if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry };
        let text = format!("{}://{host}/v2/{}/{}", self.scheme, self.repository, requested.path());
        let mut url = Url::parse(&text)
            .map_err(|error| FetchFailure::Other(format!("`{}` makes no URL: {error}", self.registry)))?;
        // So that one mirror can serve several registries (`containerd:docs/hosts.md`).
        if let Some(registry) = &self.stands_for {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }
}

/// `host[:port][/path]` of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) host: String,
    /// Prefix of the repository; empty or ends in a slash.
    path: String,
}

pub(super) fn mirrors(
    options: &BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<String, Vec<Mirror>>, Error> {
    let parse = |entry: &String| {
        let (host, path) = entry.split_once('/').unwrap_or((entry, ""));
        let path = path.trim_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("{path}/") };
        // An image name must be able to hold the mirror, so its grammar decides.
        let probe = Reference::parse(&format!("{host}/{path}a"));
        match probe {
            Ok(probe) if probe.registry == host => Ok(Mirror { host: host.to_string(), path }),
            _ => Err(Error::SetUpClient {
                message: format!(
                    "the mirror `{}` is not understood: write `host`, `host:port` or `host/path`",
                    text::quoted(entry, 100)
                ),
            }),
        }
    };
    options
        .iter()
        .map(|(registry, entries)| {
            Ok((registry.clone(), entries.iter().map(parse).collect::<Result<_, _>>()?))
        })
        .collect()
}

/// The places that are asked for an image, in order.
pub(super) fn sites(
    guard: &Guard,
    mirrors: &BTreeMap<String, Vec<Mirror>>,
    reference: &Reference,
) -> Vec<Site> {
    let scheme = |registry: &str| if guard.is_insecure(registry) { "http" } else { "https" };
    let mirrors = mirrors.get(registry_name(&reference.registry)).into_iter().flatten();
    let mut sites: Vec<_> = mirrors
        .map(|mirror| Site {
            registry: mirror.host.clone(),
            repository: format!("{}{}", mirror.path, reference.repository),
            scheme: scheme(&mirror.host),
            stands_for: Some(reference.registry.clone()),
        })
        .collect();
    sites.push(Site {
        registry: reference.registry.clone(),
        repository: reference.repository.clone(),
        scheme: scheme(&reference.registry),
        stands_for: None,
    });
    sites
}
