//! Checks of single fields whose wrong values would be found only when the gate judges a pod, or by the API server when a
//! pod was patched with them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Toleration};

use super::value::{duration, wrong};
use super::{Error, File};
use crate::audit::{OWN_LABELS, UploadOptions};
use crate::image::Feature;
use crate::image::reference::Reference;
use crate::lookup::LookupOptions;
use crate::otlp::TracingOptions;
use crate::quantity::{Quantity, WrittenQuantity};
use crate::runtime::{Family, Profile, Sizing};

/// Problems of a configuration, in the order of its checks.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Error>);

impl Problems {
    pub(super) fn add(&mut self, problem: Error) {
        self.0.push(problem);
    }

    /// The value of a check; `None`, and one problem more, if it failed.
    pub(super) fn take<T>(&mut self, checked: Result<T, Error>) -> Option<T> {
        checked.map_err(|problem| self.add(problem)).ok()
    }

    /// The problems, one by one.
    pub(super) fn into_list(self) -> Vec<Error> {
        self.0
    }

    /// The problems as one error; `None` when there are none.
    pub(super) fn error(mut self) -> Option<Error> {
        match self.0.len() {
            0 | 1 => self.0.pop(),
            _ => Some(Error::CheckFields { problems: self.0 }),
        }
    }
}

/// The shortest time in which a review or an evaluation of the rules can end on an idle machine, with a margin.
const SHORTEST: Duration = Duration::from_millis(10);

/// A time span in which work must end: with less than ten milliseconds no work would.
pub(super) fn limit(field: &str, value: SignedDuration) -> Result<Duration, Error> {
    let read = duration(field, value)?;
    at_least_shortest(field, read).map(|()| read)
}

fn at_least_shortest(field: &str, value: Duration) -> Result<(), Error> {
    if value < SHORTEST {
        let message = "no work can end in so short a time; write at least `10ms`";
        let written = if value.is_zero() { "0s".to_string() } else { format!("{value:?}") };
        return Err(wrong(field, &written, message));
    }
    Ok(())
}

/// The values that no other check reads.
pub(super) fn file(file: &File, problems: &mut Problems) {
    zeros(file, problems);
    for (field, value) in [
        ("images.connectTimeout", file.images.connect_timeout),
        ("images.readTimeout", file.images.read_timeout),
        ("images.lookupTimeout", file.images.lookup_timeout),
    ] {
        problems.take(at_least_shortest(field, value));
    }
    let exempt = file.exempt_namespaces.iter().map(|name| (String::from("exemptNamespaces"), name));
    let enforced = file.enforcement.namespaces.keys();
    let enforced = enforced.map(|name| (format!("enforcement.namespaces.{name}"), name));
    for (field, name) in exempt.chain(enforced).filter(|(_, name)| !is_label(name)) {
        let message = "write the name of one namespace: lower-case letters, digits and `-`; patterns are not \
                       supported";
        problems.add(wrong(&field, name, message));
    }
    warm(&file.images, problems);
    folders(file, problems);
    for label in file.decision_log.labels.keys().filter(|label| OWN_LABELS.contains(&label.as_str())) {
        let message = "every record has this label from the gate itself; write another name";
        problems.add(wrong("decisionLog.labels", label, message));
    }
    for name in file.decision_log.mask_annotations.annotations.iter().filter(|name| !is_annotation(name)) {
        let message = "write the key of an annotation, or all that begin with a prefix, as `example.com/*`";
        problems.add(wrong("decisionLog.maskAnnotations", name, message));
    }
    if let Some((field, value, cure)) = file.decision_log.upload.as_ref().and_then(UploadOptions::problem) {
        problems.add(wrong(&format!("decisionLog.upload.{field}"), &value, cure));
    }
    if let Some((field, value, cure)) = file.tracing.as_ref().and_then(TracingOptions::problem) {
        problems.add(wrong(&format!("tracing.{field}"), &value, cure));
    }
    if let Some((field, value, cure)) = file.reports.problem() {
        problems.add(wrong(&format!("reports.{field}"), &value, cure));
    }
    if file.reports.enabled && !file.kubernetes.watch {
        let message = "reports are about a cluster: set `kubernetes.watch: true`, or leave this out";
        problems.add(wrong("reports.enabled", &"true", message));
    }
    learning(file, problems);
    for (index, profile) in file.runtimes.profiles.iter().enumerate() {
        profile_values(&format!("runtimes.profiles[{index}]"), profile, problems);
    }
}

fn learning(file: &File, problems: &mut Problems) {
    let learn = &file.sizing.learn;
    if let Some((field, value, cure)) = learn.problem() {
        problems.add(wrong(&format!("sizing.learn.{field}"), &value, cure));
    }
    if learn.enabled && !file.kubernetes.watch && file.cluster.is_none() {
        let message = "what images use is read in a cluster: set `kubernetes.watch: true`, or leave this out";
        problems.add(wrong("sizing.learn.enabled", &"true", message));
    }
}

/// Whether annotations can have this key (`apimachinery:pkg/util/validation/validation.go`, `IsQualifiedName`, less its lengths), or a
/// key that begins so.
fn is_annotation(name: &str) -> bool {
    let key = name.strip_suffix('*').unwrap_or(name);
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !key.is_empty() && key.chars().all(known) && key.matches('/').count() <= 1
}

/// A folder without a name would be the one in which the gate was started.
fn folders(file: &File, problems: &mut Problems) {
    for (field, folder) in [
        ("policies.store", &file.policies.store),
        ("policies.compiledDir", &file.policies.compiled_dir),
        ("images.store", &file.images.store),
    ] {
        if folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            problems.add(wrong(field, &"", "write the path of a folder, or leave the field out"));
        }
    }
}

/// Limits with which every image, rule or record would be refused.
fn zeros(file: &File, problems: &mut Problems) {
    let limits = &file.images.limits;
    let images = "no image could be read; write a number of bytes, or leave the field out for the default";
    let rules = "no rule could be evaluated; write a number, or leave the field out for the default";
    for (field, is_zero, message) in [
        ("images.memoryBytes", file.images.memory_bytes == 0, images),
        ("images.limits.manifest", limits.manifest == 0, images),
        ("images.limits.config", limits.config == 0, images),
        ("images.limits.layer", limits.layer == 0, images),
        ("images.limits.unpacked", limits.unpacked == 0, images),
        ("images.concurrentLookups", file.images.concurrent_lookups == 0, "write at least `1`"),
        ("policies.fuelLimit", file.policies.fuel_limit == 0, rules),
        ("policies.memoryLimitBytes", file.policies.memory_limit_bytes == 0, rules),
        (
            "decisionLog.bufferBytes",
            file.decision_log.buffer_bytes == 0,
            "every record would be dropped; `decisionLog.output: off` writes none",
        ),
    ] {
        if is_zero {
            problems.add(wrong(field, &"0", message));
        }
    }
}

/// Puts defaults in the place of values with which the checks of images and rules would fail in turn.
pub(super) fn replace_unusable(file: &mut File) {
    let default = File::default();
    for (value, default) in [
        (&mut file.images.memory_bytes, default.images.memory_bytes),
        (&mut file.policies.fuel_limit, default.policies.fuel_limit),
    ] {
        if *value == 0 {
            *value = default;
        }
    }
    if file.policies.memory_limit_bytes == 0 {
        file.policies.memory_limit_bytes = default.policies.memory_limit_bytes;
    }
    if limit("policies.timeLimit", file.policies.time_limit).is_err() {
        file.policies.time_limit = default.policies.time_limit;
    }
}

fn warm(images: &LookupOptions, problems: &mut Problems) {
    for (index, image) in images.warm.iter().enumerate() {
        if let Err(error) = Reference::parse(image) {
            let message = format!("write an image such as `ghcr.io/team/app:1.0`: {error}");
            problems.add(wrong(&format!("images.warm[{index}]"), image, &message));
        }
    }
}

/// What the gate writes on pods of the profile, by the rules of the API server
/// (`kubernetes:pkg/apis/core/validation/validation.go`).
fn profile_values(field: &str, profile: &Profile, problems: &mut Problems) {
    let class = "name a RuntimeClass: lower-case letters, digits, `-` and `.`, such as `wasmtime-spin-v2`";
    let aliases = profile.aliases.iter().map(|alias| ("aliases", alias));
    for (name, value) in aliases.chain([("runtimeClass", &profile.runtime_class)]) {
        if !is_subdomain(value) {
            problems.add(wrong(&format!("{field}.{name}"), value, class));
        }
    }
    for (index, requirement) in profile.node_affinity.iter().enumerate() {
        problems.take(node_requirement(&format!("{field}.nodeAffinity[{index}]"), requirement));
    }
    for (index, toleration) in profile.tolerations.iter().enumerate() {
        problems.take(tolerated(&format!("{field}.tolerations[{index}]"), toleration));
    }
    sizing(&format!("{field}.sizing"), &profile.sizing, problems);
    of_spin(field, profile, problems);
    of_wasmtime(field, profile, problems);
    of_engine(field, profile, problems);
}

/// Of a runtime that is not known it is assumed that it runs every proposal.
fn of_engine(field: &str, profile: &Profile, problems: &mut Problems) {
    let field = format!("{field}.proposals");
    let proposals = Feature::PROPOSALS.map(Feature::as_str).join(", ");
    for other in profile.proposals.iter().filter(|feature| !Feature::PROPOSALS.contains(feature)) {
        let message = format!("it is no proposal of WebAssembly; write some of {proposals}");
        problems.add(wrong(&field, &other.as_str(), &message));
    }
    if !profile.proposals.is_empty() && !Family::DESCRIBED.contains(&profile.ambient) {
        let written: Vec<&str> = profile.proposals.iter().map(|feature| feature.as_str()).collect();
        let message = "it says something of one runtime: leave it out, or write in `ambient` which one the class leads to";
        problems.add(wrong(&field, &written.join(", "), message));
    }
}

/// Of other runtimes it is known by which C library they resolve names and look up users, and that they allocate on demand.
fn of_wasmtime(field: &str, profile: &Profile, problems: &mut Problems) {
    if profile.allocates_on_demand && profile.ambient != Family::RunwasiWasmtime {
        let message = "it says something of runwasi's wasmtime shim: leave it out, or write `ambient: runwasi-wasmtime`";
        problems.add(wrong(&format!("{field}.allocatesOnDemand"), &"true", message));
    }
    if profile.built_with_musl && !matches!(profile.ambient, Family::RunwasiWasmtime | Family::YoukiWasmtime)
    {
        let message = "it says something of runwasi's wasmtime shim and of youki: leave it out, or write `ambient: runwasi-wasmtime` \
                       or `ambient: youki-wasmtime`";
        problems.add(wrong(&format!("{field}.builtWithMusl"), &"true", message));
    }
}

/// What a profile says of the Spin shim alone would be believed of no other.
fn of_spin(field: &str, profile: &Profile, problems: &mut Problems) {
    let names: Vec<&str> = profile.shim_variables.iter().map(String::as_str).collect();
    let said = [
        ("checksHosts", profile.checks_hosts, "true".to_string()),
        ("confinesSqlite", profile.confines_sqlite, "true".to_string()),
        ("shimVariables", !names.is_empty(), names.join(", ")),
    ];
    let others = said.into_iter().filter(|(_, is_said, _)| *is_said && profile.ambient != Family::Spin);
    for (name, _, value) in others {
        let message = "it says something of the Spin shim: leave it out, or write `ambient: spin`";
        problems.add(wrong(&format!("{field}.{name}"), &value, message));
    }
    // A `*` alone would make a secret of every variable, and one in the middle would stand for itself.
    let is_pattern = |name: &&&str| {
        let start = name.strip_suffix('*').unwrap_or(name);
        !start.is_empty() && !start.contains(['*', '='])
    };
    for name in names.iter().filter(|name| !is_pattern(name)) {
        let message = "write the name of a variable, with a `*` at its end for any rest, such as `ACME_*`";
        problems.add(wrong(&format!("{field}.shimVariables"), name, message));
    }
}

fn node_requirement(field: &str, requirement: &NodeSelectorRequirement) -> Result<(), Error> {
    if requirement.key.is_empty() {
        return Err(wrong(&format!("{field}.key"), &"", "write the key of a node's label"));
    }
    let values = requirement.values.as_deref().unwrap_or_default();
    let one_number = matches!(values, [one] if one.parse::<i64>().is_ok());
    let (fits, message) = match requirement.operator.as_str() {
        "In" | "NotIn" => (!values.is_empty(), "give at least one value to `In` and `NotIn`"),
        "Exists" | "DoesNotExist" => (values.is_empty(), "`Exists` and `DoesNotExist` take no values"),
        "Gt" | "Lt" => (one_number, "`Gt` and `Lt` take one whole number"),
        other => {
            let message = "write In, NotIn, Exists, DoesNotExist, Gt or Lt";
            return Err(wrong(&format!("{field}.operator"), &other, message));
        }
    };
    if fits { Ok(()) } else { Err(wrong(&format!("{field}.values"), &values.join(", "), message)) }
}

fn tolerated(field: &str, toleration: &Toleration) -> Result<(), Error> {
    let known = |name: &str, value: Option<&String>, allowed: &[&str]| {
        let value = value.map_or("", String::as_str);
        if value.is_empty() || allowed.contains(&value) {
            return Ok(());
        }
        Err(wrong(&format!("{field}.{name}"), &value, &format!("write {}", allowed.join(" or "))))
    };
    known("operator", toleration.operator.as_ref(), &["Equal", "Exists"])?;
    known("effect", toleration.effect.as_ref(), &["NoSchedule", "PreferNoSchedule", "NoExecute"])
}

/// The most bytes of memory for each byte of code that a profile may say: twenty times what was measured.
const MOST_PER_BYTE: u64 = 1000;

fn sizing(field: &str, sizing: &Sizing, problems: &mut Problems) {
    let written = [
        ("memoryRequest", Some(&sizing.memory_request)),
        ("memoryLimit", Some(&sizing.memory_limit)),
        ("cpuRequest", Some(&sizing.cpu_request)),
        ("cpuLimit", Some(&sizing.cpu_limit)),
        ("baseMemory", sizing.base_memory.as_ref()),
        ("fileBaseMemory", sizing.file_base_memory.as_ref()),
    ];
    let mut negative = BTreeSet::new();
    for (name, value) in written {
        let Some(value) = value.filter(|value| value.quantity() < Quantity::ZERO) else { continue };
        negative.insert(name);
        problems.add(wrong(&format!("{field}.{name}"), &value.as_str(), "a size is not negative"));
    }
    let numbers = [
        ("bytesPerCodeByte", sizing.bytes_per_code_byte.as_ref()),
        ("fileBytesPerCodeByte", sizing.file_bytes_per_code_byte.as_ref()),
    ];
    for (name, value) in numbers {
        let Some(value) = value.filter(|value| value.thousandths() > MOST_PER_BYTE * 1000) else { continue };
        let message = format!("write at most {MOST_PER_BYTE}; it is a number of bytes");
        problems.add(wrong(&format!("{field}.{name}"), &value.as_str(), &message));
    }
    let mut pair = |(request, asked): (&str, &WrittenQuantity), (limit, most): (&str, &WrittenQuantity)| {
        if asked.quantity() > most.quantity() && !negative.contains(limit) {
            let message = format!("`{limit}` is `{}`; a request is at most its limit", most.as_str());
            problems.add(wrong(&format!("{field}.{request}"), &asked.as_str(), &message));
        }
    };
    pair(("memoryRequest", &sizing.memory_request), ("memoryLimit", &sizing.memory_limit));
    pair(("cpuRequest", &sizing.cpu_request), ("cpuLimit", &sizing.cpu_limit));
}

/// Whether the text is a DNS label (RFC 1123), as the name of a namespace is.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && has_letters_of_label(text)
}

/// Whether the text is a DNS subdomain (RFC 1123), as the name of a RuntimeClass is. A part of it may be longer than a
/// label.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(has_letters_of_label)
}

/// Whether the text is a DNS label but for its length.
fn has_letters_of_label(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [text.bytes().next(), text.bytes().next_back()];
    text.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
        && edges.into_iter().all(|edge| edge.is_some_and(alphanumeric))
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, parse, resolve};

    fn problem(body: &str) -> String {
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        let file = parse("gate.yaml", &format!("{head}{body}\n")).unwrap();
        resolve(file, Overrides::default()).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn traces_without_a_place_that_can_be_used_are_refused() {
        for (body, expected) in [
            (
                "tracing: {endpoint: 'http://a.example/v1/traces'}",
                "`tracing.endpoint` cannot be `http://a.example/v1/traces`",
            ),
            ("tracing: {endpoint: a.example}", "`https://collector.example.com/v1/traces`"),
            (
                "tracing: {endpoint: 'https://a.example', samplingRatePerMillion: 1000001}",
                "`tracing.samplingRatePerMillion` cannot be `1000001`",
            ),
            (
                "tracing: {endpoint: 'https://a.example', clientCertFile: c}",
                "`tracing.clientCertFile` cannot be `c`",
            ),
        ] {
            let error = problem(body);
            assert!(error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn a_limit_with_which_nothing_works_is_refused() {
        for (body, expected) in [
            ("server: {reviewTimeout: 0s}", "`server.reviewTimeout` cannot be `0s`"),
            ("server: {reviewTimeout: 9ms}", "write at least `10ms`"),
            ("server: {reviewTimeout: -1s}", "`server.reviewTimeout` cannot be `-1s`"),
            ("policies: {timeLimit: 0s}", "`policies.timeLimit` cannot be"),
            ("policies: {fuelLimit: 0}", "`policies.fuelLimit` cannot be `0`"),
            ("policies: {memoryLimitBytes: 0}", "`policies.memoryLimitBytes` cannot be `0`"),
            ("images: {connectTimeout: 0s}", "`images.connectTimeout` cannot be"),
            ("images: {readTimeout: 0s}", "`images.readTimeout` cannot be"),
            ("images: {lookupTimeout: 0s}", "`images.lookupTimeout` cannot be"),
            ("images: {memoryBytes: 0}", "`images.memoryBytes` cannot be `0`"),
            ("images: {concurrentLookups: 0}", "`images.concurrentLookups` cannot be `0`"),
            ("images: {limits: {manifest: 0}}", "`images.limits.manifest` cannot be `0`"),
            ("images: {limits: {layer: 0}}", "`images.limits.layer` cannot be `0`"),
            ("decisionLog: {bufferBytes: 0}", "`decisionLog.bufferBytes` cannot be `0`"),
            (
                "decisionLog: {upload: {url: 'http://a.example/logs', spool: /s}}",
                "`decisionLog.upload.url` cannot be",
            ),
            ("decisionLog: {upload: {url: 'https://me:x@a.example/logs', spool: /s}}", "`tokenFile`"),
            ("decisionLog: {upload: {url: a.example, spool: /s}}", "`https://collector.example.com/logs`"),
            (
                "decisionLog: {upload: {url: 'https://a.example', spool: ''}}",
                "`decisionLog.upload.spool` cannot be",
            ),
            (
                "decisionLog: {upload: {url: 'https://a.example', spool: /s, chunkBytes: 1}}",
                "`decisionLog.upload.chunkBytes`",
            ),
            (
                "decisionLog: {upload: {url: 'https://a.example', spool: /s, clientKeyFile: k}}",
                "`clientKeyFile`, or neither",
            ),
            ("decisionLog: {maskAnnotations: ['']}", "`decisionLog.maskAnnotations` cannot be ``"),
            ("decisionLog: {maskAnnotations: ['*']}", "`decisionLog.maskAnnotations` cannot be `*`"),
            ("decisionLog: {maskAnnotations: ['a b']}", "`decisionLog.maskAnnotations` cannot be `a b`"),
        ] {
            let said = problem(body);
            assert!(said.contains(expected), "{body}: {said}");
        }
        for body in [
            "server: {reviewTimeout: 10ms, shutdownPause: 0s, drainDeadline: 0s}",
            "images: {tagTtl: 0s, failureTtl: 0s, warmTimeout: 0s, factsBytes: 0, breaker: {failures: 0}}",
        ] {
            assert_eq!(problem(body), "", "{body}");
        }
    }

    #[test]
    fn learning_without_a_cluster_and_with_times_that_make_no_sense_is_refused() {
        for (body, expected) in [
            ("sizing: {learn: {interval: 0s}}", "`sizing.learn.interval` cannot be `0s`"),
            ("sizing: {learn: {interval: 2h}}", "`sizing.learn.interval` cannot be `2h`"),
            ("sizing: {learn: {halfLife: 1m}}", "`sizing.learn.halfLife` cannot be `1m`"),
            ("sizing: {learn: {after: 1000h}}", "`sizing.learn.after` cannot be `1000h`"),
            ("sizing: {learn: {enabled: true}}", "set `kubernetes.watch: true`"),
        ] {
            let said = problem(body);
            assert!(said.contains(expected), "{body}: {said}");
        }
        for body in [
            "kubernetes: {watch: true}\nsizing: {learn: {enabled: true, interval: 1m, halfLife: 2h, after: 1m}}",
            "cluster: folder\nsizing: {learn: {enabled: true}}",
        ] {
            assert_eq!(problem(body), "", "{body}");
        }
    }

    /// What is wrong with a profile of this runtime that has these fields besides.
    fn of_profile(ambient: &str, fields: &str) -> String {
        let runs = if ambient == "spin" { "spin-app" } else { "module" };
        let given = format!("name: a, runtimeClass: a, runs: [{runs}], ambient: {ambient}, {fields}");
        problem(&format!("runtimes: {{placement: {{}}, profiles: [{{{given}}}]}}"))
    }

    #[test]
    fn what_a_profile_says_of_a_shim_is_of_its_own() {
        for name in ["*", "", "A*B", "A=B"] {
            let said = of_profile("spin", &format!("shimVariables: ['{name}']"));
            assert!(said.contains(&format!("shimVariables` cannot be `{name}`")), "{name}: {said}");
        }
        assert_eq!(of_profile("spin", "shimVariables: [A, B_*]"), "");
        for (name, own, other, of) in [
            ("checksHosts", &["spin"][..], "youki-wasmtime", "the Spin shim"),
            ("confinesSqlite", &["spin"], "youki-wasmtime", "the Spin shim"),
            ("builtWithMusl", &["runwasi-wasmtime", "youki-wasmtime"], "spin", "runwasi's wasmtime shim"),
            ("allocatesOnDemand", &["runwasi-wasmtime"], "youki-wasmtime", "runwasi's wasmtime shim"),
        ] {
            for ambient in own {
                assert_eq!(of_profile(ambient, &format!("{name}: true")), "", "{ambient}");
            }
            let said = of_profile(other, &format!("{name}: true"));
            let expected = format!("{name}` cannot be `true`: it says something of {of}");
            assert!(said.contains(&expected), "{other}: {said}");
        }
    }

    #[test]
    fn what_a_profile_says_that_its_engine_runs_is_a_proposal_and_of_a_runtime_that_is_known() {
        assert_eq!(
            of_profile("crun-wasmtime", "proposals: [exception-handling, memory64, shared-memory]"),
            ""
        );
        let said = of_profile("crun-wasmtime", "proposals: [memory64, wasi-nn]");
        assert!(said.contains("proposals` cannot be `wasi-nn`: it is no proposal of WebAssembly"), "{said}");
        assert!(said.contains("write some of shared-memory, exception-handling, "), "{said}");
        for ambient in ["everything", "retired"] {
            let said = of_profile(ambient, "proposals: [memory64]");
            assert!(
                said.contains("proposals` cannot be `memory64`: it says something of one runtime"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_profile_whose_patch_no_api_server_accepts_is_refused() {
        let profile = |fields: &str| {
            let given = format!("name: a, runs: [spin-app], ambient: spin, {fields}");
            problem(&format!("runtimes: {{placement: {{}}, profiles: [{{{given}}}]}}"))
        };
        let affinity = |rest: &str| format!("runtimeClass: a, nodeAffinity: [{{key: k, {rest}}}]");
        for (fields, expected) in [
            ("runtimeClass: X_y".to_string(), "profiles[0].runtimeClass` cannot be `X_y`"),
            ("runtimeClass: ''".to_string(), "profiles[0].runtimeClass` cannot be ``"),
            ("runtimeClass: a, aliases: [b.]".to_string(), "profiles[0].aliases` cannot be `b.`"),
            (affinity("operator: in, values: [a]"), "operator` cannot be `in`: write In, NotIn"),
            (affinity("operator: In"), "values` cannot be ``: give at least one value"),
            (affinity("operator: Exists, values: [a]"), "values` cannot be `a`"),
            (affinity("operator: Gt, values: [a]"), "take one whole number"),
            ("runtimeClass: a, tolerations: [{operator: equal}]".into(), "operator` cannot be `equal`"),
            ("runtimeClass: a, tolerations: [{effect: NoRun}]".into(), "effect` cannot be `NoRun`"),
            ("runtimeClass: a, sizing: {memoryLimit: -5Mi}".into(), "memoryLimit` cannot be `-5Mi`"),
            (
                "runtimeClass: a, sizing: {memoryRequest: 64Mi}".into(),
                "memoryRequest` cannot be `64Mi`: `memoryLimit` is `32Mi`",
            ),
            ("runtimeClass: a, sizing: {cpuRequest: '1'}".into(), "cpuRequest` cannot be `1`"),
            ("runtimeClass: a, sizing: {fileBaseMemory: -1Mi}".into(), "fileBaseMemory` cannot be `-1Mi`"),
            (
                "runtimeClass: a, sizing: {bytesPerCodeByte: 1000.001}".into(),
                "bytesPerCodeByte` cannot be `1000.001`: write at most 1000",
            ),
            (
                "runtimeClass: a, sizing: {fileBytesPerCodeByte: 1001}".into(),
                "fileBytesPerCodeByte` cannot be `1001`",
            ),
        ] {
            let said = profile(&fields);
            assert!(said.contains(expected), "{fields}: {said}");
        }
        assert_eq!(profile(&affinity("operator: NotIn, values: [a]")), "");
        assert_eq!(profile("runtimeClass: wasm.example.com, sizing: {memoryRequest: 32Mi}"), "");
    }

    #[test]
    fn a_name_that_no_namespace_has_and_an_image_that_is_none_are_refused() {
        let said = problem("exemptNamespaces: ['team-*']");
        assert!(said.contains("`exemptNamespaces` cannot be `team-*`"), "{said}");
        let said = problem("enforcement: {namespaces: {Sand_Box: deny}}");
        assert!(said.contains("`enforcement.namespaces.Sand_Box` cannot be `Sand_Box`"), "{said}");
        let said = problem("images: {warm: ['ghcr.io/a/b:1', 'UPPER:::']}");
        assert!(said.contains("`images.warm[1]` cannot be `UPPER:::`"), "{said}");
    }

    #[test]
    fn all_problems_of_the_fields_are_reported_at_once() {
        let body = "server: {reviewTimeout: 0s, maxConcurrentReviews: 0}\nimages: {unpinned: ['a:b@c']}\n\
                    runtimes: {placement: {spin-app: nothing}}\nenforcement: {floor: deny, default: warn}";
        let said = problem(body);
        for field in [
            "server.reviewTimeout",
            "server.maxConcurrentReviews",
            "images.unpinned[0]",
            "runtimes.placement.spin-app",
            "enforcement.default",
        ] {
            assert!(said.contains(&format!("`{field}` cannot be")), "{field}: {said}");
        }
    }
}
