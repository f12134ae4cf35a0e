//! SARIF 2.1.0, for code scanning. Pure. Source: the OASIS standard "Static Analysis Results Interchange Format (SARIF)
//! Version 2.1.0"; sections are named where a field follows from one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::judge::JudgedViolation;
use crate::policy::{Annotations, EnforcementAction};
use crate::scan::model::{FoundViolation, ManifestPlace, Scan, Workload};
use crate::text;

/// The rule of what could not be judged.
const NOT_JUDGED: &str = "not-judged";

/// The name of the fingerprint, with its version (section 3.27.17). Version 1 held the message, with digests.
const FINGERPRINT: &str = "wasmgate/v2";

/// Most results: GitHub refuses a log with more of them in a run (its documentation, "SARIF support for code scanning"), and with it all.
const MOST: usize = 25_000;

/// The levels of results, the worst first.
const LEVELS: [&str; 3] = ["error", "warning", "note"];

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
    number(&mut results);
    let left_out = bound(&mut results, MOST);
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
            "invocations": [invocation(left_out)],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// Keeps the worst where there are more results than `most`; those that an exception covers give way first. Returns how many there were besides.
fn bound(results: &mut Vec<Value>, most: usize) -> usize {
    let left_out = results.len().saturating_sub(most);
    if left_out > 0 {
        let rank = |result: &Value| {
            let level = result.get("level").and_then(Value::as_str).unwrap_or_default();
            let level = LEVELS.iter().position(|known| *known == level);
            (result.get("suppressions").is_some(), level.unwrap_or(LEVELS.len()))
        };
        // Stable: those of one level stay in the order of their workloads.
        results.sort_by_key(rank);
        results.truncate(most);
    }
    left_out
}

/// How the scan went. Section 3.20.14: whether the tool did what it was asked to do, not what it found.
fn invocation(left_out: usize) -> Value {
    if left_out == 0 {
        return json!({"executionSuccessful": true});
    }
    let said =
        format!("{left_out} more results are left out: GitHub takes {MOST} at most; `-o json` has all");
    json!({"executionSuccessful": true,
        "toolExecutionNotifications": [{"level": "warning", "message": {"text": said}}]})
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
    let (name, message) = (workload.full_name(), lasting(&violation.message, &workload.images()));
    let container = violation.container.as_deref().unwrap_or_default();
    let capability = violation.capability.as_deref().unwrap_or_default();
    let parts = [violation.rule.as_str(), container, capability, &message, &name];
    result.insert("partialFingerprints".into(), json!({FINGERPRINT: fingerprint(parts.into_iter())}));
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
    let identity = fingerprint([NOT_JUDGED, what].into_iter());
    result.insert("partialFingerprints".into(), json!({FINGERPRINT: identity}));
    Value::Object(result)
}

/// A message without what differs in every build of an image: its names, and every digest. What is left tells two findings of a rule
/// apart, such as those about two paths, so that one that was dismissed does not hide another.
fn lasting(message: &str, images: &BTreeSet<&str>) -> String {
    // Longest first: a name with its digest, or with a tag that goes on, holds the others.
    let mut images: Vec<&str> = images.iter().copied().collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.len()));
    let message = images.into_iter().fold(message.to_owned(), |text, image| text.replace(image, "image"));
    let mut parts = message.split("sha256:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("sha256:");
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    text
}

/// Numbers the results that have one identity, in their order.
fn number(results: &mut [Value]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for result in results {
        let Some(Value::String(identity)) =
            result.pointer_mut(&format!("/partialFingerprints/{}", FINGERPRINT.replace('/', "~1")))
        else {
            continue;
        };
        let earlier = seen.entry(identity.clone()).or_default();
        if *earlier > 0 {
            *identity = fingerprint([identity.as_str(), &earlier.to_string()].into_iter());
        }
        *earlier += 1;
    }
}

fn result(rule: &str, level: &str, message: &str, name: &str, place: &ManifestPlace) -> Map<String, Value> {
    let name = text::visible(name);
    // Section 3.28: an object of a cluster has no file, but a name.
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}]});
    if let (Some((file, line)), Some(fields)) = (place.edited(), location.as_object_mut()) {
        let physical = json!({"artifactLocation": {"uri": encoded(file)}, "region": {"startLine": line}});
        fields.insert("physicalLocation".into(), physical);
    }
    let text = format!("{name}: {}", text::lines(message));
    let fields = json!({"ruleId": text::visible(rule), "level": level, "message": {"text": text}, "locations": [location]});
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// An identity that lasts, so that a finding is the same one in the next scan and of the next build (section 3.27.17).
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
    fn a_lasting_message_names_no_build_and_keeps_what_tells_findings_apart() {
        let images = ["r/a:1", "r/a:1@sha256:0a1b", "r/ab:1"].into();
        let lasting = |message: &str| lasting(message, &images);
        assert_eq!(lasting("`r/a:1` and `r/a:1@sha256:0a1b` read /x"), "`image` and `image` read /x");
        assert_eq!(
            lasting("import a in layer sha256:0123456789ab of r/ab:1"),
            "import a in layer sha256: of image"
        );
        assert_eq!(lasting("layer sha256:ff"), lasting("layer sha256:0e"));
        assert_ne!(lasting("path /a"), lasting("path /b"));
    }

    #[test]
    fn results_of_one_identity_are_numbered() {
        let result = |identity: &str| json!({"partialFingerprints": {FINGERPRINT: identity}});
        let of = |result: &Value| result["partialFingerprints"][FINGERPRINT].as_str().unwrap().to_owned();
        let mut results = vec![result("a"), result("b"), result("a"), result("a"), json!({})];
        number(&mut results);
        let found: Vec<_> = results[..4].iter().map(of).collect();
        assert_eq!((found[0].as_str(), found[1].as_str()), ("a", "b"));
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 4, "{found:?}");
    }

    #[test]
    fn of_too_many_results_the_worst_are_kept_and_the_others_counted() {
        let result = |level: &str, number: usize| json!({"level": level, "number": number});
        let all = [result("note", 0), result("error", 1), result("warning", 2), result("error", 3)];
        let mut results = all.to_vec();
        assert_eq!((bound(&mut results, 4), results.as_slice()), (0, all.as_slice()), "nothing changes");
        assert_eq!(bound(&mut results, 3), 1);
        assert_eq!(results, [result("error", 1), result("error", 3), result("warning", 2)]);
        let excepted = json!({"level": "error", "suppressions": [{}]});
        let mut results = vec![excepted, result("note", 0)];
        assert_eq!((bound(&mut results, 1), results), (1, vec![result("note", 0)]));
        let said = invocation(1)["toolExecutionNotifications"][0]["message"]["text"].to_string();
        assert!(said.contains("1 more results are left out"), "{said}");
        assert_eq!(invocation(0), json!({"executionSuccessful": true}));
    }

    #[test]
    fn parts_of_a_fingerprint_are_kept_apart() {
        assert_ne!(fingerprint(["ab", "c"].into_iter()), fingerprint(["a", "bc"].into_iter()));
    }
}
