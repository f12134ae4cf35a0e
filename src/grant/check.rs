//! Reads one document: checks its shape, and the values wherever the shape is right. Every problem has the path of the field, what was
//! written, and what to write instead.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{FieldError, Problem, Problems};
use super::shape::{EXCEPTION, FieldShape, GRANT, check_shape, repaired, shortened};
use super::types::{
    API_VERSION, EXCEPTION_KIND, GrantedCapability, KINDS, LabelSelector, NEVER_EXEMPT, Operator, Subjects,
    WasiException, WasiGrant,
};
use crate::capability::{Parameter, glob};
use crate::image::Digest;
use crate::image::digest::Algorithm;
use crate::image::reference::Reference;
use crate::text;

/// The content of one document.
#[derive(Debug)]
pub(super) enum Read {
    Grant(Box<WasiGrant>),
    Exception(Box<WasiException>),
}

/// Reads one document. Fields that are `null` count as absent, as in Kubernetes. `origin` names it in messages.
pub(super) fn read(document: Value, origin: &str) -> Result<Read, Problems> {
    let document = without_nulls(document);
    let is_exception = document.get("kind").and_then(Value::as_str) == Some(EXCEPTION_KIND);
    let read = if is_exception {
        typed(&document, &EXCEPTION, check_exception).map(|exception| Read::Exception(Box::new(exception)))
    } else {
        typed(&document, &GRANT, check_grant).map(|grant| Read::Grant(Box::new(grant)))
    };
    let located = |finding| Problem::in_document(origin, &document, finding);
    read.map_err(|findings| Problems(findings.into_iter().map(located).collect()))
}

fn typed<T: DeserializeOwned>(
    document: &Value,
    expected: &FieldShape,
    check: impl Fn(&T) -> Vec<FieldError>,
) -> Result<T, Vec<FieldError>> {
    let mut findings = Vec::new();
    check_shape(document, expected, "", &mut findings);
    if !findings.is_empty() {
        findings.extend(values_beside(&findings, document, expected, check));
        return Err(findings);
    }
    let object = T::deserialize(document).map_err(|e| vec![(String::new(), e.to_string())])?;
    let findings = check(&object);
    if findings.is_empty() { Ok(object) } else { Err(findings) }
}

/// What is wrong with the values of a document whose shape is wrong in places. These have stand-ins, about which nothing is
/// said, nor about what their meaning decides.
fn values_beside<T: DeserializeOwned>(
    shape: &[FieldError],
    document: &Value,
    expected: &FieldShape,
    check: impl Fn(&T) -> Vec<FieldError>,
) -> Vec<FieldError> {
    // The kind decides what every other field means.
    if shape.iter().any(|(field, _)| field.is_empty() || field == "kind") {
        return Vec::new();
    }
    let Ok(object) = T::deserialize(repaired(document, expected)) else { return Vec::new() };
    let depends = |at: &str, wrong: &str| {
        let below = |field: &str, above: &str| {
            field.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // The name of a capability decides which parameters it takes, and an operator whether it takes values.
        let decided = |by: &str, fields: &str| {
            let beside = wrong.strip_suffix(by).and_then(|item| at.strip_prefix(item));
            beside.is_some_and(|field| !field.contains('[') && field.starts_with(fields))
        };
        below(at, wrong) || below(wrong, at) || decided("].name", "].") || decided("].operator", "].values")
    };
    let independent = |(at, _): &FieldError| !shape.iter().any(|(wrong, _)| depends(at, wrong));
    check(&object).into_iter().filter(independent).collect()
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// The problems in the values of a grant whose shape is right, also of one that did not come from a file.
pub(super) fn check_grant(grant: &WasiGrant) -> Vec<FieldError> {
    let mut findings = identity(grant);
    findings.extend(reach(grant));
    if grant.spec.capabilities.is_empty() {
        let message = "empty, so nothing is granted; write at least one capability";
        findings.push(("spec.capabilities".into(), message.into()));
    }
    if let Some(selector) = &grant.spec.namespace_selector {
        findings.extend(of_selector(selector, "spec.namespaceSelector"));
    }
    findings.extend(subjects(grant.spec.subjects.as_ref()));
    for (index, capability) in grant.spec.capabilities.iter().enumerate() {
        findings.extend(of_capability(capability, &format!("spec.capabilities[{index}]")));
    }
    findings
}

fn identity(grant: &WasiGrant) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let mut find = |field: &str, message: String| findings.push((field.to_string(), message));
    if grant.api_version != API_VERSION {
        find("apiVersion", format!("`{}` is not known; write {API_VERSION}", grant.api_version));
    }
    if !KINDS.contains(&grant.kind.as_str()) {
        find("kind", format!("`{}` is not known; write {}", grant.kind, KINDS.join(" or ")));
    }
    if grant.name().is_empty() {
        find("metadata.name", "missing; write a name".into());
    }
    findings
}

/// Which namespaces it is for: a `WasiGrant` for its own, a `ClusterWasiGrant` for those that its selector matches. A
/// missing selector never means all.
fn reach(grant: &WasiGrant) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let mut find = |field: &str, message: String| findings.push((field.to_string(), message));
    match (grant.is_cluster(), grant.metadata.get("namespace")) {
        (true, Some(namespace)) => find(
            "metadata.namespace",
            format!(
                "a ClusterWasiGrant has no namespace, but `{}` is given; remove it and use spec.namespaceSelector",
                shortened(namespace)
            ),
        ),
        (false, _) if grant.namespace().is_none_or(str::is_empty) => {
            find("metadata.namespace", "missing; write the namespace of the pods that it is for".into());
        }
        _ => {}
    }
    match (grant.is_cluster(), &grant.spec.namespace_selector) {
        (true, None) => find(
            "spec.namespaceSelector",
            "missing; write the labels of the namespaces that it is for, or `{}` for every namespace".into(),
        ),
        (false, Some(_)) => find(
            "spec.namespaceSelector",
            "a WasiGrant is for its own namespace; remove it or write kind ClusterWasiGrant".into(),
        ),
        _ => {}
    }
    findings
}

/// The problems in the values of an exception whose shape is right.
pub(super) fn check_exception(exception: &WasiException) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let mut find = |field: &str, message: String| findings.push((field.to_string(), message));
    if exception.name().is_empty() {
        find("metadata.name", "missing; write a name".into());
    }
    if exception.namespace().is_empty() {
        find("metadata.namespace", "missing; write the namespace of the pods that it is for".into());
    }
    let spec = &exception.spec;
    if spec.reason.trim().is_empty() {
        find("spec.reason", "empty; write why the rule may be broken, for the readers of the record".into());
    }
    if spec.rules.is_empty() {
        find("spec.rules", "empty, so no rule is excepted; write the name of at least one".into());
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if let Some(message) = wrong_rule(rule) {
            find(&format!("spec.rules[{index}]"), message);
        }
    }
    findings.extend(subjects(spec.subjects.as_ref()));
    findings.extend(empty_texts(&spec.containers, "spec.containers", "the name of a container"));
    findings
}

/// Rules are named one by one: a pattern would except rules that do not exist yet.
fn wrong_rule(rule: &str) -> Option<String> {
    if NEVER_EXEMPT.contains(&rule) {
        return Some(format!("`{rule}` says that nothing was judged, so it cannot be excepted; remove it"));
    }
    (!is_rule_name(rule)).then(|| {
        format!("`{rule}` is not the name of a rule; write one as messages show it, such as `needs-grant`")
    })
}

/// Lower-case words that are joined by `-`.
fn is_rule_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split('-').all(|word| !word.is_empty() && word.chars().all(is_letter))
}

/// Longest name of a rule that an exception may have, as its schema says (`manifests/crds/wasiexceptions.yaml`).
const MAX_RULE_NAME: usize = 128;

/// Why no exception could name this rule, for its author.
pub fn rule_name_problem(rule: &str) -> Option<String> {
    if NEVER_EXEMPT.contains(&rule) {
        return Some(format!(
            "`{rule}` is the gate's own name for what was not judged; give the rule another one"
        ));
    }
    let is_right = is_rule_name(rule) && rule.len() <= MAX_RULE_NAME;
    (!is_right).then(|| {
        format!(
            "`{}` is not the name of a rule, so that no exception can name it; write lower-case words joined by `-`, such as \
             `our-registry`, of {MAX_RULE_NAME} characters at most",
            text::quoted(rule, MAX_RULE_NAME)
        )
    })
}

fn subjects(subjects: Option<&Subjects>) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let Some(subjects) = subjects else { return findings };
    findings.extend(empty_texts(&subjects.service_accounts, "spec.subjects.serviceAccounts", "a name"));
    for (index, pattern) in subjects.images.iter().enumerate() {
        if let Some(message) = wrong_image(pattern) {
            findings.push((format!("spec.subjects.images[{index}]"), message));
        }
    }
    if let Some(selector) = &subjects.pod_selector {
        findings.extend(of_selector(selector, "spec.subjects.podSelector"));
    }
    findings
}

/// Why a pattern can match no image name.
fn wrong_image(pattern: &str) -> Option<String> {
    if pattern.trim().is_empty() {
        return Some("empty; write an image name or pattern".into());
    }
    if pattern.contains(char::is_whitespace) {
        return Some(format!("`{pattern}` has a space in it, and no image name has one; remove it"));
    }
    if let Some((scheme, rest)) = pattern.split_once("://") {
        return Some(format!(
            "`{pattern}` starts with `{scheme}://`, and no image name does; write `{rest}`"
        ));
    }
    if let Some(folder) = pattern.strip_suffix('/') {
        return Some(format!(
            "`{pattern}` ends in `/`, and no image name does; write `{folder}/*` for all images below it"
        ));
    }
    if is_host(pattern) {
        return Some(format!(
            "`{pattern}` is a registry and not an image; write `{pattern}/*` for all of its images"
        ));
    }
    // Nodes take an IPv6 address for a registry, which only the gate does not: an exception may let such a pod in.
    match (pattern.contains('*'), pattern.contains(['[', ']'])) {
        (true, false) => {
            wrong_around_stars(pattern).map(|why| format!("`{pattern}` can match no image name: {why}"))
        }
        (true, true) => None,
        (false, _) if pattern.starts_with('[') => None,
        (false, _) => Reference::parse(pattern).err().map(|error| error.to_string()),
    }
}

/// Why a pattern matches no image name whatever its `*` stand for. What a `*` stands for is not known, so it may hold any `/`, `:` and `@`, and
/// only what the text beside it shows for certain is said (`distribution/reference:regexp.go`).
fn wrong_around_stars(pattern: &str) -> Option<&'static str> {
    if pattern.ends_with([':', '@']) {
        return Some("a tag or digest follows `:` and `@`; write one, or `*`");
    }
    let (name, digest) = pattern.split_once('@').unwrap_or((pattern, "*"));
    if !may_be_digest(digest) {
        return Some("a digest is `sha256:` and 64 hex digits in lower case; write so, or `*`");
    }
    let last = name.matches('/').count();
    name.split('/').enumerate().find_map(|(index, part)| wrong_part(part, index > 0, index == last))
}

/// Whether some digest fits a pattern.
fn may_be_digest(pattern: &str) -> bool {
    if !pattern.contains('*') {
        return pattern.parse::<Digest>().is_ok();
    }
    Algorithm::ALL.into_iter().any(|algorithm| may_be_digest_by(algorithm, pattern))
}

/// Whether some digest by this algorithm fits a pattern with a `*`.
fn may_be_digest_by(algorithm: Algorithm, pattern: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let Some((name, encoded)) = pattern.split_once(':') else {
        // One of the `*` stands for the `:`, and more.
        let start = pattern.split('*').next().unwrap_or_default();
        let end = pattern.rsplit('*').next().unwrap_or_default();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '*';
        return algorithm.as_str().starts_with(start) && end.chars().all(hex) && pattern.chars().all(fits);
    };
    let written = encoded.chars().filter(|c| *c != '*').count();
    let digits = algorithm.hex_digits();
    let fits = if encoded.contains('*') { written <= digits } else { written == digits };
    fits && glob::covers(name, algorithm.as_str()) && encoded.chars().all(|c| hex(c) || c == '*')
}

/// Why nothing between two `/` of an image name fits this part of a pattern. What follows a `/` that is written is no host.
fn wrong_part(part: &str, follows: bool, is_last: bool) -> Option<&'static str> {
    if matches!(part, "" | "." | "..") {
        return Some("no part of a name is empty, `.` or `..`; remove it");
    }
    if part.split('*').any(|text| text.matches(':').count() > 1) {
        return Some("a name has one tag; leave out a `:`");
    }
    let of_path = if follows { wrong_in_path(part, is_last) } else { None };
    of_path.or_else(|| {
        if part.contains('*') {
            wrong_beside_stars(part, is_last)
        } else {
            wrong_whole(part, follows, is_last)
        }
    })
}

/// Why no part of a repository fits this part of a pattern, by its letters.
fn wrong_in_path(part: &str, is_last: bool) -> Option<&'static str> {
    // Behind a `:` begins the tag, and what a `*` stands for may hold one.
    let end = if is_last { part.find([':', '*']).unwrap_or(part.len()) } else { part.len() };
    let path = part.get(..end).unwrap_or(part);
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        return Some("repository names are lower case; write them so");
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-*".contains(c);
    (!path.chars().all(fits))
        .then_some("a repository has letters, digits, `.`, `_` and `-`; leave out others")
}

/// What the parts of a name have in common: each begins and ends with a letter or digit.
const PART: &str = "the parts of a name begin and end with a letter or digit, with one `.`, one or two `_` or some `-` between \
                    two; a port is a number";
const TAG: &str = "a tag has letters, digits, `_`, `.` and `-`, and begins with none of the last two";

/// Why a part without a `*` is in no name. A first part in upper case is a host to some nodes.
fn wrong_whole(part: &str, follows: bool, is_last: bool) -> Option<&'static str> {
    let name = match (follows, is_last) {
        (_, true) => format!("a.io/{part}"),
        (true, false) => format!("a.io/{part}/a"),
        (false, false) => format!("{}/a", part.to_ascii_lowercase()),
    };
    let why = if is_last && part.contains(':') {
        "write `repository:tag`, with a tag of letters, digits, `_`, `.` and `-`"
    } else {
        PART
    };
    Reference::parse(&name).is_err().then_some(why)
}

/// Why a part is in no name whatever its `*` stand for.
fn wrong_beside_stars(part: &str, is_last: bool) -> Option<&'static str> {
    let outer = |c: char| c.is_ascii_alphanumeric();
    let start = part.chars().next().unwrap_or_default();
    let end = part.chars().next_back().unwrap_or_default();
    let begins = outer(start) || start == '*';
    // The last part may end with a tag, and that with a `.` or `-`.
    let ends = is_last || outer(end) || end == '*';
    if !begins || !ends {
        return Some(PART);
    }
    // What follows a `*` in the last part may belong to a tag.
    part.split('*').enumerate().find_map(|(index, text)| wrong_text(text, index == 0 || !is_last, is_last))
}

/// Why the text between two `*` is in no name. `is_name` says that what is before a `:` is in host or repository.
fn wrong_text(text: &str, is_name: bool, is_last: bool) -> Option<&'static str> {
    let (name, behind) = text.split_once(':').unwrap_or((text, ""));
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.chars().all(fits) {
        return Some("a name has letters, digits, `.`, `_` and `-`; leave out others");
    }
    let separates = |run: &str| matches!(run, "." | "_" | "__") || run.chars().all(|c| c == '-');
    if is_name && !name.split(|c: char| c.is_ascii_alphanumeric()).all(separates) {
        return Some(PART);
    }
    if !is_last {
        return (!behind.chars().all(|c| c.is_ascii_digit())).then_some(PART);
    }
    (behind.starts_with(['.', '-']) || !behind.chars().all(fits)).then_some(TAG)
}

/// Whether a pattern without `/` is what an image name has before its first `/` when that is a registry
/// (`distribution/reference:normalize.go` `splitDockerDomain`). Docker Hub's own images have no such names.
fn is_host(pattern: &str) -> bool {
    let host = pattern.split_once(':').map_or(pattern, |(host, _)| host);
    !pattern.contains(['/', '@', '*']) && (host.contains('.') || host == "localhost")
}

fn empty_texts(list: &[String], at: &str, what: &str) -> Vec<FieldError> {
    let empty = list.iter().enumerate().filter(|(_, text)| text.is_empty());
    empty.map(|(index, _)| (format!("{at}[{index}]"), format!("empty; write {what}"))).collect()
}

fn of_selector(selector: &LabelSelector, at: &str) -> Vec<FieldError> {
    let mut findings = Vec::new();
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let at = format!("{at}.matchExpressions[{index}]");
        if requirement.key.is_empty() {
            findings.push((format!("{at}.key"), "empty; write a label key".into()));
        }
        let name = requirement.operator.as_str();
        let message = match (requirement.operator, requirement.values.is_empty()) {
            (Operator::In | Operator::NotIn, true) => format!("missing; `{name}` needs at least one value"),
            (Operator::Exists | Operator::DoesNotExist, false) => {
                format!("`{name}` takes no values; remove them")
            }
            (Operator::In | Operator::NotIn, false) | (Operator::Exists | Operator::DoesNotExist, true) => {
                continue;
            }
        };
        findings.push((format!("{at}.values"), message));
    }
    findings
}

fn of_capability(granted: &GrantedCapability, at: &str) -> Vec<FieldError> {
    let mut findings = unused_parameters(granted, at);
    let lists = [
        (Parameter::Hosts, granted.hosts.as_ref().map(Vec::len)),
        (Parameter::Paths, granted.paths.as_ref().map(Vec::len)),
        (Parameter::Names, granted.names.as_ref().map(Vec::len)),
        (Parameter::Ports, granted.ports.as_ref().map(Vec::len)),
    ];
    for (parameter, length) in lists {
        if length == Some(0) {
            let message = "empty, so nothing is granted; leave the field out to grant any".to_string();
            findings.push((format!("{at}.{}", parameter.as_str()), message));
        }
    }
    for (index, path) in granted.paths.iter().flatten().enumerate() {
        if let Some(message) = wrong_path(path.as_str()) {
            findings.push((format!("{at}.paths[{index}]"), message));
        }
    }
    for (index, port) in granted.ports.iter().flatten().enumerate() {
        if *port == 0 {
            findings.push((format!("{at}.ports[{index}]"), "`0` is not a port; write 1 to 65535".into()));
        }
    }
    findings.extend(empty_texts(
        granted.names.as_deref().unwrap_or_default(),
        &format!("{at}.names"),
        "a name or pattern",
    ));
    findings
}

/// Parameters that the capability does not take.
fn unused_parameters(granted: &GrantedCapability, at: &str) -> Vec<FieldError> {
    let given = [
        (Parameter::Hosts, granted.hosts.is_some()),
        (Parameter::Paths, granted.paths.is_some()),
        (Parameter::Access, granted.access.is_some()),
        (Parameter::Names, granted.names.is_some()),
        (Parameter::Ports, granted.ports.is_some()),
        (Parameter::Secrets, granted.secrets.is_some()),
    ];
    let takes = granted.name.parameters();
    let unused = |(parameter, given): &(Parameter, bool)| *given && !takes.contains(parameter);
    let fix = match takes {
        [] => "it takes no parameters".to_string(),
        some => format!("it takes {}", some.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ")),
    };
    let message = |parameter: Parameter| {
        let name = parameter.as_str();
        (format!("{at}.{name}"), format!("`{name}` says nothing about `{}`; {fix}", granted.name))
    };
    given.iter().filter(|given| unused(given)).map(|(parameter, _)| message(*parameter)).collect()
}

fn wrong_path(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("`{path}` is not absolute; write a path that starts with `/`"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some(format!("`{path}` has a `.` or `..` in it; write the path that it leads to"));
    }
    if path.contains('*') {
        return Some(format!(
            "`{path}` has a `*`; a path covers the whole tree below it, so write the tree's root"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::wrong_image;

    #[test]
    fn what_a_star_may_stand_for_is_left_to_it() {
        for right in [
            "*",
            "*/*",
            "ghcr.io/org/*",
            "GHCR.io/*",
            "ghcr.io/org/app:*",
            "ghcr.io/org/app:V*",
            "ghcr.io/*App",
            "ghcr.io/org/app*:RC.1",
            "ghcr.io/org/app:1..*",
            "*:5000/org/app",
            "*:5*:v1",
            "App*",
            "*@sha256:*",
            "*@sha*",
            "*@*ab",
            "ghcr.io/org/app:*@sha256:0f*",
            "*::1]:5000/*",
            "my_host.io/*",
            "MyOrg/*",
            "a.*/b-*/*c__d:*",
            "gh*.io:50*/org/app:v1",
            "localhost:5000/a*:1-*-",
            "library/nginx:RC.1@sha256:*",
            "*@sha512:*",
            "*@*512:*f",
        ] {
            assert_eq!(wrong_image(right), None, "{right}");
        }
    }

    #[test]
    fn what_is_in_no_name_is_refused_whatever_a_star_stands_for() {
        for wrong in [
            "ghcr.io/Org/*",
            "*/App",
            "*/Org/app*",
            "ghcr.io//*",
            "/*",
            "../*",
            "ghcr.io/../*",
            "ghcr.io/*/./app",
            "*@",
            "ghcr.io/x/*:",
            "*:a:b",
            "ghcr.io/org:v1/*",
            "ghcr.io/org+/*",
            "*@sha256:XYZ*",
            "*@sha256:ab",
            "*@sha256:ab*/x",
            "*@sha256:ab@*",
            "ghcr.io/-org/*",
            "ghcr.io/org./*",
            "ghcr.io/a...b/*",
            "ghcr.io/a..*",
            "ghcr.io/*/-app*",
            "ghcr.io/a*./app",
            "ghcr.io/a+*",
            "ghcr.io/*+a",
            "ghcr.io:port/*",
            "ghcr.io:po*/app",
            "-ghcr.io/*",
            "-gh*",
            "gh*.io-/app",
            "(a)/*",
            "(a*",
            "ghcr.io/org/*:.x",
            "ghcr.io/org/*:v+1",
            "*/app:.x",
            "*@md5:ab*",
            "*@sha1*",
            "*@*:*:*",
        ] {
            assert!(wrong_image(wrong).is_some_and(|why| why.contains(wrong)), "{wrong}");
        }
    }

    /// The gate cannot read such an image, so an exception is the only way in.
    #[test]
    fn an_image_that_only_nodes_understand_may_be_named() {
        assert_eq!(wrong_image("[fd00::1]:5000/org/app:v1"), None);
        assert!(wrong_image("fd00::1/org/App:v1").is_some());
    }
}
