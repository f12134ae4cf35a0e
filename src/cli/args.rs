//! The arguments of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

mod policy;

pub use policy::{
    CaseOptions, KeyFlags, PolicyBenchOptions, PolicyBuildOptions, PolicyCheckOptions, PolicyCommand,
    PolicyNewOptions, PolicyPullOptions, PolicyPushOptions, PolicySignOptions, PolicySources,
    PolicyTestOptions, PolicyVerifyOptions, TEST_TIMEOUT,
};

use super::help::{
    CHECK_HELP, COMPLETION_HELP, DIFF_HELP, EXPLAIN_HELP, INSPECT_HELP, MAN_HELP, POLICY_HELP, REPLAY_HELP,
    SCAN_HELP, SERVE_HELP, SUGGEST_HELP,
};
use crate::capability::Capability;
use crate::config::is_label;
use crate::text;

/// Admission gate for WebAssembly on Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "wasmgate",
    version,
    about = "Admission gate for WebAssembly on Kubernetes",
    long_about = "wasmgate detects from the registry that an image is Wasm, places and sizes its pod, and admits the \
                  pod only with the WASI capabilities that it was granted.\n\n\
                  Try it without a cluster: `wasmgate explain -f deployment.yaml` shows what would happen to a \
                  manifest, `wasmgate inspect IMAGE` shows what an image is and what it can call."
)]
pub struct Args {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the mutating and validating webhooks
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeOptions>),
    /// Show what the gate would do with manifests, reviews and records: images, patch, capabilities, verdict
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Box<ExplainOptions>),
    /// Write the smallest WasiGrant that would admit manifests or an image
    #[command(after_help = SUGGEST_HELP)]
    Suggest(Box<SuggestOptions>),
    /// Check a configuration, grants and policies before they are rolled out
    #[command(after_help = CHECK_HELP)]
    Check(Box<CheckOptions>),
    /// Show what an image or a Wasm file is, and what it can call
    #[command(after_help = INSPECT_HELP)]
    Inspect(Box<InspectOptions>),
    /// Show what a new image, Wasm file or manifest can do that the old one could not
    #[command(after_help = DIFF_HELP)]
    Diff(Box<DiffOptions>),
    /// Check, test and build policies of your own
    #[command(after_help = POLICY_HELP)]
    Policy {
        /// What to do
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Show what other policies would have said of recorded decisions
    #[command(after_help = REPLAY_HELP)]
    Replay(Box<ReplayOptions>),
    /// Judge every pod and template of a cluster, or of manifests, as it stands
    #[command(after_help = SCAN_HELP)]
    Scan(Box<ScanOptions>),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one for each command
    #[command(after_help = MAN_HELP)]
    Man {
        /// The folder; it is made if its parent is there
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Sources of configuration, grants, policies and images; shared by most commands. A flag overrides the configuration file.
#[derive(Debug, Clone, Default, Parser)]
pub struct GateOptions {
    /// The configuration file, and how images are reached
    #[command(flatten)]
    pub images: ImageOptions,
    /// Directory of grants and exceptions: WasiGrant, ClusterWasiGrant, WasiException
    #[arg(long, value_name = "DIR", help_heading = "Gate")]
    pub grants: Option<PathBuf>,
    /// Directory of RuntimeClass, LimitRange and Namespace manifests that stand in for the cluster
    #[arg(long, value_name = "DIR", help_heading = "Gate")]
    pub cluster: Option<PathBuf>,
    /// Policy bundle to load beside the baseline: a `.tar.gz` of `opa build -t wasm`, its unpacked folder, `https://…`, or
    /// `oci://registry/repository:tag` (repeatable)
    #[arg(long = "bundle", value_name = "PLACE", help_heading = "Gate")]
    pub bundles: Vec<String>,
    /// Folder in which compiled policies are kept, so that the next start is faster; `off` for none [default: for `serve` that of
    /// the configuration, else `wasmgate/compiled` in the user's folder of caches]
    #[arg(long, value_name = "DIR", env = "WASMGATE_COMPILED_DIR", help_heading = "Gate")]
    pub compiled_dir: Option<PathBuf>,
}

/// The configuration file, and how images are reached: all that a command needs which judges nothing.
#[derive(Debug, Clone, Default, Parser)]
pub struct ImageOptions {
    /// Configuration file (kind `GateConfiguration`)
    #[arg(long, short = 'c', value_name = "FILE", env = "WASMGATE_CONFIG", help_heading = "Gate")]
    pub config: Option<PathBuf>,
    /// Serve images of a registry host (or host/prefix) from OCI image-layout folders below DIR (repeatable)
    #[arg(long = "image-layouts", value_name = "HOST=DIR", help_heading = "Images")]
    pub image_layouts: Vec<String>,
    /// Registry that the gate may ask, `*.suffix` for subdomains (repeatable; default: any public one)
    #[arg(long = "allow-registry", value_name = "HOST", help_heading = "Images")]
    pub allow_registries: Vec<String>,
    /// Registry to ask over plain HTTP, host:port; it is also allowed (repeatable)
    #[arg(long = "insecure-registry", value_name = "HOST", help_heading = "Images")]
    pub insecure_registries: Vec<String>,
    /// PEM file with a CA to verify registries with, in addition to the public ones (repeatable)
    #[arg(long = "registry-ca", value_name = "FILE", help_heading = "Images")]
    pub registry_cas: Vec<PathBuf>,
    /// Docker `config.json` with registry credentials
    #[arg(long, value_name = "FILE", env = "WASMGATE_DOCKER_CONFIG", help_heading = "Images")]
    pub docker_config: Option<PathBuf>,
}

impl ImageOptions {
    /// The same for a whole gate, with nothing else.
    pub fn gate(&self) -> GateOptions {
        GateOptions { images: self.clone(), ..GateOptions::default() }
    }
}

/// Options of `serve`.
#[derive(Debug, Clone, Parser)]
pub struct ServeOptions {
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
    /// Watch the cluster of this kubeconfig's current context: RuntimeClasses, grants, namespaces and the rest
    #[arg(long, value_name = "FILE", env = "WASMGATE_KUBECONFIG", help_heading = "Gate")]
    pub kubeconfig: Option<PathBuf>,
    /// Keep facts about images in FILE, so that they survive a restart
    #[arg(long, value_name = "FILE", env = "WASMGATE_IMAGE_STORE", help_heading = "Images")]
    pub image_store: Option<PathBuf>,
    /// Address of the webhooks (HTTPS) [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDR", help_heading = "Server")]
    pub listen: Option<SocketAddr>,
    /// Address of /livez, /readyz and /metrics (plain HTTP) [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", help_heading = "Server")]
    pub probes: Option<SocketAddr>,
    /// Address of a page for people, with what runs, what it can do, and what was refused (HTTPS; who may read it is asked of
    /// the API server) [default: none]
    #[arg(long, value_name = "ADDR", help_heading = "Server")]
    pub page: Option<SocketAddr>,
    /// Certificate chain in PEM; reloaded when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Server")]
    pub tls_cert: Option<PathBuf>,
    /// Private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Server")]
    pub tls_key: Option<PathBuf>,
    /// Directory for the development CA and certificate, created when no certificate is given [default: certs]
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    pub cert_dir: Option<PathBuf>,
    /// Additional name or address on the development certificate (repeatable)
    #[arg(long = "cert-name", value_name = "NAME", help_heading = "Server")]
    pub cert_names: Vec<String>,
    /// Where decision records go: `-` for standard output, `off`, or a file [default: -]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub decision_log: Option<String>,
    /// Format of the gate's own log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, help_heading = "Server")]
    pub log_format: LogFormat,
}

/// Format of the gate's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

fn namespace(name: &str) -> Result<String, String> {
    if is_label(name) {
        return Ok(name.to_string());
    }
    Err("write the name of a namespace: at most 63 lower-case letters, digits and `-`".into())
}

fn capability(name: &str) -> Result<Capability, String> {
    name.parse().map_err(|unknown| {
        format!("{unknown}{}", text::did_you_mean(name, Capability::ALL.iter().map(|one| one.as_str())))
    })
}

/// Options of `explain`.
#[derive(Debug, Clone, Parser)]
pub struct ExplainOptions {
    /// Manifests, `AdmissionReview` documents or decision records: file, folder, or `-` for standard input (repeatable)
    #[arg(long = "filename", short = 'f', value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// Namespace for objects that name none
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub namespace: String,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Also print the input document of the policies, for rule authors
    #[arg(long)]
    pub show_input: bool,
    /// Ask the validating webhook alone about a review, such as one that it has received
    #[arg(long)]
    pub validate_only: bool,
    /// Longest time to look at the images of one object, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}

/// Options of `suggest`.
#[derive(Debug, Clone, Parser)]
pub struct SuggestOptions {
    /// Image, judged as a pod with this container only: no volumes, no variables, no service-account token
    #[arg(value_name = "IMAGE", conflicts_with = "files")]
    pub image: Option<String>,
    /// Manifest file, folder, or `-` for standard input (repeatable)
    #[arg(long = "filename", short = 'f', value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Write network policies instead, which hold pods to the addresses of their grants where the runtime does not
    #[arg(long, conflicts_with = "image")]
    pub network_policy: bool,
    /// Namespace for objects that name none, and for an image
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub namespace: String,
    /// Longest time to look at the images of one object, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}

/// Options of `check`.
#[derive(Debug, Clone, Parser)]
pub struct CheckOptions {
    /// File, folder, or `-` for standard input
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}

/// Options of `diff`.
#[derive(Debug, Clone, Parser)]
pub struct DiffOptions {
    /// The old image, `oci:PATH[:TAG]`, Wasm file, manifest file or folder
    #[arg(value_name = "OLD", required_unless_present = "files")]
    pub old: Option<String>,
    /// The new one
    #[arg(value_name = "NEW", required_unless_present = "files")]
    pub new: Option<String>,
    /// Manifest file, folder, or `-` for standard input, to compare with the objects of the same names in the cluster (repeatable)
    #[arg(long = "filename", short = 'f', value_name = "PATH", conflicts_with_all = ["old", "new"])]
    pub files: Vec<PathBuf>,
    /// Kubeconfig of the cluster [default: KUBECONFIG, ~/.kube/config, or the cluster that it runs in]
    #[arg(long, value_name = "FILE", requires = "files")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", requires = "files")]
    pub context: Option<String>,
    /// Namespace for objects that name none, and for images
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub namespace: String,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: DiffFormat,
    /// Longest time to look at the images of one object, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}

/// Output format of `diff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DiffFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// For the description of a pull request.
    Markdown,
}

/// Options of `inspect`.
#[derive(Debug, Clone, Parser)]
pub struct InspectOptions {
    /// Image name, `oci:PATH[:TAG]` for an image layout, or a Wasm file
    #[arg(value_name = "IMAGE|FILE")]
    pub target: String,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Longest time to look at the image, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// How images are reached
    #[command(flatten)]
    pub images: ImageOptions,
}

/// Output format of `scan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ScanFormat {
    /// A table for people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One page for a browser, which loads nothing.
    Html,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// The report of a test run, for CI servers.
    #[value(help = "JUnit XML, for CI servers")]
    Junit,
    /// Workflow commands of GitHub Actions, for annotations.
    Github,
}

/// Options of `scan`.
#[derive(Debug, Clone, Parser)]
pub struct ScanOptions {
    /// Manifest file, folder, or `-` for standard input, instead of a cluster (repeatable)
    #[arg(long = "filename", short = 'f', value_name = "PATH", conflicts_with_all = ["kubeconfig", "context"])]
    pub files: Vec<PathBuf>,
    /// Kubeconfig of the cluster [default: KUBECONFIG, ~/.kube/config, or the cluster that it runs in]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Only this namespace (repeatable); a single one is also that of manifests that name none
    #[arg(long = "namespace", short = 'n', value_name = "NAME", value_parser = namespace, help_heading = "Filters")]
    pub namespaces: Vec<String>,
    /// Only findings of this rule (repeatable)
    #[arg(long = "rule", value_name = "RULE", help_heading = "Filters")]
    pub rules: Vec<String>,
    /// Only what can use this capability, and findings about it (repeatable)
    #[arg(long = "capability", value_name = "NAME", value_parser = capability, help_heading = "Filters")]
    pub capabilities: Vec<Capability>,
    /// Only pods and templates with this image: a name, or a pattern with `*` as in grants (repeatable)
    #[arg(long = "image", value_name = "PATTERN", help_heading = "Filters")]
    pub images: Vec<String>,
    /// Also list workloads that the gate leaves alone
    #[arg(long)]
    pub all: bool,
    /// Judge every pod on its own; by default, pods of one template that differ only in fields which the built-in rules ignore are judged once
    #[arg(long)]
    pub every_pod: bool,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: ScanFormat,
    /// Longest time to look at the images of one object, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Keep facts about images in FILE, so that the next scan does not read them again
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    pub image_store: Option<PathBuf>,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}

/// Options of `replay`.
#[derive(Debug, Clone, Parser)]
pub struct ReplayOptions {
    /// Decision log, or `-` for standard input (repeatable)
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Sources
    #[command(flatten)]
    pub gate: GateOptions,
}
