//! Errors of loading a bundle. Errors of evaluating one are [`super::BundleFailure`]s.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{ENTRYPOINT, LOG_DROP, LOG_MASK};

/// A bundle, or the engine under it, that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The engine refused its own settings.
    #[error("cannot start the policy engine: {reason}")]
    StartEngine {
        /// Error of the system or the engine.
        reason: String,
    },
    /// The folder of compiled policies cannot be used, or must not be.
    #[error("cannot keep compiled policies in `{}`: {reason}", folder.display())]
    OpenCompiled {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of the bundle could not be read.
    #[error("cannot read policy bundle `{}`", path.display())]
    ReadBundle {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive is damaged, or not a gzipped tar archive at all.
    #[error(
        "cannot unpack policy bundle `{bundle}`, expected a `.tar.gz` as `opa build` writes it: {reason}"
    )]
    UnpackBundle {
        /// Name of the bundle.
        bundle: String,
        /// What is wrong with the archive.
        reason: &'static str,
    },
    /// The bundle is larger than any sensible one, and may be a decompression bomb.
    #[error(
        "policy bundle `{bundle}` is refused: {what} of more than {limit} bytes, leave out what no rule reads"
    )]
    SizeBundle {
        /// Name of the bundle.
        bundle: String,
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// Rules read what the gate was told to leave out.
    #[error(
        "policy bundle `{bundle}` is refused: its `.manifest` says in `metadata.wasmgate.omit` that no rule reads `{key}`, and a rule reads \
         `input.{key}`, which it would not find; remove `{key}` there"
    )]
    OmitKey {
        /// Name of the bundle.
        bundle: String,
        /// The key of the input.
        key: String,
    },
    /// Something is outside of the parts of `data` that the bundle says are its own.
    #[error(
        "policy bundle `{bundle}` is refused, as OPA refuses it: {what} is outside of `roots` in its `.manifest`, which has {roots}; add \
         {root} to `roots`, or take it out of the bundle"
    )]
    LeaveRoots {
        /// Name of the bundle.
        bundle: String,
        /// What is outside, with its path.
        what: String,
        /// The roots, in words.
        roots: String,
        /// The root that it needs.
        root: String,
    },
    /// A value of the data is where a rule is.
    #[error(
        "policy bundle `{bundle}` is refused: its `data.json` has a value at {value}, over the rule {rule}, which `opa check` and `opa eval` \
         refuse; remove one of the two, or give it another name"
    )]
    CoverRule {
        /// Name of the bundle.
        bundle: String,
        /// The path of the value, in backticks.
        value: String,
        /// The path of the rule, in backticks.
        rule: String,
    },
    /// A document with more values than any sensible one, which would fill the memory.
    #[error(
        "policy bundle `{bundle}` is refused: `{file}` of more than {limit} values, leave out what no rule reads"
    )]
    CountValues {
        /// Name of the bundle.
        bundle: String,
        /// The document.
        file: String,
        /// The limit.
        limit: usize,
    },
    /// Data that no instance has memory for.
    #[error(
        "policy bundle `{bundle}` is refused: a `data.json` of {bytes} bytes does not fit into the memory of an evaluation, {limit} \
         bytes; leave out what no rule reads, or raise `policies.memoryLimitBytes`"
    )]
    FitData {
        /// Name of the bundle.
        bundle: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bundle has no compiled module.
    #[error(
        "policy bundle `{bundle}` has no `policy.wasm`, build it with `opa build -t wasm -e {ENTRYPOINT}`"
    )]
    FindModule {
        /// Name of the bundle.
        bundle: String,
    },
    /// The bundle has no data.
    #[error(
        "policy bundle `{bundle}` has no file `data.json`, so its rules would run without the data that they may need; \
         `opa build` always writes one: build the bundle again, or add the file with `{{}}` where there is no data"
    )]
    FindData {
        /// Name of the bundle.
        bundle: String,
    },
    /// A folder with more files than a bundle has.
    #[error(
        "policy bundle `{bundle}` is a folder with more than {limit} files and folders, name the one that `opa build` \
         wrote or its archive"
    )]
    WalkFolder {
        /// Name of the bundle.
        bundle: String,
        /// The limit.
        limit: usize,
    },
    /// A limit of zero, with which nothing could be evaluated.
    #[error(
        "`{field}` is zero, under which every evaluation would fail; write a larger one or leave the key out"
    )]
    SetLimit {
        /// The key of the configuration.
        field: &'static str,
    },
    /// A limit with which the bundle could judge no pod.
    #[error(
        "`{field}` is {limit}, and policy bundle `{bundle}` needs {least} for an ordinary pod or its own cases: it would refuse every \
         pod; write at least {least}, or leave the key out"
    )]
    RaiseLimit {
        /// Name of the bundle.
        bundle: String,
        /// The key of the configuration.
        field: &'static str,
        /// Its value.
        limit: u64,
        /// The smallest value that is enough.
        least: u64,
    },
    /// A file that affects the rules and that the gate does not read.
    #[error("policy bundle `{bundle}` holds `{file}`, which is not read: {fix}")]
    AcceptFile {
        /// Name of the bundle.
        bundle: String,
        /// The file.
        file: String,
        /// What to do instead.
        fix: &'static str,
    },
    /// `.manifest` or `data.json` is not valid.
    #[error("cannot read `{file}` of policy bundle `{bundle}`: {reason}")]
    ParseFile {
        /// Name of the bundle.
        bundle: String,
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A module that would keep the compiler busy, or fill the memory.
    #[error(
        "policy bundle `{bundle}` is refused: its `policy.wasm` has more than {most} {what}, and would take too long to compile, or too much \
         memory; write long lists into `data.json`, or split the rules into several bundles"
    )]
    BoundModule {
        /// Name of the bundle.
        bundle: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// `policy.wasm` is not Wasm, or not valid.
    #[error("cannot compile `policy.wasm` of policy bundle `{bundle}`: {reason}")]
    CompileModule {
        /// Name of the bundle.
        bundle: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The module is Wasm, but `opa build` did not make it.
    #[error(
        "`policy.wasm` of policy bundle `{bundle}` is not a compiled policy: {reason}; \
         build it with `opa build -t wasm -e {ENTRYPOINT}`"
    )]
    RecognisePolicy {
        /// Name of the bundle.
        bundle: String,
        /// Why not.
        reason: String,
    },
    /// A policy for another version of the interface between module and host.
    #[error(
        "policy bundle `{bundle}` speaks version {found} of OPA's Wasm interface and the gate speaks 1.2 and later 1.x, \
         rebuild it with a current opa"
    )]
    SpeakAbi {
        /// Name of the bundle.
        bundle: String,
        /// The version of the module.
        found: String,
    },
    /// The bundle has other entry points.
    #[error(
        "policy bundle `{bundle}` lacks the entry point `{ENTRYPOINT}` and has {found}, \
         build it with `opa build -t wasm -e {ENTRYPOINT}`"
    )]
    FindEntrypoint {
        /// Name of the bundle.
        bundle: String,
        /// The entry points that it has, in words.
        found: String,
    },
    /// It has rules for the log alone, and the configuration expects rules that judge.
    #[error(
        "policy bundle `{bundle}` has rules for the decision log alone and would judge no pod; build it with \
         `opa build -t wasm -e {ENTRYPOINT}` as well, or write `judges: false` for it in `policies.bundles`"
    )]
    JudgeNothing {
        /// Name of the bundle.
        bundle: String,
    },
    /// It has rules that judge, and the configuration says that it judges nothing.
    #[error(
        "policy bundle `{bundle}` has the entry point `{ENTRYPOINT}`, and `judges: false` in `policies.bundles` would pass over its \
         rules; leave that out, or build the bundle without this entry point"
    )]
    PassOverRules {
        /// Name of the bundle.
        bundle: String,
    },
    /// It has no rules for the log, and the configuration expects them alone.
    #[error(
        "policy bundle `{bundle}` has neither `{LOG_MASK}` nor `{LOG_DROP}`, for which `judges: false` in `policies.bundles` is meant; \
         build it with `-e` for each of the two that it has"
    )]
    FindLogRules {
        /// Name of the bundle.
        bundle: String,
    },
    /// Its functions have no names, so that those which compute otherwise than OPA cannot be found.
    #[error(
        "`policy.wasm` of policy bundle `{bundle}` has lost the names of its functions, without which some of them would \
         compute otherwise than `opa eval`; take it as `opa build` writes it, or strip nothing from it"
    )]
    NameFunctions {
        /// Name of the bundle.
        bundle: String,
    },
    /// The rules call functions that the gate does not have.
    #[error(
        "policy bundle `{bundle}` calls built-in functions that the gate does not have: {names}; \
         write the rules without them"
    )]
    SupplyBuiltins {
        /// Name of the bundle.
        bundle: String,
        /// Their names, comma-separated.
        names: String,
    },
    /// The module could not be started or given its data.
    #[error("cannot start policy bundle `{bundle}`: {reason}")]
    StartModule {
        /// Name of the bundle.
        bundle: String,
        /// Why.
        reason: String,
    },
    /// A key for signatures cannot be used.
    #[error("cannot read the key `{key}` of `policies.keys` from `{}`: {reason}", path.display())]
    ReadKey {
        /// Id of the key.
        key: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The signature is missing or wrong.
    #[error("policy bundle `{bundle}` is refused: {reason}")]
    VerifyBundle {
        /// Name of the bundle.
        bundle: String,
        /// Why.
        reason: String,
    },
    /// The bundle does otherwise than one of its own cases says.
    #[error(
        "policy bundle `{bundle}` fails its own case `{case}`: {reason}; mend the rules, or the case in `.manifest`"
    )]
    TryBundle {
        /// Name of the bundle.
        bundle: String,
        /// Name of the case.
        case: String,
        /// What was found.
        reason: String,
    },
    /// Two bundles have the same name, so records could not distinguish them.
    #[error("two policy bundles are named `{bundle}`, rename one")]
    NameBundle {
        /// The name.
        bundle: String,
    },
}

impl Error {
    /// Name of the bundle, as the message has it; `None` for an error of no bundle or of two.
    pub fn bundle(&self) -> Option<&str> {
        match self {
            Self::UnpackBundle { bundle, .. }
            | Self::SizeBundle { bundle, .. }
            | Self::CountValues { bundle, .. }
            | Self::FitData { bundle, .. }
            | Self::FindModule { bundle }
            | Self::FindData { bundle }
            | Self::WalkFolder { bundle, .. }
            | Self::AcceptFile { bundle, .. }
            | Self::ParseFile { bundle, .. }
            | Self::BoundModule { bundle, .. }
            | Self::CompileModule { bundle, .. }
            | Self::RecognisePolicy { bundle, .. }
            | Self::SpeakAbi { bundle, .. }
            | Self::FindEntrypoint { bundle, .. }
            | Self::JudgeNothing { bundle }
            | Self::PassOverRules { bundle }
            | Self::FindLogRules { bundle }
            | Self::NameFunctions { bundle }
            | Self::SupplyBuiltins { bundle, .. }
            | Self::OmitKey { bundle, .. }
            | Self::LeaveRoots { bundle, .. }
            | Self::CoverRule { bundle, .. }
            | Self::RaiseLimit { bundle, .. }
            | Self::VerifyBundle { bundle, .. }
            | Self::TryBundle { bundle, .. }
            | Self::StartModule { bundle, .. } => Some(bundle),
            Self::StartEngine { .. }
            | Self::OpenCompiled { .. }
            | Self::ReadBundle { .. }
            | Self::ReadKey { .. }
            | Self::SetLimit { .. }
            | Self::NameBundle { .. } => None,
        }
    }
}
