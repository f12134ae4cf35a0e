//! Files of an image that the Spin shim reads beside the application: its runtime configuration, and files of variables.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What `/runtime-config.toml` opens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeConfig {
    /// Path of the file, behind the links of the image.
    pub path: String,
    /// Why it is not known what it opens. Nothing else is known then.
    pub unread: Option<String>,
    /// The key-value stores by their names.
    pub stores: BTreeMap<String, Backend>,
    /// The databases of `sqlite` by their names.
    pub databases: BTreeMap<String, Backend>,
    /// What answers for models.
    pub models: Option<Backend>,
    /// What is asked for variables before the variables of the container.
    pub providers: Vec<Provider>,
    /// The folder of the default store and the default database, if it is moved.
    pub state_folder: Option<String>,
    /// The files of certificates and keys that the shim reads.
    pub tls_files: Vec<String>,
}

/// What stands behind a store, a database, models or a provider of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// A file of SQLite in the container, or its memory. `path` is as it is written.
    File {
        /// The file; `None` for memory.
        path: Option<String>,
    },
    /// Nothing outside of the shim.
    Inside,
    /// Servers at these addresses, without user and password; empty for an address that clients may read in several ways.
    Servers {
        /// The type in the file, such as `redis`.
        kind: String,
        /// The addresses.
        addresses: Vec<String>,
    },
    /// A service of a cloud whose credentials, and hosts with them, are looked for in the environment of the shim.
    Ambient {
        /// The type in the file, such as `aws_dynamo`.
        kind: String,
    },
}

/// A provider of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Provider {
    /// Values in the file itself.
    Static {
        /// The variables that have one.
        names: BTreeSet<String>,
    },
    /// Variables of the container with another prefix.
    Env {
        /// What stands before the name and a `_`.
        prefix: String,
        /// A further file of variables.
        dotenv: Option<String>,
    },
    /// A vault.
    Remote(Backend),
}

/// What a file `.env` of the image may set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DotEnv {
    /// Path of the file, behind the links of the image.
    pub path: String,
    /// The variables that it may set.
    pub names: BTreeSet<String>,
    /// The variables of the shim's process that may be in their values, such as by `${NAME}`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub copies: BTreeSet<String>,
}
