//! Where images come from, how long a look-up may take, and what is remembered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use super::Error;
use super::SizeLimits;
use crate::files;
use crate::registry::guard::GuardOptions;
use crate::registry::{BreakerOptions, ProxyOptions};

/// Largest file with images to warm, in bytes.
const LARGEST_WARM_FILE: u64 = 4 << 20;

/// Where images come from, how long a look-up may take, and what is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupOptions {
    /// Folders with OCI layouts, by the registry host or `host/prefix` that they stand in for. Default: none.
    pub layouts: BTreeMap<String, PathBuf>,
    /// Which registries may be asked, and which of them by plain HTTP. Default: all at public addresses.
    pub registries: GuardOptions,
    /// PEM files with CAs that are trusted in addition to the system's. Default: none.
    pub ca_files: Vec<PathBuf>,
    /// A docker `config.json` with credentials, read once. Default: none, so that all requests are anonymous.
    pub docker_config: Option<PathBuf>,
    /// Folder of the programs that the docker config's `credHelpers` and `credsStore` name. Default: `PATH`.
    pub credential_helpers: Option<PathBuf>,
    /// Mirrors by registry, `host[:port][/path]`, tried in order before the registry itself. A mirror may have any
    /// address, and no pod may name it unless it is on `allow` too. Default: none.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of token services, by registry, that are given the registry's credentials although they are other hosts.
    /// They may have any address. Default: none; those of Docker Hub and gitlab.com are known.
    pub token_realms: BTreeMap<String, Vec<String>>,
    /// When a registry that does not answer gets no more requests.
    pub breaker: BreakerOptions,
    /// The proxy for requests to registries. Default: none; the environment's proxies are never used.
    pub proxy: Option<ProxyOptions>,
    /// Bound on resolving a registry's name and on opening a connection, each. Default: 3 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Bound on every wait for more bytes. Default: 5 s.
    #[serde(with = "duration")]
    pub read_timeout: Duration,
    /// Bound on a whole look-up. Reviews wait only for their own budget; the look-up continues for the next one.
    /// Default: 10 s.
    #[serde(with = "duration")]
    pub lookup_timeout: Duration,
    /// Look-ups that may read layers at the same time; each may hold a layer in memory, and the others wait. Sixteen
    /// times as many may wait for a manifest. An abandoned look-up counts until its work on the layer has ended.
    /// Default: 32.
    pub concurrent_lookups: usize,
    /// Memory for the layers that all look-ups together may be reading, in bytes. The others wait, and the pods of one
    /// namespace never hold more than half. A layer takes its own size plus that of what is built from it: as much
    /// again if it is Wasm or not compressed, else as much as `limits.layer`. Default: 768 MiB.
    pub memory_bytes: u64,
    /// Memory for facts, approximately, in bytes. Default: 64 MiB.
    pub facts_bytes: u64,
    /// Memory for image names, approximately, in bytes. Default: 16 MiB.
    pub names_bytes: u64,
    /// How long the digest of a tag is reused before the registry is asked again. Default: 60 s.
    #[serde(with = "duration")]
    pub tag_ttl: Duration,
    /// How long what a tag resolved to may be used while its registry cannot be asked. Default: 1 h.
    #[serde(with = "duration")]
    pub stale_ttl: Duration,
    /// How long a failure is repeated without asking again. Default: 5 s.
    #[serde(with = "duration")]
    pub failure_ttl: Duration,
    /// File in which facts and resolved tags survive a restart. Each process needs its own. Anyone who can write the
    /// file decides what images are taken for. Default: none.
    pub store: Option<PathBuf>,
    /// Bytes that are kept in that file, approximately; the file itself may be several times larger. Default: 128 MiB.
    pub store_bytes: u64,
    /// Images that are looked up when the gate starts. Default: none.
    pub warm: Vec<String>,
    /// A file with more such images, one per line; `#` begins a comment. Default: none.
    pub warm_file: Option<PathBuf>,
    /// How long a start waits for these images; the rest is looked up while the gate serves. Default: 10 s.
    #[serde(with = "duration")]
    pub warm_timeout: Duration,
    /// Architectures of the cluster's nodes, such as `amd64` and `arm64`, if there are no others. A pod under a Wasm
    /// runtime is judged by the image of every platform that a node may pull, so fewer platforms are read then. A node
    /// of another architecture that joins later runs images that were not inspected. Default: none, which allows any.
    pub node_architectures: Vec<String>,
    /// Registries, by host or `host/prefix`, whose images keep their tags: no digest is written on pods. For those that
    /// keep no digest for long. What of such an image was judged is not promised to run. Default: none.
    pub unpinned: Vec<String>,
    /// Sizes above which a document, layer or file is refused.
    pub limits: SizeLimits,
}

impl Default for LookupOptions {
    fn default() -> Self {
        Self {
            layouts: BTreeMap::new(),
            registries: GuardOptions::default(),
            ca_files: Vec::new(),
            docker_config: None,
            credential_helpers: None,
            mirrors: BTreeMap::new(),
            token_realms: BTreeMap::new(),
            breaker: BreakerOptions::default(),
            proxy: None,
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(5),
            lookup_timeout: Duration::from_secs(10),
            concurrent_lookups: 32,
            memory_bytes: 768 << 20,
            facts_bytes: 64 << 20,
            names_bytes: 16 << 20,
            tag_ttl: Duration::from_mins(1),
            stale_ttl: Duration::from_hours(1),
            failure_ttl: Duration::from_secs(5),
            store: None,
            store_bytes: 128 << 20,
            warm: Vec::new(),
            warm_file: None,
            warm_timeout: Duration::from_secs(10),
            node_architectures: Vec::new(),
            unpinned: Vec::new(),
            limits: SizeLimits::default(),
        }
    }
}

/// The images of `warm` and of `warmFile`.
pub(super) fn warm_list(options: &LookupOptions) -> Result<Vec<String>, Error> {
    let mut images = options.warm.clone();
    let Some(path) = &options.warm_file else { return Ok(images) };
    let failed = |message: String| Error::ReadWarmFile { path: path.display().to_string(), message };
    let text = files::read_text(path, LARGEST_WARM_FILE).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(line).trim());
    images.extend(lines.filter(|line| !line.is_empty()).map(String::from));
    Ok(images)
}
