//! Who owns a pod at the top of its chain: Pod, ReplicaSet, Deployment. Pure.

use std::collections::HashMap;

use serde_json::Value;

use crate::review::GroupVersionKind;

/// Most steps from a pod to its top owner. Real chains have three; the bound is for one that comes back to itself.
const LONGEST_CHAIN: usize = 8;

/// An object by its name. Ordered by namespace, kind and name, as a report lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name; `prefix*` when the API server will generate one.
    pub name: String,
    /// Its API group; empty for the core group.
    pub group: String,
}

/// An object that another one names as its controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The object.
    pub reference: Reference,
    /// The version of its API.
    pub version: String,
    /// Its uid.
    pub uid: String,
}

/// The known controllers, and the controllers of these.
#[derive(Debug, Default)]
pub struct Chains(HashMap<String, Option<Controller>>);

impl Chains {
    /// Remembers an object that may control others. One without a uid controls none.
    pub fn add(&mut self, object: &Value, controller: Option<Controller>) {
        if let Some(uid) = text(object, "/metadata/uid") {
            self.0.insert(uid.to_owned(), controller);
        }
    }

    /// Whether the object with this uid was read.
    pub fn has(&self, uid: &str) -> bool {
        self.0.contains_key(uid)
    }

    /// The last of the chain of controllers that begins with this one.
    pub fn top<'a>(&'a self, first: &'a Controller) -> &'a Controller {
        let mut top = first;
        for _ in 0..LONGEST_CHAIN {
            match self.0.get(&top.uid) {
                Some(Some(next)) => top = next,
                _ => break,
            }
        }
        top
    }
}

/// The object's own name.
pub fn reference(object: &Value, kind: &GroupVersionKind, namespace: &str) -> Reference {
    let name = match (text(object, "/metadata/name"), text(object, "/metadata/generateName")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}*"),
        (None, None) => String::new(),
    };
    Reference { namespace: namespace.to_owned(), kind: kind.kind.clone(), name, group: kind.group.clone() }
}

/// The controller that the object names. A Node, which owns the API objects of its static pods, controls none of them.
pub fn controller(object: &Value, namespace: &str) -> Option<Controller> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    let of = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (of("apiVersion"), of("kind"));
    let (group, version) = match api_version.rsplit_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), api_version),
    };
    if group.is_empty() && kind == "Node" {
        return None;
    }
    let reference = Reference { namespace: namespace.to_owned(), kind, name: of("name"), group };
    Some(Controller { reference, version, uid: of("uid") })
}

/// The object itself, as others that it controls name it. `None` without a uid, which only an API server gives.
pub fn itself(object: &Value, kind: &GroupVersionKind, namespace: &str) -> Option<Controller> {
    let uid = text(object, "/metadata/uid")?.to_owned();
    Some(Controller { reference: reference(object, kind, namespace), version: kind.version.clone(), uid })
}

/// A string that is there and not empty.
fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(uid: &str, by: Option<(&str, &str)>) -> Value {
        let owners: Vec<_> = by
            .into_iter()
            .map(|(kind, uid)| json!({"apiVersion": "apps/v1", "kind": kind, "name": format!("the-{kind}"), "uid": uid, "controller": true}))
            .collect();
        json!({"metadata": {"name": uid, "uid": uid, "ownerReferences": owners}})
    }

    fn chains(links: &[(&str, Option<(&str, &str)>)]) -> Chains {
        let mut chains = Chains::default();
        for (uid, by) in links {
            let object = owned(uid, *by);
            chains.add(&object, controller(&object, "shop"));
        }
        chains
    }

    #[test]
    fn the_chain_is_followed_to_its_end() {
        let chains = chains(&[("rs", Some(("Deployment", "d"))), ("d", Some(("SpinApp", "s")))]);
        let first = controller(&owned("pod", Some(("ReplicaSet", "rs"))), "shop").unwrap();
        let top = chains.top(&first);
        assert_eq!((top.reference.kind.as_str(), top.reference.name.as_str()), ("SpinApp", "the-SpinApp"));
        assert_eq!((top.reference.group.as_str(), top.reference.namespace.as_str()), ("apps", "shop"));
        assert!(chains.has("d") && !chains.has("s"));
    }

    #[test]
    fn a_circle_ends_and_a_node_or_a_mere_owner_controls_nothing() {
        let circle = chains(&[("a", Some(("X", "b"))), ("b", Some(("X", "a")))]);
        let first = controller(&owned("pod", Some(("X", "a"))), "shop").unwrap();
        circle.top(&first);
        let node = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n", "controller": true}]}});
        assert_eq!(controller(&node, "shop"), None);
        let mere = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "n", "uid": "n"}]}});
        assert_eq!(controller(&mere, "shop"), None);
    }

    #[test]
    fn an_object_is_named_as_the_api_server_will() {
        let kind = GroupVersionKind { group: "batch".into(), version: "v1".into(), kind: "Job".into() };
        let named = reference(&json!({"metadata": {"generateName": "run-"}}), &kind, "shop");
        assert_eq!((named.name.as_str(), named.group.as_str()), ("run-*", "batch"));
    }
}
