//! How registries are reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BreakerOptions;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// PEM files with CAs that are trusted in addition to the system's.
    pub ca_files: Vec<PathBuf>,
    /// A docker `config.json`. Read once.
    pub docker_config: Option<PathBuf>,
    /// Folder of the credential helpers that the docker config names; `PATH` when there is none.
    pub credential_helpers: Option<PathBuf>,
    /// Bound on resolving a name and on opening a connection, each.
    pub connect_timeout: Duration,
    /// Bound on every wait for more bytes.
    pub read_timeout: Duration,
    /// When a registry that does not answer gets no more requests.
    pub breaker: BreakerOptions,
    /// Mirrors by registry: `host[:port][/path]`, tried in order before the registry itself.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of token services, by registry, that are given the registry's credentials.
    pub token_realms: BTreeMap<String, Vec<String>>,
    /// The proxy that requests go through.
    pub proxy: Option<ProxyOptions>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            ca_files: Vec::new(),
            docker_config: None,
            credential_helpers: None,
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(5),
            breaker: BreakerOptions::default(),
            mirrors: BTreeMap::new(),
            token_realms: BTreeMap::new(),
            proxy: None,
        }
    }
}

/// A proxy. It resolves names instead of the gate, so judging addresses is then up to the proxy. The lists of
/// registries, and the rules about hosts that are written as addresses, still apply here. `HTTPS_PROXY` and its kin are
/// not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyOptions {
    /// Its URL, such as `http://proxy.corp:3128`.
    pub url: String,
    /// Hosts, domains and networks that are asked directly, as in `NO_PROXY`. Default: none.
    #[serde(default)]
    pub except: Vec<String>,
}
