//! What makes a grant wrong, with the path of the field, what stands there, and what to write instead. First the shape
//! of the document, then what its values mean.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::exception::{self, NEVER_EXEMPT, WasiException};
use super::types::{API_VERSION, KINDS, LabelSelector, Subjects};
use super::{GrantedCapability, WasiGrant};
use crate::capability::{Capability, HostPattern, Parameter};

/// One thing that is wrong with a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file and the document in it, counted from 1 without empty ones; the grant, when there is no file.
    pub origin: String,
    /// Path of the field, such as `spec.capabilities[0].hosts[1]`; empty for the document.
    pub field: String,
    /// What stands there, what is wrong with it and what to write.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.field.is_empty() { "" } else { ", " };
        write!(f, "{}{separator}{}: {}", self.origin, self.field, self.message)
    }
}

/// Everything that is wrong, in the order of the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// What is wrong with objects that are sorted by their origin: each by itself, and those that are given twice.
    pub(super) fn of<T>(
        sorted: &[T],
        origin: impl Fn(&T) -> String,
        check: impl Fn(&T) -> Vec<FieldError>,
    ) -> Self {
        let mut problems = Vec::new();
        for object in sorted {
            let problem = |(field, message)| Problem { origin: origin(object), field, message };
            problems.extend(check(object).into_iter().map(problem));
        }
        for pair in sorted.windows(2) {
            if let [a, b] = pair
                && origin(a) == origin(b)
            {
                let message = "given twice; rename one or remove it".into();
                problems.push(Problem { origin: origin(b), field: "metadata.name".into(), message });
            }
        }
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message that a person can still read; the list itself is whole.
        const SHOWN: usize = 20;
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Path of a field and what is wrong with it.
type FieldError = (String, String);

/// What a field may hold.
enum FieldShape {
    Text,
    Flag,
    Port,
    Time,
    Labels,
    Open,
    OneOf(&'static [&'static str]),
    Name,
    List(&'static FieldShape),
    Fields(&'static [(&'static str, FieldShape, bool)]),
}

const SELECTOR: FieldShape = FieldShape::Fields(&[
    ("matchLabels", FieldShape::Labels, false),
    (
        "matchExpressions",
        FieldShape::List(&FieldShape::Fields(&[
            ("key", FieldShape::Text, true),
            ("operator", FieldShape::OneOf(&["In", "NotIn", "Exists", "DoesNotExist"]), true),
            ("values", FieldShape::List(&FieldShape::Text), false),
        ])),
        false,
    ),
]);

const CAPABILITY: FieldShape = FieldShape::Fields(&[
    ("name", FieldShape::Name, true),
    ("hosts", FieldShape::List(&FieldShape::Text), false),
    ("paths", FieldShape::List(&FieldShape::Text), false),
    ("access", FieldShape::OneOf(&["read-only", "read-write"]), false),
    ("names", FieldShape::List(&FieldShape::Text), false),
    ("ports", FieldShape::List(&FieldShape::Port), false),
    ("secrets", FieldShape::Flag, false),
]);

const SUBJECTS: FieldShape = FieldShape::Fields(&[
    ("serviceAccounts", FieldShape::List(&FieldShape::Text), false),
    ("images", FieldShape::List(&FieldShape::Text), false),
    ("podSelector", SELECTOR, false),
]);

const GRANT: FieldShape = FieldShape::Fields(&[
    ("apiVersion", FieldShape::OneOf(&[API_VERSION]), true),
    // A document of the third kind does not come here.
    ("kind", FieldShape::OneOf(&["WasiGrant", "ClusterWasiGrant", exception::KIND]), true),
    ("metadata", FieldShape::Open, true),
    (
        "spec",
        FieldShape::Fields(&[
            ("subjects", SUBJECTS, false),
            ("namespaceSelector", SELECTOR, false),
            ("capabilities", FieldShape::List(&CAPABILITY), true),
            ("expiresAt", FieldShape::Time, false),
        ]),
        true,
    ),
]);

const EXCEPTION: FieldShape = FieldShape::Fields(&[
    ("apiVersion", FieldShape::OneOf(&[API_VERSION]), true),
    ("kind", FieldShape::OneOf(&[exception::KIND]), true),
    ("metadata", FieldShape::Open, true),
    (
        "spec",
        FieldShape::Fields(&[
            ("rules", FieldShape::List(&FieldShape::Text), true),
            ("subjects", SUBJECTS, false),
            ("containers", FieldShape::List(&FieldShape::Text), false),
            ("capabilities", FieldShape::List(&FieldShape::Name), false),
            ("reason", FieldShape::Text, true),
            ("expiresAt", FieldShape::Time, true),
        ]),
        true,
    ),
]);

/// What one document holds.
#[derive(Debug)]
pub(super) enum Read {
    Grant(Box<WasiGrant>),
    Exception(Box<WasiException>),
}

/// Reads one document. Fields that are `null` count as absent, as they do in Kubernetes.
pub(super) fn read(document: Value) -> Result<Read, Vec<FieldError>> {
    let document = without_nulls(document);
    if document.get("kind").and_then(Value::as_str) == Some(exception::KIND) {
        let exception = typed(document, &EXCEPTION, check_exception)?;
        return Ok(Read::Exception(Box::new(exception)));
    }
    Ok(Read::Grant(Box::new(typed(document, &GRANT, check_grant)?)))
}

fn typed<T: DeserializeOwned>(
    document: Value,
    expected: &FieldShape,
    check: impl Fn(&T) -> Vec<FieldError>,
) -> Result<T, Vec<FieldError>> {
    let mut findings = Vec::new();
    check_shape(&document, expected, "", &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    let object: T = serde_json::from_value(document).map_err(|e| vec![(String::new(), e.to_string())])?;
    let findings = check(&object);
    if findings.is_empty() { Ok(object) } else { Err(findings) }
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

fn check_shape(value: &Value, expected: &FieldShape, at: &str, findings: &mut Vec<FieldError>) {
    let message = match (expected, value) {
        (FieldShape::Text, Value::String(_))
        | (FieldShape::Flag, Value::Bool(_))
        | (FieldShape::Open, Value::Object(_)) => {
            return;
        }
        (FieldShape::Labels, Value::Object(labels)) => {
            for (key, value) in labels {
                check_shape(value, &FieldShape::Text, &join(at, key), findings);
            }
            return;
        }
        (FieldShape::Port, Value::Number(port))
            if port.as_u64().is_some_and(|p| (1..=65535).contains(&p)) =>
        {
            return;
        }
        (FieldShape::Time, Value::String(time)) => match time.parse::<jiff::Timestamp>() {
            Ok(_) => return,
            Err(_) => format!("`{time}` is not a time; write RFC 3339, such as 2027-03-31T00:00:00Z"),
        },
        (FieldShape::OneOf(allowed), Value::String(text)) if allowed.contains(&text.as_str()) => return,
        (FieldShape::OneOf(allowed), Value::String(text)) => {
            format!("`{text}` is not known; write {}", allowed.join(" or "))
        }
        (FieldShape::Name, Value::String(text)) => match text.parse::<Capability>() {
            Ok(_) => return,
            Err(unknown) => {
                format!("{unknown}{}", did_you_mean(text, Capability::ALL.iter().map(|c| c.as_str())))
            }
        },
        (FieldShape::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                check_shape(value, item, &format!("{at}[{index}]"), findings);
            }
            return;
        }
        (FieldShape::Fields(fields), Value::Object(object)) => {
            return check_fields(object, fields, at, findings);
        }
        _ => format!("`{}` is not {}", shortened(value), describe(expected)),
    };
    findings.push((at.to_string(), message));
}

fn check_fields(
    object: &Map<String, Value>,
    fields: &[(&str, FieldShape, bool)],
    at: &str,
    findings: &mut Vec<FieldError>,
) {
    for (key, value) in object {
        if let Some((name, expected, _)) = fields.iter().find(|(name, _, _)| name == key) {
            check_shape(value, expected, &join(at, name), findings);
            continue;
        }
        let names = || fields.iter().map(|(name, _, _)| *name);
        let known = names().collect::<Vec<_>>().join(", ");
        let near = did_you_mean(key, names());
        findings.push((join(at, key), format!("unknown field `{key}`, expected one of {known}{near}")));
    }
    for (name, expected, required) in fields {
        if *required && !object.contains_key(*name) {
            findings.push((join(at, name), format!("missing; write {}", describe(expected))));
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_string() } else { format!("{at}.{name}") }
}

fn describe(expected: &FieldShape) -> String {
    match expected {
        FieldShape::Text => "a text".into(),
        FieldShape::Flag => "true or false".into(),
        FieldShape::Port => "a port number from 1 to 65535".into(),
        FieldShape::Time => "an RFC 3339 time".into(),
        FieldShape::Labels => "a map of label keys to values".into(),
        FieldShape::Open | FieldShape::Fields(_) => "an object".into(),
        FieldShape::OneOf(allowed) => allowed.join(" or "),
        FieldShape::Name => "the name of a capability".into(),
        FieldShape::List(_) => "a list".into(),
    }
}

fn shortened(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// The known word that is nearest to an unknown one, when one is near enough to be what was meant.
fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|k| (distance(word, k), k)).min();
    let near = nearest.filter(|(distance, k)| *distance * 2 <= k.chars().count().max(3));
    near.map(|(_, k)| format!("; did you mean `{k}`?")).unwrap_or_default()
}

/// Levenshtein distance, without regard to case. Long words are cut: nothing known is half as long.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let b: Vec<char> = b.to_lowercase().chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.to_lowercase().chars().take(LONGEST).enumerate() {
        let mut next = vec![line + 1];
        for (column, (to, pair)) in b.iter().zip(row.windows(2)).enumerate() {
            let [diagonal, above] = pair else { continue };
            let left = next.get(column).copied().unwrap_or(usize::MAX - 1);
            next.push((above + 1).min(left + 1).min(diagonal + usize::from(from != *to)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// What is wrong with the values of a grant whose shape is right. Also for grants that came by another way than a file.
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

/// Which namespaces it is for: a `WasiGrant` says it by its own, a `ClusterWasiGrant` by a selector. None is never taken for
/// all.
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

/// What is wrong with an exception whose shape is right.
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
        find("spec.reason", "empty; write why the rule may be broken, for whoever reads the record".into());
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

/// Rules are named one by one: a pattern would except rules that nobody has written yet.
fn wrong_rule(rule: &str) -> Option<String> {
    if NEVER_EXEMPT.contains(&rule) {
        return Some(format!("`{rule}` says that nothing was judged, so it cannot be excepted; remove it"));
    }
    let kebab = rule
        .split('-')
        .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
    (!kebab).then(|| {
        format!("`{rule}` is not the name of a rule; write one as messages show it, such as `needs-grant`")
    })
}

fn subjects(subjects: Option<&Subjects>) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let Some(subjects) = subjects else { return findings };
    findings.extend(empty_texts(&subjects.service_accounts, "spec.subjects.serviceAccounts", "a name"));
    findings.extend(empty_texts(&subjects.images, "spec.subjects.images", "an image name or pattern"));
    if let Some(selector) = &subjects.pod_selector {
        findings.extend(of_selector(selector, "spec.subjects.podSelector"));
    }
    findings
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
        let operator = requirement.operator.as_str();
        let message = match (operator, requirement.values.is_empty()) {
            ("In" | "NotIn", true) => format!("missing; `{operator}` needs at least one value"),
            ("Exists" | "DoesNotExist", false) => format!("`{operator}` takes no values; remove them"),
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => continue,
            _ => {
                let message = format!("`{operator}` is not known; write In, NotIn, Exists or DoesNotExist");
                findings.push((format!("{at}.operator"), message));
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
    for (index, host) in granted.hosts.iter().flatten().enumerate() {
        if let Err(error) = host.parse::<HostPattern>() {
            findings.push((format!("{at}.hosts[{index}]"), error.to_string()));
        }
    }
    for (index, path) in granted.paths.iter().flatten().enumerate() {
        if let Some(message) = wrong_path(path) {
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

/// Parameters that say nothing about the capability.
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
