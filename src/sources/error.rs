//! Why a bundle was not brought up to date.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::policy;

/// Why a bundle was not brought up to date.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bundle itself cannot be used.
    #[error(transparent)]
    UseBundle(#[from] policy::Error),
    /// A bundle server did not give the bundle.
    #[error("could not fetch policy bundle `{bundle}` from `{from}`: {message}")]
    FetchBundle {
        /// Name of the bundle.
        bundle: String,
        /// The URL, without credentials.
        from: String,
        /// What went wrong, and what to do.
        message: String,
    },
    /// A file that the request needs could not be read.
    #[error("could not read `{}` for policy bundle `{bundle}`", path.display())]
    ReadCredential {
        /// Name of the bundle.
        bundle: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files changed while they were read.
    #[error("policy bundle `{bundle}` is being written: its files change while they are read")]
    SettleFiles {
        /// Name of the bundle.
        bundle: String,
    },
    /// An older bundle than the one that was in force.
    #[error(
        "policy bundle `{bundle}` is refused: its sequence {found} is lower than {newest}, which was in force before; build a newer one, \
         or set `allowRollback: true` for it in `policies.bundles`"
    )]
    RollBack {
        /// Name of the bundle.
        bundle: String,
        /// The sequence of the bundle, or words for none.
        found: String,
        /// The highest sequence that was in force.
        newest: u64,
    },
    /// What a source said was late: another bundle has come into force since it was asked.
    #[error(
        "policy bundle `{bundle}` is refused: another one has come into force while its source was asked"
    )]
    OvertakeBundle {
        /// Name of the bundle.
        bundle: String,
    },
    /// The folder for the last good bundles must not be used.
    #[error(
        "cannot keep policy bundles in `{}`: {reason}, and rules come from it; name a folder in `policies.store` that does not exist, \
         which the gate makes for its own user, such as `{}`",
        folder.display(), folder.join("kept").display()
    )]
    OpenStore {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The last good bundle could not be kept.
    #[error("could not keep policy bundle `{bundle}` in `{}`", path.display())]
    KeepBundle {
        /// Name of the bundle.
        bundle: String,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is known of the bundles that were in force could not be read.
    #[error(
        "could not read `{}`, which has the highest sequence of policy bundle `{bundle}`: {reason}; make it readable, restore it, or set \
         `allowRollback: true` for the bundle in `policies.bundles`",
        path.display()
    )]
    RecallBundle {
        /// Name of the bundle.
        bundle: String,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The other parts of the gate do not go with the bundle.
    #[error("policy bundle `{bundle}` is refused: {message}")]
    SwapBundle {
        /// Name of the bundle.
        bundle: String,
        /// Why.
        message: String,
    },
}
