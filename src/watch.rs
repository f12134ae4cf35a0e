//! The current snapshot of a Kubernetes cluster, kept up to date by watches, and the pull secrets of pods, read on demand;
//! and lists that are read once ([`Pages`]).
//! A gate outside of a cluster reads the same facts from a directory of manifests.
//!
//! Each watch lists and follows one kind ([`Watched`]) and keeps only what the gate needs of its objects. Changes are
//! collected for a moment and then published as one [`Snapshot`], so that a burst of events causes few rebuilds.
//! The first snapshot is published once every watch has listed its kind; a kind of the gate's own without a definition
//! counts as listed and empty, and so does one of another project that the cluster need not have. When a watch is lost later, the last snapshot stays in use, and the watch resumes by itself.

pub mod client;
mod follow;
mod health;
mod options;
pub mod pages;
mod resource;
mod secrets;
mod shared;
mod snapshot;
mod watching;

pub use client::{connect, connect_user};
pub use health::WatchHealth;
pub use options::WatchOptions;
pub use pages::{Pages, is_served, resource_of};
pub use resource::Watched;
pub use secrets::{Account, ApiPullSecrets, SECRETS_BYTES, SecretLimits};
pub use snapshot::{Base, Snapshot};
pub use watching::Watching;

use std::path::PathBuf;

/// Why a cluster cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig is missing or invalid.
    #[error("could not read the kubeconfig `{}`: {message}", path.display())]
    ReadKubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// There is no service account to authenticate as.
    #[error("not in a cluster: {message}; pass --kubeconfig")]
    FindCluster {
        /// What is missing.
        message: String,
    },
    /// A user has neither a kubeconfig nor a cluster that the process runs in.
    #[error("could not find a cluster: {message}; pass --kubeconfig, or name manifests with -f")]
    FindUserCluster {
        /// What is missing.
        message: String,
    },
    /// Objects of a kind could not be listed.
    #[error("could not list {name}: {message}")]
    ListKind {
        /// Resource and group.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The client could not be created, for instance because a certificate cannot be read.
    #[error("could not set up the client of the API server: {message}")]
    SetUpClient {
        /// What is wrong.
        message: String,
    },
}
