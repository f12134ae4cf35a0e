//! What is read of an object that is too large, or nested too deeply, to be judged: whose it is. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Option<Head<'a>>,
}

/// What is read of the metadata of an object. Its other fields take no memory.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head<'a> {
    /// Its namespace; empty for what has none.
    #[serde(default, borrow)]
    pub namespace: Cow<'a, str>,
    /// Its name.
    #[serde(default, borrow)]
    pub name: Cow<'a, str>,
    /// Its uid; empty for what no API server has made.
    #[serde(default, borrow)]
    pub uid: Cow<'a, str>,
    #[serde(default, borrow)]
    owner_references: Option<Vec<Owner<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner<'a> {
    #[serde(default, borrow)]
    api_version: Cow<'a, str>,
    #[serde(default, borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    uid: Cow<'a, str>,
    controller: Option<bool>,
}

/// Reads it; empty where that cannot be.
pub fn of(object: &RawValue) -> Head<'_> {
    let object: Option<Object<'_>> = serde_json::from_str(object.get()).ok();
    object.and_then(|object| object.metadata).unwrap_or_default()
}

impl Head<'_> {
    /// An object that has nothing else, so that it is gathered with what it belongs to.
    pub fn alone(&self) -> Value {
        let controller = self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let owners = controller.map(|owner| {
            json!({"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
                "controller": true})
        });
        json!({"metadata": {"namespace": self.namespace, "name": self.name, "uid": self.uid,
            "ownerReferences": owners.into_iter().collect::<Vec<_>>()}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> (String, String, String) {
        let text = RawValue::from_string(text.into()).unwrap();
        let Head { namespace, name, uid, .. } = of(&text);
        (namespace.into(), name.into(), uid.into())
    }

    #[test]
    fn it_is_read_of_any_object_however_deep() {
        let nested = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        let deep = format!(
            r#"{{"spec": {nested}, "metadata": {{"name": "a", "uid": "u", "namespace": "sh\u006fp"}}}}"#
        );
        assert_eq!(head(&deep), ("shop".into(), "a".into(), "u".into()));
        for other in ["{}", "[]", r#"{"metadata": null}"#, r#"{"metadata": {"labels": {}}}"#] {
            assert_eq!(head(other), (String::new(), String::new(), String::new()), "{other}");
        }
    }

    #[test]
    fn the_controller_is_named_and_no_other_owner() {
        let object = json!({"metadata": {"name": "a", "uid": "u", "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "2", "controller": true}]}});
        let text = RawValue::from_string(object.to_string()).unwrap();
        let alone = of(&text).alone();
        assert_eq!(alone["metadata"]["ownerReferences"], json!([object["metadata"]["ownerReferences"][1]]));
        assert_eq!((&alone["metadata"]["uid"], alone.get("spec")), (&json!("u"), None));
    }
}
