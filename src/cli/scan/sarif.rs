//! SARIF 2.1.0, for code scanning. Pure. Source: the OASIS standard "Static Analysis Results Interchange Format (SARIF)
//! Version 2.1.0"; sections are named where a field follows from one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::model::{FoundViolation, ManifestPlace, Scan, Workload};
use crate::judge::JudgedViolation;
use crate::policy::{Annotations, EnforcementAction};
use crate::text;

/// The rule of what could not be judged.
const NOT_JUDGED: &str = "not-judged";

/// Where the rules are described.
const RULES: &str = "https://github.com/wasmgate/wasmgate/blob/main/docs/rules.md";

/// The log: one run with its rules and results.
pub fn log(scan: &Scan) -> Value {
    let mut results = Vec::new();
    for workload in &scan.workloads {
        results.extend(workload.findings().iter().map(|finding| of_finding(workload, finding)));
        let place = workload.place().cloned().unwrap_or_default();
        let unknown = workload.reasons().into_iter();
        results.extend(unknown.map(|reason| of_unknown(&workload.full_name(), &reason, &place)));
    }
    results.extend(scan.not_judged.iter().map(|one| of_unknown(&one.what, &one.reason, &one.place)));
    let findings = scan.workloads.iter().flat_map(Workload::findings);
    let annotated = findings.filter_map(|finding| {
        let violation = &finding.judged.violation;
        Some((text::visible(&violation.rule).into_owned(), &**violation.annotations.as_ref()?))
    });
    let annotated: BTreeMap<String, &Annotations> = annotated.collect();
    let ids: BTreeSet<String> =
        results.iter().filter_map(|result| Some(result.get("ruleId")?.as_str()?.to_owned())).collect();
    for result in &mut results {
        let index = result
            .get("ruleId")
            .and_then(Value::as_str)
            .and_then(|id| ids.iter().position(|known| known == id));
        if let (Some(fields), Some(index)) = (result.as_object_mut(), index) {
            fields.insert("ruleIndex".into(), json!(index));
        }
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "wasmgate",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": ids.iter().map(|id| rule(id, annotated.get(id).copied())).collect::<Vec<_>>(),
            }},
            // Section 3.20.14: whether the tool did what it was asked to do, not what it found.
            "invocations": [{"executionSuccessful": true}],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A rule, with what its METADATA says.
fn rule(id: &str, annotations: Option<&Annotations>) -> Value {
    let about = match id {
        NOT_JUDGED => "What could not be judged may break any rule".to_owned(),
        rule => format!("Rule {} of wasmgate", text::visible(rule)),
    };
    let link = if id == NOT_JUDGED { RULES.to_owned() } else { format!("{RULES}#{}", encoded(id)) };
    let mut rule = json!({"id": text::visible(id), "name": text::visible(id), "shortDescription": {"text": about}, "helpUri": link});
    if let (Some(annotations), Some(fields)) = (annotations, rule.as_object_mut()) {
        // The page has the gate's own rules alone.
        fields.remove("helpUri");
        let Annotations { title, description, category, severity, remedy } = annotations;
        let parts = [("shortDescription", title), ("fullDescription", description), ("help", remedy)];
        for (key, said) in parts {
            fields.extend(said.as_ref().map(|said| (key.into(), json!({"text": text::lines(said)}))));
        }
        let tags: Vec<_> = category.iter().map(|category| text::line(category).into_owned()).collect();
        fields.insert("properties".into(), json!({"tags": tags, "severity": severity}));
    }
    rule
}

fn of_finding(workload: &Workload, finding: &FoundViolation<'_>) -> Value {
    let JudgedViolation { action, exempted, violation, .. } = finding.judged;
    let level = match action {
        EnforcementAction::Deny => "error",
        EnforcementAction::Warn => "warning",
        EnforcementAction::Audit => "note",
    };
    let mut result = result(&violation.rule, level, &violation.said(), &workload.full_name(), &finding.place);
    let identity = [
        Some(violation.rule.as_str()),
        violation.container.as_deref(),
        violation.capability.as_deref(),
        Some(violation.message.as_str()),
    ];
    let name = workload.full_name();
    let parts = identity.iter().map(|part| part.unwrap_or_default()).chain([name.as_str()]);
    result.insert("partialFingerprints".into(), json!({"wasmgate/v1": fingerprint(parts)}));
    result.insert(
        "properties".into(),
        json!({"container": violation.container, "capability": violation.capability, "pods": finding.pods,
            "template": finding.template, "mendedBy": violation.mended_by, "remedy": violation.remedy}),
    );
    if let Some(exemption) = exempted {
        let why = format!("{} until {}: {}", exemption.exception, exemption.expires_at, exemption.reason);
        let suppression =
            json!({"kind": "external", "status": "accepted", "justification": text::line(&why)});
        result.insert("suppressions".into(), json!([suppression]));
    }
    Value::Object(result)
}

fn of_unknown(what: &str, reason: &str, place: &ManifestPlace) -> Value {
    let mut result = result(NOT_JUDGED, "warning", reason, what, place);
    result.insert(
        "partialFingerprints".into(),
        json!({"wasmgate/v1": fingerprint([NOT_JUDGED, what].into_iter())}),
    );
    Value::Object(result)
}

fn result(rule: &str, level: &str, message: &str, name: &str, place: &ManifestPlace) -> Map<String, Value> {
    let name = text::visible(name);
    // Section 3.28: an object of a cluster has no file, but a name.
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}]});
    if let (Some(file), Some(fields)) = (&place.file, location.as_object_mut()) {
        let physical =
            json!({"artifactLocation": {"uri": encoded(file)}, "region": {"startLine": place.line.max(1)}});
        fields.insert("physicalLocation".into(), physical);
    }
    let text = format!("{name}: {}", text::lines(message));
    let fields = json!({"ruleId": text::visible(rule), "level": level, "message": {"text": text}, "locations": [location]});
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A stable identity, so that a finding is the same one in the next scan (section 3.27.17).
fn fingerprint<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    format!("{:x}", digest.finalize())
}

/// A path as a relative or absolute URI reference (RFC 3986): every byte that is not unreserved or `/` is escaped.
fn encoded(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(encoded("./a b/ü:1.yaml"), "a%20b/%C3%BC%3A1.yaml");
        assert_eq!(encoded("/a#b"), "file:///a%23b");
    }

    #[test]
    fn parts_of_a_fingerprint_are_kept_apart() {
        assert_ne!(fingerprint(["ab", "c"].into_iter()), fingerprint(["a", "bc"].into_iter()));
    }
}
