//! Rules in Rego that say what records leave out: `system.log.mask` and `system.log.drop`, with OPA's meaning
//! (`opa:v1/plugins/logs/mask.go`). They see a record as it would be written, after what is always masked is gone, and run on the
//! writer's thread, so that no review waits for them.

mod copies;
mod mask_rule;

use std::sync::Arc;

use serde_json::{Value, json};

use self::mask_rule::MaskRule;
use super::mask::{MaskReport, POLICY_INPUT};
use super::secrets::{Hider, Secrets, Shown};
use crate::policy::{LOG_DROP, LOG_MASK, PolicySet};
use crate::text;

/// Most characters of the reason why rules could not be evaluated.
const REASON: usize = 600;

/// The policies in force when a decision was made, where one has rules for the log.
#[derive(Debug, Clone)]
pub struct LogRules(Arc<PolicySet>);

/// What rules say of a record.
#[derive(Debug, Default)]
struct Said {
    /// Whether it is not written.
    drops: bool,
    /// What is changed in it.
    masks: Vec<MaskRule>,
}

impl LogRules {
    /// The rules for the log of these policies, if they have any.
    pub fn of(policies: &Arc<PolicySet>) -> Option<Self> {
        policies.has_log_rules().then(|| Self(Arc::clone(policies)))
    }

    /// The record as rules leave it; `None` where it is not written. Where a rule cannot be evaluated, everything is taken out that it
    /// might have removed, and the record says so.
    pub(super) fn applied(&self, event: Value) -> Option<Value> {
        match self.ask(&event) {
            Ok(Said { drops: true, .. }) => None,
            Ok(Said { masks, .. }) => Some(masked(event, &masks)),
            Err(reason) => {
                tracing::error!(%reason, "cannot mask a decision record: it is written without its input and result");
                Some(bare(event, &reason))
            }
        }
    }

    /// Asks all bundles about a record. The error is for people to read.
    fn ask(&self, event: &Value) -> Result<Said, String> {
        let input = event.to_string();
        let drops = self.0.ask_all(LOG_DROP, &input)?.contains(&Value::Bool(true));
        if drops {
            return Ok(Said { drops, masks: Vec::new() });
        }
        let mut masks = Vec::new();
        for said in self.0.ask_all(LOG_MASK, &input)? {
            let Value::Array(rules) = said else {
                return Err(format!("`{LOG_MASK}` is `{said}`, and has to be a set"));
            };
            for rule in rules {
                masks.push(MaskRule::read(rule)?);
            }
        }
        Ok(Said { drops, masks })
    }
}

/// The record after these changes. What they take out of the review is taken out of its copies too, and out of texts that quote it.
fn masked(mut event: Value, masks: &[MaskRule]) -> Value {
    let mut secrets = Secrets::default();
    for mask in masks {
        let Some(former) = mask.apply(&mut event) else { continue };
        secrets.take(&former);
        list(&mut event, if mask.replaces() { "masked" } else { "erased" }, &mask.path());
        let MaskReport { erased, masked } = copies::mask(&mut event, mask, &former);
        for (key, pointers) in [("erased", erased), ("masked", masked)] {
            for pointer in pointers {
                list(&mut event, key, &pointer);
            }
        }
    }
    if !secrets.is_empty() {
        let hider = secrets.hider(&event.get("input").map(Shown::Tree).into_iter().collect::<Vec<_>>());
        hide_in_words(&mut event, &hider);
        hide_in_policy_input(&mut event, &hider);
    }
    event
}

/// Takes values out of what rules and the gate say, and out of the names of images, which the object says. The rest of a result is
/// words of the gate and names, by which programs read the record.
fn hide_in_words(event: &mut Value, hider: &Hider) {
    let hide_at =
        |node: &mut Value, key: &str| node.get_mut(key).into_iter().for_each(|said| hide(said, hider));
    event.get_mut("error").into_iter().for_each(|error| hide_at(error, "message"));
    let Some(result) = event.get_mut("result") else { return };
    for key in ["changes", "warnings", "reason"] {
        hide_at(result, key);
    }
    for (items, keys) in [("violations", &["message", "remedy"][..]), ("images", &["image"][..])] {
        for item in result.get_mut(items).and_then(Value::as_array_mut).into_iter().flatten() {
            for key in keys {
                hide_at(item, key);
            }
        }
    }
}

/// Hides values in every text that the rules read. Where nothing of a text may be shown, nothing is left to read.
fn hide_in_policy_input(event: &mut Value, hider: &Hider) {
    let Some(custom) = event.get_mut("custom").and_then(Value::as_object_mut) else { return };
    if !hider.hides_all() {
        return custom.get_mut("policy_input").into_iter().for_each(|input| hide(input, hider));
    }
    if custom.remove("policy_input").is_some() {
        list(event, "erased", POLICY_INPUT);
    }
}

/// Takes values out of every text of a part. The recursion is bounded, since the gate wrote the part.
fn hide(part: &mut Value, hider: &Hider) {
    match part {
        Value::String(text) => hider.hide_in(text),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, hider)),
        Value::Object(members) => members.values_mut().for_each(|member| hide(member, hider)),
        _ => {}
    }
}

/// Adds a path to one of the lists of what was changed.
fn list(event: &mut Value, key: &str, path: &str) {
    let Some(members) = event.as_object_mut() else { return };
    let list = members.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut().into_iter().for_each(|list| list.push(path.into()));
}

/// The record without what a rule might have removed: what was asked, what the rules of admission read, and what they said.
fn bare(mut event: Value, reason: &str) -> Value {
    let Some(members) = event.as_object_mut() else { return event };
    members.remove("input");
    let mut erased = vec!["/input", "/result"];
    erased.extend(members.remove("requested_by").map(|_| "/requested_by"));
    let custom = members.get_mut("custom").and_then(Value::as_object_mut);
    erased.extend(custom.and_then(|custom| custom.remove("policy_input")).map(|_| POLICY_INPUT));
    if let Some(result) = members.get_mut("result").and_then(Value::as_object_mut) {
        result.retain(|key, _| ["allowed", "action", "patchOperations"].contains(&key.as_str()));
    }
    let message = format!("the rules for the log could not be evaluated: {}", text::shorten(reason, REASON));
    members.insert("error".into(), json!({"code": "mask-record", "message": message}));
    for path in erased {
        list(&mut event, "erased", path);
    }
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(object: &Value) -> Value {
        json!({
            "input": {"request": {"object": object}},
            "result": {
                "allowed": false, "action": "deny", "reason": "1 violation", "changes": [], "warnings": [],
                "violations": [{"rule": "needs-grant", "container": "orders-api", "capability": "net.tcp.connect", "action": "deny",
                    "message": "container `orders-api` may connect", "remedy": "ask for orders-api"}],
                "images": [{"container": "orders-api", "image": "ghcr.io/acme/orders-api:1", "digest": "sha256:00", "class": "wasm"}],
            },
            "error": {"code": "orders-api", "message": "at orders-api"},
            "requested_by": "jane",
            "custom": {"policy_input": {"containers": [{"name": "orders-api"}], "object": object}},
        })
    }

    #[test]
    fn values_are_taken_out_of_what_is_said_and_not_out_of_the_names_by_which_programs_read_a_record() {
        let object =
            json!({"spec": {"containers": [{"name": "orders-api", "image": "ghcr.io/acme/orders-api:1"}]}});
        let rules = [MaskRule::read(json!("/input/request/object/spec/containers")).unwrap()];
        let event = masked(event(&object), &rules);
        let violation = &event["result"]["violations"][0];
        assert_eq!(
            violation,
            &json!({"rule": "needs-grant", "container": "orders-api", "capability": "net.tcp.connect", "action": "deny",
                "message": "container `**REDACTED**` may connect", "remedy": "ask for **REDACTED**"})
        );
        assert_eq!(
            event["result"]["images"],
            json!([{"container": "orders-api", "image": "**REDACTED**", "digest": "sha256:00", "class": "wasm"}])
        );
        assert_eq!(event["error"], json!({"code": "orders-api", "message": "at **REDACTED**"}));
        assert_eq!(event["custom"]["policy_input"]["containers"], json!([{"name": "**REDACTED**"}]));
    }

    #[test]
    fn where_too_much_is_masked_to_look_for_it_the_record_can_still_be_read_and_what_the_rules_read_is_gone()
    {
        let many: Vec<String> = (0..40_000).map(|number| format!("secret-{number}")).collect();
        let rules = [MaskRule::read(json!("/input/request/object/spec/args")).unwrap()];
        let event = masked(event(&json!({"spec": {"args": many}})), &rules);
        assert_eq!(event["result"]["action"], "deny");
        let violation = &event["result"]["violations"][0];
        assert_eq!(
            (&violation["rule"], &violation["message"]),
            (&json!("needs-grant"), &json!("**REDACTED**"))
        );
        assert_eq!(event["custom"], json!({}));
        assert!(event["erased"].as_array().unwrap().contains(&json!(POLICY_INPUT)), "{}", event["erased"]);
    }

    #[test]
    fn a_record_whose_rules_fail_keeps_nothing_that_they_might_have_removed() {
        let object =
            json!({"spec": {"containers": [{"name": "orders-api", "image": "ghcr.io/acme/orders-api:1"}]}});
        let bare = bare(event(&object), "why");
        for gone in ["jane", "orders-api"] {
            assert!(!bare.to_string().contains(gone), "{bare}");
        }
        assert_eq!(bare["result"], json!({"allowed": false, "action": "deny"}));
        for path in ["/input", "/result", "/requested_by", POLICY_INPUT] {
            assert!(bare["erased"].as_array().unwrap().contains(&json!(path)), "{path}");
        }
    }
}
