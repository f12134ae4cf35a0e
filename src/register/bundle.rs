//! The CA's certificate in a webhook configuration: the fields that the gate writes, and the patch that repairs them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Suffix of the webhooks that the gate changes; a configuration may contain others.
pub const SUFFIX: &str = ".wasmgate.dev";

/// What to change in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Number of the gate's webhooks.
    pub ours: usize,
    /// How many of them have another `caBundle`.
    pub wrong: usize,
    /// A JSONPatch (RFC 6902) that sets the `caBundle`; empty if all have it. It tests the name at each index, so
    /// that it fails if the webhooks were reordered in between.
    pub patch: Vec<Value>,
}

/// Compares a configuration from the API server with the bundle that it should have, in PEM.
pub fn repair(configuration: &Value, bundle: &str) -> Repair {
    let wanted = STANDARD.encode(bundle);
    let webhooks = configuration.get("webhooks").and_then(Value::as_array);
    let (mut ours, mut wrong, mut patch) = (0, 0, Vec::new());
    for (index, webhook) in webhooks.into_iter().flatten().enumerate() {
        let Some(name) = webhook.get("name").and_then(Value::as_str).filter(|name| name.ends_with(SUFFIX))
        else {
            continue;
        };
        ours += 1;
        let found = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str);
        if found == Some(wanted.as_str()) {
            continue;
        }
        wrong += 1;
        patch.push(json!({"op": "test", "path": format!("/webhooks/{index}/name"), "value": name}));
        // `add` replaces an existing value (RFC 6902, section 4.1).
        patch.push(
            json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": wanted}),
        );
    }
    Repair { ours, wrong, patch }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Value {
        json!({"webhooks": [
            {"name": "other.example.com", "clientConfig": {"caBundle": "T1RIRVI="}},
            {"name": "validate.wasmgate.dev", "clientConfig": {"service": {"name": "wasmgate"}}},
            {"name": "templates.wasmgate.dev", "clientConfig": {"caBundle": "T0xE", "url": "https://127.0.0.1"}},
        ]})
    }

    fn applied(mut configuration: Value, repair: &Repair) -> Value {
        let patch: json_patch::Patch = serde_json::from_value(repair.patch.clone().into()).unwrap();
        json_patch::patch(&mut configuration, &patch).unwrap();
        configuration
    }

    #[test]
    fn only_our_webhooks_get_the_bundle_and_nothing_else_changes() {
        let repair = repair(&configuration(), "NEW");
        assert_eq!((repair.ours, repair.wrong), (2, 2));
        let mut expected = configuration();
        for index in [1, 2] {
            expected["webhooks"][index]["clientConfig"]["caBundle"] = json!("TkVX");
        }
        assert_eq!(applied(configuration(), &repair), expected);
        assert_eq!(super::repair(&expected, "NEW"), Repair { ours: 2, wrong: 0, patch: Vec::new() });
    }

    #[test]
    fn a_blanked_bundle_is_wrong_too() {
        let mut blank = configuration();
        blank["webhooks"][1]["clientConfig"]["caBundle"] = json!("");
        assert_eq!(repair(&blank, "NEW").wrong, 2);
    }

    #[test]
    fn the_patch_fails_when_the_webhooks_stand_in_another_order() {
        let repair = repair(&configuration(), "NEW");
        let mut turned = configuration();
        turned["webhooks"].as_array_mut().unwrap().reverse();
        let patch: json_patch::Patch = serde_json::from_value(repair.patch.into()).unwrap();
        assert!(json_patch::patch(&mut turned, &patch).is_err());
    }

    #[test]
    fn a_configuration_without_our_webhooks_is_left_alone() {
        for other in
            [json!({}), json!({"webhooks": null}), json!({"webhooks": [{"name": "evilwasmgate.dev"}, {}]})]
        {
            assert_eq!(repair(&other, "NEW"), Repair { ours: 0, wrong: 0, patch: Vec::new() });
        }
    }
}
