//! What a record holds of the review a second time: a mask of the review is one of that too.

use std::collections::BTreeSet;

use serde_json::Value;

use super::mask_rule::{MaskRule, Part};
use crate::audit::mask::MaskReport;
use crate::text::pointer;

/// The object of the review.
const OBJECT: &[&str] = &["input", "request", "object"];

/// A place in the review, and one that holds the same.
const COPIES: &[(&[&str], &[&str])] = &[
    (&["input", "request", "userInfo", "username"], &["requested_by"]),
    (&["input", "request", "userInfo"], &["custom", "policy_input", "request", "user"]),
    (&["input", "request", "uid"], &["custom", "policy_input", "request", "uid"]),
    (&["input", "request", "name"], &["custom", "policy_input", "request", "name"]),
    (&["input", "request", "namespace"], &["custom", "policy_input", "request", "namespace"]),
    (OBJECT, &["custom", "policy_input", "object"]),
    (&["input", "request", "object", "metadata", "name"], &["custom", "policy_input", "workload", "name"]),
    (
        &["input", "request", "object", "metadata", "namespace"],
        &["custom", "policy_input", "workload", "namespace"],
    ),
];

/// What the rules read of the labels and annotations of the pod, wherever these stand in the object of its kind.
const OF_THE_POD: [&str; 2] = ["labels", "annotations"];

/// Applies a mask to the copies of what it took out of the review, and says what it changed there. What the rules read is made of the
/// object, so it goes where that goes as a whole.
pub(super) fn mask(event: &mut Value, mask: &MaskRule, former: &Value) -> MaskReport {
    let names: Vec<&str> = mask.parts.iter().map(|part| part.escaped.as_str()).collect();
    let mut report = MaskReport::default();
    if OBJECT.starts_with(&names) {
        report.erased.extend(removed(event, "/custom", "policy_input"));
    }
    for of_copy in COPIES.iter().filter_map(|(place, copy)| moved(mask, &names, place, copy)) {
        if of_copy.apply_to_existing(event) {
            let list = if of_copy.replaces() { &mut report.masked } else { &mut report.erased };
            list.push(of_copy.pointer());
        }
    }
    if names.len() > OBJECT.len() && names.starts_with(OBJECT) {
        for part in &OF_THE_POD {
            of_the_pod(event, mask, former, part, &mut report);
        }
        report.erased.extend(template(event));
    }
    report
}

/// The mask of a copy. Where a larger part is masked than was copied, the copy is removed.
fn moved(mask: &MaskRule, names: &[&str], place: &[&str], copy: &[&str]) -> Option<MaskRule> {
    let copy = copy.iter().filter_map(|name| Part::of(name));
    if names.starts_with(place) {
        let parts = copy.chain(mask.parts.iter().skip(place.len()).cloned()).collect();
        return Some(MaskRule { parts, replacement: mask.replacement.clone() });
    }
    place.starts_with(names).then(|| MaskRule { parts: copy.collect(), replacement: None })
}

/// Masks the labels or annotations of the pod that are in what was masked. Where in it does not matter: each kind has them elsewhere.
fn of_the_pod(event: &mut Value, rule: &MaskRule, former: &Value, part: &str, report: &mut MaskReport) {
    let place = format!("/custom/policy_input/workload/{part}");
    let Some(Value::Object(members)) = event.pointer_mut(&place) else { return };
    let pointer = |key: &str| {
        let mut pointer = place.clone();
        pointer::append(&mut pointer, key);
        pointer
    };
    let mut inside = BTreeSet::new();
    members_in(former, &mut |key, value| {
        if members.get(key) == Some(value) {
            inside.insert(key.to_owned());
        }
    });
    for key in inside {
        members.remove(&key);
        report.erased.push(pointer(&key));
    }
    let key = rule.parts.last().and_then(|last| last.key_in(members)).map(str::to_owned);
    let Some(key) = key.filter(|key| members.get(key) == Some(former)) else { return };
    if let Some(value) = &rule.replacement {
        report.masked.push(pointer(&key));
        members.insert(key, value.clone());
    } else {
        report.erased.push(pointer(&key));
        members.remove(&key);
    }
}

/// Calls `found` for every member of every object in a value. The recursion is bounded, since the gate parsed the record.
fn members_in(value: &Value, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                found(key, member);
                members_in(member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members_in(item, found)),
        _ => {}
    }
}

/// The pod template that the gate made of an object which has it elsewhere, or of other fields: a mask of these leads to no place in it.
fn template(event: &mut Value) -> Option<String> {
    let is_written = event.pointer("/input/request/object/template").is_some();
    if is_written { None } else { removed(event, "/custom/policy_input/object", "template") }
}

/// Removes a member of an object; its pointer, where it was there.
fn removed(event: &mut Value, parent: &str, key: &str) -> Option<String> {
    let members = event.pointer_mut(parent)?.as_object_mut()?;
    members.remove(key).map(|_| format!("{parent}/{key}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn masked(rule: Value, event: Value) -> (Value, Vec<String>) {
        let (rule, mut event) = (MaskRule::read(rule).unwrap(), event);
        let former = rule.apply(&mut event).unwrap_or_default();
        let MaskReport { erased, masked } = mask(&mut event, &rule, &former);
        let mut copies = [erased, masked].concat();
        copies.sort();
        (event, copies)
    }

    fn event() -> Value {
        let pod = json!({"metadata": {"name": "p", "annotations": {"team.example/pin": "1234", "note": "x"}, "labels": {"app": "p"}},
            "spec": {"x": 1}});
        json!({
            "input": {"request": {"uid": "u", "userInfo": {"username": "jane", "groups": ["a"]}, "object": pod.clone()}},
            "requested_by": "jane",
            "custom": {"request_uid": "u", "policy_input": {
                "request": {"uid": "u", "user": {"username": "jane", "groups": ["a"]}}, "object": pod,
                "workload": {"name": "p", "annotations": {"team.example/pin": "1234", "note": "x"}, "labels": {"app": "p"}}}},
        })
    }

    #[test]
    fn the_user_is_masked_wherever_the_record_names_it() {
        for path in ["/input/request/userInfo", "/input/request/userInfo/username"] {
            let (event, copies) = masked(json!(path), event());
            assert!(!event.to_string().contains("jane"), "{path}: {event}");
            assert_eq!(copies.last().unwrap(), "/requested_by");
        }
        let rule = json!({"op": "upsert", "path": "/input/request/userInfo/username", "value": "-"});
        let (event, _) = masked(rule, event());
        assert_eq!(event["requested_by"], "-");
        assert_eq!(event["custom"]["policy_input"]["request"]["user"]["username"], "-");
        let (event, copies) = masked(json!("/input/request/userInfo/extra"), event);
        assert_eq!(
            (event["requested_by"].as_str(), copies.len()),
            (Some("-"), 0),
            "what is not there has no copy"
        );
    }

    #[test]
    fn a_short_annotation_or_label_is_masked_in_what_the_rules_read_too() {
        let of_workload = "/custom/policy_input/workload/annotations/team.example~1pin";
        for path in ["/metadata/annotations/team.example~1pin", "/metadata/annotations", "/metadata"] {
            let (event, copies) = masked(json!(format!("/input/request/object{path}")), event());
            assert!(!event.to_string().contains("1234"), "{path}: {event}");
            assert!(copies.iter().any(|copy| copy == of_workload), "{path}: {copies:?}");
            let label = event.pointer("/custom/policy_input/workload/labels/app");
            assert_eq!(label.is_none(), path == "/metadata", "{path}");
        }
        let path = "/input/request/object/metadata/annotations/team.example~1pin";
        let (event, _) = masked(json!({"op": "upsert", "path": path, "value": "-"}), event());
        let annotations = &event["custom"]["policy_input"]["workload"]["annotations"];
        assert_eq!(annotations, &json!({"team.example/pin": "-", "note": "x"}));
    }

    /// A Deployment has the pod's below its template; a `SpinApp` has them in `podAnnotations`, and no template of its own.
    #[test]
    fn it_is_so_in_every_kind_and_the_template_that_the_gate_made_goes() {
        for (path, has_template) in [
            ("/spec/template/metadata/annotations/pin", true),
            ("/spec/template", true),
            ("/spec/podAnnotations/pin", false),
        ] {
            let mut event = event();
            let template = json!({"metadata": {"annotations": {"pin": "1234"}}});
            let spec = if has_template {
                json!({"template": template})
            } else {
                json!({"podAnnotations": {"pin": "1234"}})
            };
            for place in ["/input/request/object", "/custom/policy_input/object"] {
                *event.pointer_mut(place).unwrap() = json!({"spec": spec});
            }
            if !has_template {
                event["custom"]["policy_input"]["object"]["template"] = template;
            }
            event["custom"]["policy_input"]["workload"]["annotations"] = json!({"pin": "1234"});
            let (event, _) = masked(json!(format!("/input/request/object{path}")), event);
            assert!(!event.to_string().contains("1234"), "{path}: {event}");
        }
        let (event, copies) = masked(json!("/input/request/object/spec/x"), event());
        assert_eq!(event["custom"]["policy_input"]["object"]["spec"], json!({}));
        assert_eq!(copies, ["/custom/policy_input/object/spec/x"]);
    }

    #[test]
    fn what_the_rules_read_goes_with_the_object_or_more() {
        for path in ["/input/request/object", "/input/request", "/input"] {
            let (event, copies) = masked(json!(path), event());
            assert_eq!(event["custom"], json!({"request_uid": "u"}), "{path}");
            assert_eq!(copies[0], "/custom/policy_input", "{path}");
            assert_eq!(event.get("requested_by").is_none(), path != "/input/request/object", "{path}");
        }
    }
}
