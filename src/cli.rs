//! The command line: parses the arguments and runs the chosen command.

pub mod args;
pub mod build;
pub mod check;
mod cluster;
pub mod diff;
mod engine;
pub mod explain;
mod help;
pub mod inspect;
pub mod manifest;
pub mod policy;
pub mod rehearse;
pub mod render;
pub mod replay;
pub mod report;
mod run;
pub mod scan;
pub mod serve;
pub mod suggest;

use std::io::Write as _;
use std::path::PathBuf;

use thiserror::Error;

use crate::text;

pub use args::{Args, Command};
pub use run::run;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded; every explained object would be admitted.
    Success,
    /// An explained or scanned object would be denied; for `suggest`, even with the suggested grants.
    Denied,
    /// Nothing would be denied, but for some object it is not known whether it is Wasm: an image could not be read, or a
    /// program was not recognised. For `scan` also that something could not be judged.
    Unread,
    /// An object could not be read or judged; the others were.
    Unreadable,
    /// A checked file cannot be used, or a test of a policy failed.
    Invalid,
    /// Of two things that were compared, the new one can do more.
    Added,
    /// A recorded decision would be another one.
    Changed,
}

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration or a flag is wrong.
    #[error(transparent)]
    Configure(#[from] crate::config::Error),
    /// Grants could not be loaded.
    #[error(transparent)]
    LoadGrants(#[from] crate::grant::Error),
    /// Cluster manifests could not be loaded.
    #[error(transparent)]
    LoadCluster(#[from] crate::cluster::Error),
    /// Policies could not be loaded.
    #[error(transparent)]
    LoadPolicies(#[from] crate::policy::Error),
    /// A policy bundle could not be fetched.
    #[error(transparent)]
    FetchPolicies(crate::sources::Error),
    /// The registry client could not be set up.
    #[error(transparent)]
    SetUpImages(#[from] crate::lookup::Error),
    /// The decision log could not be opened.
    #[error(transparent)]
    OpenLog(#[from] crate::audit::Error),
    /// The records for a collector.
    #[error(transparent)]
    OpenSpool(#[from] crate::upload::Error),
    /// Certificates could not be made or read.
    #[error(transparent)]
    LoadCertificates(#[from] crate::certs::Error),
    /// The cluster cannot be watched.
    #[error(transparent)]
    Watch(#[from] crate::watch::Error),
    /// The gate could not register itself in its cluster.
    #[error(transparent)]
    Register(#[from] crate::register::Error),
    /// The server could not start or stop.
    #[error(transparent)]
    Serve(#[from] crate::server::Error),
    /// A manifest could not be read.
    #[error("could not read `{path}`: {message}")]
    ReadManifest {
        /// File (`-` for standard input) and, where it is known, the document.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A document is no Kubernetes object.
    #[error("could not read `{path}`: not a Kubernetes object: it has no `kind`")]
    NoKind {
        /// File and document.
        path: String,
        /// Field path of a list of containers in it.
        containers: Option<String>,
    },
    /// A filter names a rule that no bundle has.
    #[error("no loaded bundle has rule `{rule}`{meant}; write one of {known}")]
    FindRule {
        /// What was written.
        rule: String,
        /// The known rules.
        known: String,
        /// What was probably meant, as a question, or empty.
        meant: String,
    },
    /// A filter names a namespace that the cluster does not have.
    #[error("the cluster has no namespace `{namespace}`{meant}")]
    FindNamespace {
        /// What was written.
        namespace: String,
        /// What was probably meant, as a question, or empty.
        meant: String,
    },
    /// What verdicts depend on could not be read from the cluster.
    #[error("could not read the cluster: {message}")]
    ReadCluster {
        /// What is missing and why.
        message: String,
    },
    /// An object could not be read from the cluster.
    #[error("could not read {object} from the cluster: {message}")]
    ReadObject {
        /// Kind, namespace and name.
        object: String,
        /// Why, and the right that is missing.
        message: String,
    },
    /// Nothing was given to explain.
    #[error("found no Kubernetes objects in {0}; give files, folders or `-` with `-f`")]
    NothingToExplain(String),
    /// Nothing was given to check.
    #[error("found nothing to check{0}; name files, --config, --grants or --bundle")]
    NothingToCheck(String),
    /// No document of the named files is of a kind that can be checked.
    #[error(
        "could not check any of {0}: these kinds are not known; name a GateConfiguration, grants, or kinds with a pod spec"
    )]
    NothingChecked(String),
    /// A decision log could not be read.
    #[error("could not read the decision log `{path}`: {source}")]
    ReadLog {
        /// The file, `-` for standard input.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No record of a decision log can be judged again.
    #[error(
        "found no decision to replay{}; a log that `decisionLog.policyInput: true` wrote has what the rules read",
        if .0.is_empty() { String::new() } else { format!(": {}", .0) }
    )]
    NothingToReplay(String),
    /// `suggest` was given neither an image nor manifests.
    #[error("found nothing to suggest grants for; name an image, or files, folders or `-` with `-f`")]
    NothingToSuggest,
    /// `suggest` was given a file in the place of an image.
    #[error("could not take `{path}` as an image: it names a file; write `-f {path}`")]
    SuggestFile {
        /// What was written.
        path: String,
    },
    /// An object could not be explained.
    #[error("could not explain {object}: {source}")]
    Explain {
        /// Kind and name.
        object: String,
        /// Why.
        #[source]
        source: crate::admission::Error,
    },
    /// A local file could not be inspected.
    #[error("could not inspect `{path}`: {message}")]
    InspectFile {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A manifest and a program alone cannot be compared.
    #[error(
        "could not compare `{old}` with `{new}`: one is a manifest and the other is not; compare two manifests or two images"
    )]
    CompareSides {
        /// The old side.
        old: String,
        /// The new side.
        new: String,
    },
    /// What is to be checked, tested or built is not a folder of rules.
    #[error("found no folder of rules at `{}`; name the folder that holds the Rego files", path.display())]
    FindRules {
        /// What was named.
        path: std::path::PathBuf,
    },
    /// The folder of the rules could not be used.
    #[error("could not use the rules at `{}`", path.display())]
    UseRules {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The rules fail on an ordinary pod.
    #[error(
        "could not judge an ordinary pod by the rules, so that every pod that starts Wasm would be refused: {reason}"
    )]
    JudgePod {
        /// Why.
        reason: String,
    },
    /// A file that rules depend on would not be in the bundle.
    #[error("could not put `{}` into the bundle: {message}", path.display())]
    LeaveOut {
        /// The file.
        path: std::path::PathBuf,
        /// Why, and how to mend it.
        message: String,
    },
    /// There is no `opa`.
    #[error(
        "could not find `{}`; install opa (https://www.openpolicyagent.org/docs#1-download-opa) so that it is on PATH, or name it \
         with --opa",
        program.display()
    )]
    FindOpa {
        /// What was looked for.
        program: std::path::PathBuf,
    },
    /// There is no `regal` of this name.
    #[error("could not find `{}`; name it with --regal, or leave --regal out", program.display())]
    FindRegal {
        /// What was looked for.
        program: std::path::PathBuf,
    },
    /// `regal` did not do what was asked.
    #[error("`regal lint` failed: {message}")]
    RunRegal {
        /// What it said.
        message: String,
    },
    /// `opa` did not do what was asked.
    #[error("`{command}` failed: {message}")]
    RunOpa {
        /// What was asked.
        command: String,
        /// What it says.
        message: String,
    },
    /// A folder for the time of the command could not be used.
    #[error("could not use `{}` for temporary files; set TMPDIR to a folder that can be written", path.display())]
    UseFolder {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A bundle, a report or a man page could not be written.
    #[error("could not write `{}`", path.display())]
    WriteBundle {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A new rule would replace a file.
    #[error("could not write `{}`: it is there already; choose another name for the rule, or remove the file", path.display())]
    ReplaceRule {
        /// The file.
        path: std::path::PathBuf,
    },
    /// No gate would take the signature.
    #[error("could not sign with `{}`: {reason}", key.display())]
    SignBundle {
        /// File of the key.
        key: std::path::PathBuf,
        /// Why, and how to mend it.
        reason: String,
    },
    /// A folder was signed, and no archive was named.
    #[error("could not sign the folder `{}` in its place; name the archive to write with -f", path.display())]
    NameArchive {
        /// The folder.
        path: std::path::PathBuf,
    },
    /// A folder cannot be pushed.
    #[error(
        "could not push the folder `{}`; name an archive, such as `wasmgate policy build` writes",
        path.display()
    )]
    PushFolder {
        /// The folder.
        path: std::path::PathBuf,
    },
    /// A bundle cannot be there.
    #[error("could not use `{written}` as a place in a registry: {message}")]
    ReadPlace {
        /// What was written.
        written: String,
        /// Why, and what to write.
        message: String,
    },
    /// The rules could not be evaluated on a case.
    #[error("could not evaluate the rules on case `{case}`: {message}")]
    BenchCase {
        /// Its name.
        case: String,
        /// Why.
        message: String,
    },
    /// A file of cases is wrong.
    #[error("could not read the cases in `{path}`: {message}")]
    ReadCases {
        /// The file.
        path: String,
        /// What is wrong, and what to write.
        message: String,
    },
    /// There is nothing to test.
    #[error(
        "found nothing to test in `{path}`: neither a rule whose name begins with `test_` in a file `*_test.rego`, nor a file \
         `*_cases.yaml`; see `wasmgate policy test --help`"
    )]
    NothingToTest {
        /// The folder.
        path: String,
    },
    /// The output could not be written.
    #[error("could not write the output: {0}")]
    Write(#[source] std::io::Error),
    /// The output could not be put into its format.
    #[error("could not format the output: {0}")]
    Format(String),
    /// The asynchronous runtime could not be started.
    #[error("could not start the worker threads: {0}")]
    StartRuntime(#[source] std::io::Error),
}

impl From<crate::sources::Error> for Error {
    /// A bundle that cannot be used is the same problem wherever it came from.
    fn from(error: crate::sources::Error) -> Self {
        match error {
            crate::sources::Error::UseBundle(error) => Self::LoadPolicies(error),
            other => Self::FetchPolicies(other),
        }
    }
}

impl Error {
    /// No object was found in these files.
    fn nothing_in(files: &[PathBuf]) -> Self {
        let paths: Vec<_> = files.iter().map(|path| format!("`{}`", path.display())).collect();
        Self::NothingToExplain(paths.join(", "))
    }

    /// The message for people: several problems have a line each.
    pub fn message(&self) -> String {
        let lines: Vec<String> = match self {
            Self::LoadGrants(crate::grant::Error::CheckGrants { problems }) => {
                problems.0.iter().map(ToString::to_string).collect()
            }
            Self::Configure(crate::config::Error::CheckFields { problems }) => {
                problems.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        match lines.as_slice() {
            [] | [_] => text::chain(self),
            several => format!("found {} problems:\n  {}", several.len(), several.join("\n  ")),
        }
    }

    /// Whether a second signal cut the drain short; this has its own exit code.
    pub const fn was_aborted(&self) -> bool {
        matches!(self, Self::Serve(crate::server::Error::Abort))
    }
}

/// What people read of a command, as it is printed: in the log of a CI server no line of it is a command.
fn shown(text: &str) -> Vec<u8> {
    text::without_commands(text).into_owned().into_bytes()
}

/// Says on standard error what is no part of the output.
fn warn(message: &str) {
    anstream::eprintln!("wasmgate: {}", text::without_commands(message));
}

/// Writes to standard output. A closed pipe (`| head`) is not an error.
fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Write),
    }
}
