//! The commands of `policy` and their options.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand};

use super::{GateOptions, ImageOptions, OutputFormat, namespace};
use crate::cli::help::{
    POLICY_BENCH_HELP, POLICY_BUILD_HELP, POLICY_CAPABILITIES_HELP, POLICY_CHECK_HELP, POLICY_NEW_HELP,
    POLICY_PULL_HELP, POLICY_PUSH_HELP, POLICY_SIGN_HELP, POLICY_TEST_HELP, POLICY_VERIFY_HELP,
};
use crate::config::is_label;
use crate::grant::rule_name_problem;
use crate::sources::Algorithm;

/// The commands of `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Write a rule to begin with, its test and its cases
    #[command(after_help = POLICY_NEW_HELP)]
    New(PolicyNewOptions),
    /// Check the rules of a bundle
    #[command(after_help = POLICY_CHECK_HELP)]
    Check(PolicyCheckOptions),
    /// Run the tests of rules, and cases on the compiled rules
    #[command(after_help = POLICY_TEST_HELP)]
    Test(Box<PolicyTestOptions>),
    /// Compile rules to a bundle that the gate loads
    #[command(after_help = POLICY_BUILD_HELP)]
    Build(PolicyBuildOptions),
    /// Measure how long the compiled rules take
    #[command(after_help = POLICY_BENCH_HELP)]
    Bench(Box<PolicyBenchOptions>),
    /// Sign a bundle
    #[command(after_help = POLICY_SIGN_HELP)]
    Sign(PolicySignOptions),
    /// Say whether the gate takes the signature of a bundle
    #[command(after_help = POLICY_VERIFY_HELP)]
    Verify(PolicyVerifyOptions),
    /// Push a bundle to a registry
    #[command(after_help = POLICY_PUSH_HELP)]
    Push(Box<PolicyPushOptions>),
    /// Fetch a bundle from a registry
    #[command(after_help = POLICY_PULL_HELP)]
    Pull(Box<PolicyPullOptions>),
    /// Print what rules may call in the gate, for `opa build --capabilities`
    #[command(after_help = POLICY_CAPABILITIES_HELP)]
    Capabilities,
}

/// Where rules are, and what reads them.
#[derive(Debug, Clone, Parser)]
pub struct PolicySources {
    /// Folder of the rules
    #[arg(value_name = "RULES", value_parser = PathBufValueParser::new().map(no_flag))]
    pub rules: PathBuf,
    /// Leave out files and folders of this name, `*` stands for anything (repeatable)
    #[arg(long, value_name = "NAME")]
    pub ignore: Vec<String>,
    /// The opa to use
    #[arg(long, value_name = "FILE", env = "WASMGATE_OPA", default_value = "opa")]
    pub opa: PathBuf,
    /// Do not check types against the schema of `input`, for rules that were written for another document and get it by `with input as`
    #[arg(long)]
    pub no_schema: bool,
}

/// Options of `policy check`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyCheckOptions {
    /// The rules
    #[command(flatten)]
    pub sources: PolicySources,
    /// The regal to use [default: the one on PATH, if there is one]
    #[arg(long, value_name = "FILE", env = "WASMGATE_REGAL")]
    pub regal: Option<PathBuf>,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// The longest that a test takes, in seconds, as for `opa test`.
pub const TEST_TIMEOUT: u64 = 5;

/// Options of `policy test`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyTestOptions {
    /// The rules
    #[command(flatten)]
    pub sources: PolicySources,
    /// Also write the results to FILE, in the XML that CI systems read
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Run everything again whenever a file below RULES changes, or one that a case names, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Also say which lines of the rules neither a test of `opa test` nor a case reaches, as opa counts them
    #[arg(long)]
    pub coverage: bool,
    /// The same, and fail if they reach less of the rules, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub threshold: Option<f64>,
    /// Longest time of one test of `opa test`, and of the rules on one case in `opa eval`, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TEST_TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub test_timeout: u64,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// What cases are judged with
    #[command(flatten)]
    pub cases: CaseOptions,
}

/// A path that opa and regal do not take for a flag.
fn no_flag(path: PathBuf) -> PathBuf {
    let is_like_a_flag = path.as_os_str().as_encoded_bytes().starts_with(b"-");
    if is_like_a_flag { Path::new(".").join(path) } else { path }
}

fn percent(written: &str) -> Result<f64, String> {
    let read = written.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    read.ok_or_else(|| "write a number from 0 to 100".into())
}

/// What makes an input of the manifests in cases.
#[derive(Debug, Clone, Parser)]
pub struct CaseOptions {
    /// Namespace for manifests that name none
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub namespace: String,
    /// Longest time to look at the images of one manifest, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}

/// Options of `policy bench`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyBenchOptions {
    /// The rules
    #[command(flatten)]
    pub sources: PolicySources,
    /// Evaluations of each case
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// What cases are judged with
    #[command(flatten)]
    pub cases: CaseOptions,
}

/// Options of `policy new`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyNewOptions {
    /// Name of the rule, as violations and the configuration have it
    #[arg(value_name = "NAME", value_parser = rule_name)]
    pub rule: String,
    /// Folder to write to; created if missing
    #[arg(long = "into", value_name = "RULES", default_value = "rules")]
    pub folder: PathBuf,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
}

fn bundle_name(name: &str) -> Result<String, String> {
    if name.trim().is_empty() { Err("write the name of the bundle".into()) } else { Ok(name.into()) }
}

fn rule_name(name: &str) -> Result<String, String> {
    // `opa` takes `a_test.rego` for a test, and so does the gate.
    if name.ends_with("-test") {
        return Err("its file would count as a test, choose a name that does not end with `-test`".into());
    }
    if let Some(problem) = rule_name_problem(name) {
        return Err(problem);
    }
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    if is_label(name) && begins {
        return Ok(name.to_string());
    }
    Err("write at most 63 lower-case letters, digits and `-`, a letter first".into())
}

/// A key, and what it signs or verifies.
#[derive(Debug, Clone, Parser)]
pub struct KeyFlags {
    /// The key in PEM: to sign the private one, to verify the public one or a certificate; or the secret of `HS…`
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// How the bundle is signed
    #[arg(long, value_name = "NAME", default_value = "RS256")]
    pub algorithm: Algorithm,
    /// Id of the key in the signature, by which `policies.keys` names it
    #[arg(long, value_name = "ID", default_value = "default")]
    pub key_id: String,
    /// Scope of the signature
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub scope: String,
}

/// Options of `policy sign`.
#[derive(Debug, Clone, Parser)]
pub struct PolicySignOptions {
    /// The bundle: an archive or its unpacked folder
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// The key
    #[command(flatten)]
    pub key: KeyFlags,
    /// The archive to write [default: BUNDLE itself]
    #[arg(long = "archive", short = 'f', value_name = "FILE")]
    pub archive: Option<PathBuf>,
    /// The opa to use
    #[arg(long, value_name = "FILE", env = "WASMGATE_OPA", default_value = "opa")]
    pub opa: PathBuf,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// Options of `policy verify`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyVerifyOptions {
    /// The bundle: an archive or its unpacked folder
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// The key
    #[command(flatten)]
    pub key: KeyFlags,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// Options of `policy push`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyPushOptions {
    /// The archive
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Where to: `registry/repository:tag`
    #[arg(value_name = "REFERENCE")]
    pub to: String,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// How registries are reached
    #[command(flatten)]
    pub images: ImageOptions,
}

/// Options of `policy pull`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyPullOptions {
    /// What to fetch: `registry/repository:tag`, or with `@sha256:…`
    #[arg(value_name = "REFERENCE")]
    pub from: String,
    /// The archive to write
    #[arg(long = "archive", short = 'f', value_name = "FILE", default_value = "bundle.tar.gz")]
    pub archive: PathBuf,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// How registries are reached
    #[command(flatten)]
    pub images: ImageOptions,
}

/// Options of `policy build`.
#[derive(Debug, Clone, Parser)]
pub struct PolicyBuildOptions {
    /// The rules
    #[command(flatten)]
    pub sources: PolicySources,
    /// The archive to write
    #[arg(long = "archive", short = 'f', value_name = "FILE", default_value = "bundle.tar.gz")]
    pub archive: PathBuf,
    /// Revision of the bundle, which each record of a decision names
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub revision: String,
    /// Place in the order of the versions of the bundle, instead of that in `.manifest`: a gate refuses a lower one than it had
    #[arg(long, value_name = "NUMBER")]
    pub sequence: Option<u64>,
    /// Name that the bundle gives itself, instead of that in `.manifest`: a gate takes a signed one as the bundle of this name alone
    #[arg(long, value_name = "NAME", value_parser = bundle_name)]
    pub name: Option<String>,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
}
