//! What a container can call (`required`), what its runtime and pod spec hand it anyway (`ambient`), and what it
//! can therefore really do (`effective`): this last is what a grant must cover.

pub mod ambient;
pub mod effective;
pub mod glob;
pub mod host;
pub mod interpreter;
pub mod name;
pub mod path;
pub mod required;

pub use effective::assess;
pub use host::HostPattern;
pub use name::{Capability, Parameter};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether files can be changed. Ordered: `read-write` includes `read-only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// One capability with its parameters and where it was seen. A parameter that is absent means "any", so an
/// entry without parameters is the widest of its capability.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Which capability.
    pub capability: Capability,
    /// `fs`: absolute path of the tree that is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `fs`: what may be done there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Network capabilities: `scheme://host:port` in Spin's grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Everything that has a name: variable, store, database, model, trigger, component, import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Listening capabilities: the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `env`, `fs`, `args` and `config`: whether what is reached is a secret (a Secret, or the service-account token).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Whether the image brought it itself (its own files, its own Env), or the platform puts it into every
    /// container alike (`HOSTNAME`, service links); granted by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Where it was seen, such as `import wasi:sockets/tcp@0.2.6 [method]tcp-socket.start-connect`.
    pub evidence: Vec<String>,
    /// Names of the grants that cover it, `default` for what everybody has; only on effective entries.
    #[serde(default)]
    pub covered_by: Vec<String>,
}

impl Entry {
    /// An entry without parameters.
    pub fn new(capability: Capability, evidence: impl Into<String>) -> Self {
        Self {
            capability,
            path: None,
            access: None,
            host: None,
            name: None,
            port: None,
            secret: false,
            own: false,
            evidence: vec![evidence.into()],
            covered_by: Vec::new(),
        }
    }

    /// The same with a name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same with a host pattern.
    #[must_use]
    pub fn to_host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The same for the tree at `path`.
    #[must_use]
    pub fn at_path(mut self, path: impl Into<String>, access: Access) -> Self {
        self.path = Some(path.into());
        self.access = Some(access);
        self
    }

    /// The same, marked as a secret or not.
    #[must_use]
    pub const fn mark_secret(mut self, secret: bool) -> Self {
        self.secret = secret;
        self
    }

    /// The same, marked as granted by default or not.
    #[must_use]
    pub const fn mark_own(mut self, own: bool) -> Self {
        self.own = own;
        self
    }
}

/// The entries in a fixed order; those with the same capability and parameters become one that has the evidence of
/// all of them.
pub fn merge(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut merged: BTreeMap<Entry, Vec<String>> = BTreeMap::new();
    for mut entry in entries {
        let evidence = std::mem::take(&mut entry.evidence);
        merged.entry(entry).or_default().extend(evidence);
    }
    let with_evidence = |(mut entry, mut evidence): (Entry, Vec<String>)| {
        evidence.sort();
        evidence.dedup();
        entry.evidence = evidence;
        entry
    };
    merged.into_iter().map(with_evidence).collect()
}

/// The three lists of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// What the program can call.
    pub requires: Vec<Entry>,
    /// What is handed over whatever the program can call.
    pub ambient: Vec<Entry>,
    /// What it can call and is handed, with the narrower parameters of the two.
    pub effective: Vec<Entry>,
    /// What it can call and is not handed: the program will fail there.
    pub missing: Vec<Entry>,
}
